"""Leases of GPUs: who has one, how long, and what PyTorch is asked to tell cards apart."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from training import machine
from training.leases import Lease, Taken, take
from training.machine import Gpu


def who_has(folder: Path, card: str, *, sharing: int = 1) -> str | None:
    """The name of whoever keeps us from this card; None where nobody does."""
    try:
        take(folder, card, "me", sharing=sharing).close()
    except Taken as taken:
        return str(taken)
    return None


def held(folder: Path, lease: Lease) -> subprocess.Popen[bytes]:
    """A process that inherits a lease and lives until its input ends."""
    code = "import sys; sys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, pass_fds=lease.files, cwd=folder)
    lease.close()
    return process


def test_a_card_is_had_by_one_and_by_the_next_when_it_is_let_go(tmp_path):
    first = take(tmp_path / "leases", "a", "ana's")
    assert (who_has(tmp_path / "leases", "a"), who_has(tmp_path / "leases", "b")) == ("ana's", None)
    first.close()
    assert who_has(tmp_path / "leases", "a") is None


def test_a_process_that_inherits_a_lease_has_it_until_it_ends_or_is_killed(tmp_path):
    process = held(tmp_path, take(tmp_path, "a", "ana's"))
    assert who_has(tmp_path, "a") == "ana's"
    process.kill()
    process.communicate()
    assert who_has(tmp_path, "a") is None


def test_what_a_process_starts_does_not_inherit_its_lease(tmp_path):
    lease = take(tmp_path, "a", "ana's")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        lease.close()
        assert who_has(tmp_path, "a") is None
        other.communicate(b"\n")


def test_as_many_share_a_card_as_is_said_and_nobody_has_it_for_himself_meanwhile(tmp_path):
    first, second = (take(tmp_path, "a", name, sharing=2) for name in ("ana's", "bo's"))
    assert who_has(tmp_path, "a", sharing=2) == "bo's"
    assert who_has(tmp_path, "a") == ""  # several have it, no one of them stands for all
    assert who_has(tmp_path, "a", sharing=3) is None
    first.close()
    assert who_has(tmp_path, "a", sharing=2) is None
    assert who_has(tmp_path, "a") == ""
    second.close()
    alone = take(tmp_path, "a", "cy's")
    assert who_has(tmp_path, "a", sharing=2) == "cy's"
    alone.close()


def opened(folder):
    """The files of a folder that this process has open."""
    return sorted(one.path for one in psutil.Process().open_files() if Path(one.path).is_relative_to(folder))


def test_a_refused_lease_leaves_no_file_open(tmp_path):
    leases = [take(tmp_path, "a", "ana's", sharing=1), take(tmp_path, "b", "bo's", sharing=2)]
    before = opened(tmp_path)
    assert [who_has(tmp_path, "a"), who_has(tmp_path, "a", sharing=3), who_has(tmp_path, "b")] == ["ana's", "ana's", ""]
    assert opened(tmp_path) == before
    for one in leases:
        one.close()


@pytest.mark.parametrize("card", ["GPU-8932f937-d72c", "MIG-GPU-8932/1/0", "../../up", "0"])
def test_any_name_of_a_card_is_a_file_of_the_folder(tmp_path, card):
    take(tmp_path / "leases", card, "ana's").close()
    assert [one.parent for one in tmp_path.rglob("gpu-*")] == [tmp_path / "leases"]


def test_a_folder_that_somebody_else_may_have_made_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(OSError, match=name):
            take(tmp_path / name, "a", "ana's")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    ("properties", "visible", "expected"),
    [
        ("types.SimpleNamespace(uuid=f'uuid-{number}')", None, (Gpu("0", "uuid-0"), Gpu("1", "uuid-1"))),
        ("types.SimpleNamespace(uuid=f'uuid-{number}')", "3, 5", (Gpu("3", "uuid-0"), Gpu("5", "uuid-1"))),
        ("types.SimpleNamespace()", "3,5", (Gpu("3", "3"), Gpu("5", "5"))),  # a PyTorch that tells no UUIDs
        ("types.SimpleNamespace(uuid='0000')", None, (Gpu("0", "0"), Gpu("1", "1"))),  # a driver that tells them all alike
    ],
)
def test_gpus_are_told_apart_by_their_uuids_and_where_there_are_none_by_their_names(
    tmp_path, monkeypatch, properties, visible, expected
):
    said = (
        f"import types\ncuda = types.SimpleNamespace(device_count=lambda: 2, get_device_properties=lambda number: {properties})"
    )
    (tmp_path / "torch.py").write_text(said)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(machine, "_GPU_SIGNS", (str(tmp_path),))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.gpus.__wrapped__() == expected
