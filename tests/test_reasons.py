"""A full disk ends a run with a sentence, gives back what was half written, and is no error of whoever looks."""

import errno
from pathlib import Path

import pytest
from pydantic import BaseModel

from training import engine
from training.reasons import plain_reasons
from training.run import Run


class Nothing(BaseModel):
    """Settings of a run that is told nothing."""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", kind="ppo", module="training.ppo", title="one", config=Nothing())


def test_on_a_full_disk_what_was_half_written_is_given_back_and_what_is_whole_stays(run):
    half, whole = run.checkpoints / "checkpoint-4.part", run.checkpoints / "checkpoint-2"
    for folder in (half, whole):
        folder.mkdir()
        (folder / "state.pt").write_bytes(b"0" * 1000)
    (run.output / "responses.part").write_bytes(b"0")
    with (
        pytest.raises(OSError, match=r"the disk with .*run is full .* make room and resume the run"),
        plain_reasons(run, "less"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [one.name for one in run.checkpoints.iterdir()] == ["checkpoint-2"]
    assert (whole / "state.pt").stat().st_size == 1000
    assert list(run.output.iterdir()) == []


@pytest.mark.parametrize("why", [errno.ENOSPC, errno.EACCES])
def test_who_looks_at_a_dead_run_on_a_full_disk_is_told_how_it_ended_and_other_errors_stay(run, monkeypatch, why):
    run.write_state(run.state().model_copy(update={"status": "running", "pid": 2**22 + 1, "started": 1.0}))

    def refused(self, state):
        raise OSError(why, "refused")

    monkeypatch.setattr(Run, "write_state", refused)
    if why == errno.ENOSPC:
        assert engine.watch(run).status == "failed"
        assert run.state().status == "running"  # written down by whoever looks when there is room
    else:
        with pytest.raises(OSError, match="refused"):
            engine.watch(run)


def test_a_full_memory_of_the_machine_itself_is_told_as_one(run):
    import torch

    with (
        pytest.raises(MemoryError, match=r"the memory is full: expected less than 8 answers at once \(batch\)"),
        plain_reasons(run, "less than 8 answers at once (batch)"),
    ):
        torch.empty(1 << 60, dtype=torch.uint8)
