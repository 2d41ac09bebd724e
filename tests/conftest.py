"""What the tests share: a workspace with a clock that can be set, small pairs, and ways to fill a dataset."""

import fcntl
import importlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation import overview, runs
from curation.filters import base
from curation.importing import import_source
from curation.readings import Reader, Readings
from curation.sources import source_of
from curation.store.flags import Screening
from curation.workspace import Workspace
from tests.command import Elephant
from training import engine
from training.policy_settings import Named
from training.run import Run

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Clock:
    """A clock that stands still until it is told to go on."""

    at: datetime = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def forward(self, **by: float) -> None:
        self.at += timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def workspace(tmp_path: Path, clock: Clock) -> Iterator[Workspace]:
    opened = Workspace(tmp_path / "workspace", clock=clock)
    yield opened
    opened.close()


@pytest.fixture
def nothing_left_running(workspace: Workspace) -> Iterator[None]:
    """Whatever a test leaves at work ends with it."""
    yield
    for state in workspace.runs.glob("*/state.json"):
        pid = Run(state.parent).state().pid
        if engine.watch(Run(state.parent)).status == "running" and pid not in (None, os.getpid()):
            os.killpg(pid, signal.SIGKILL)


@pytest.fixture
def elephant(tmp_path: Path) -> Elephant:
    """The command on a workspace that is not there yet."""
    return Elephant(tmp_path / "workspace")


@pytest.fixture
def opened(elephant: Elephant) -> Callable[[], "closing[Workspace]"]:
    """Opens the workspace the command works on, for as long as a `with` lasts: one process holds it at a time."""
    return lambda: closing(Workspace(elephant.folder))


@pytest.fixture(scope="session")
def sample_workspace(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    """A workspace with the sample, really screened; whoever changes it works on a copy.

    What models read of it is kept from one run of pytest to the next: readings are named by text and model.
    """
    folder = Path(tmp_path_factory.mktemp("screened")) / "workspace"
    cached = pytestconfig.pluginmanager.hasplugin("cacheprovider")  # not with `-p no:cacheprovider`
    kept = pytestconfig.cache.mkdir("readings") if cached and pytestconfig.cache else tmp_path_factory.mktemp("unkept")
    with kept.with_name("readings.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of workers that begin together one reads, and the others find what it read
        shutil.copytree(kept, folder / "cache" / "readings")
        if any(kept.iterdir()):
            fcntl.flock(lock, fcntl.LOCK_UN)
        with closing(Workspace(folder)) as opened:
            overview.open_sample(opened, ROOT / "data" / "sample.jsonl")
            until(lambda: bool(runs.settle(opened)), seconds=600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.copytree(folder / "cache" / "readings", kept, dirs_exist_ok=True)
    return folder


def take_readings(of: Path, to: Path) -> None:
    """Give one workspace's folder what models read in another's: a screening there reads only what is new to both."""
    shutil.copytree(of / "cache" / "readings", to / "cache" / "readings", dirs_exist_ok=True)


@pytest.fixture(scope="session")
def readings_of_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tmp_path_factory.mktemp("readings"))


@pytest.fixture
def read_once(readings_of_all: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Filters that read by themselves keep what they read, over all tests that ask for this."""

    def kept(reader: Reader) -> Readings:
        return Readings(reader, readings_of_all)

    monkeypatch.setattr(base, "Readings", kept)


_JOBS = {  # what each module does with a run; those that bring in torch are imported when they are wanted
    "curation.screening": "screen", "curation.ablation": "ablate", "training.score": "score", "training.reward": "train",
    "training.generate": "generate", "training.sft": "train", "training.dpo": "train", "training.ppo": "train",
    "training.rloo": "train", "training.best_of_n": "answer", "training.grid": "work",
}  # fmt: skip


def done_here(run: Run, env: Mapping[str, str] | None = None, *files: int) -> None:
    """Do a run in this process, where torch is imported once, instead of starting it in one of its own."""
    state = run.state()
    engine._running(run, state, os.getpid())
    with pytest.MonkeyPatch.context() as patch, run.log.open("a") as log, redirect_stdout(log), redirect_stderr(log):
        patch.setattr(sys, "argv", [state.module, str(run.folder)])
        with suppress(SystemExit):
            engine.main(getattr(importlib.import_module(state.module), _JOBS[state.module]))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is over when it is started: for tests of what a run finds, not of its process."""
    monkeypatch.setattr(engine, "start", done_here)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny policy; nothing writes into it."""
    from tests.tiny_models import tiny_causal, tiny_tokenizer  # which import torch, wanted by few

    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_tokenizer(folder)
    tiny_causal(folder)
    return folder


@pytest.fixture(scope="session")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Named:
    """A tiny reward model, whose tokens are not those of the tiny policy."""
    from tests.tiny_models import tiny_classifier, tiny_tokenizer

    folder = tmp_path_factory.mktemp("models") / "scorer"
    tiny_tokenizer(folder, bos="<bos>")
    tiny_classifier(folder, seed=3)
    return Named(name="org/tiny", family="classifier", settings={"source": str(folder), "max_length": 32})


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of public data, which lies beside the project and never in it."""
    folder = Path(os.environ.get("ELEPHANT_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "hh-rlhf").is_dir():
        pytest.skip(f"no data in {folder}: set ELEPHANT_DATA to the folder that holds hh-rlhf")
    return folder


def hh(asked: str, chosen: str, rejected: str) -> dict[str, str]:
    """A row in HH form."""
    context = f"\n\nHuman: {asked}\n\nAssistant: "
    return {"chosen": context + chosen, "rejected": context + rejected}


SMALL = [
    hh("Name a river.", "The Danube.", "A river is a thing."),
    hh("What is 2 + 2?", "4", ""),
    hh("Tell me a joke.\n\nAssistant: No.\n\nHuman: Please.", "Knock knock.", "No. No. No. No."),
    hh("Is tea hot?", "Usually, yes.", "Shut up."),
]


def numbered(count: int) -> list[dict[str, str]]:
    """As many different rows as asked for."""
    return [hh(f"Question {n}?", f"Good answer {n}.", f"Bad answer {n}.") for n in range(count)]


def import_rows(workspace: Workspace, rows: list[dict[str, str]], name: str = "small") -> list[str]:
    """Import rows as a dataset; returns each row's pair_id, in order."""
    file = workspace.folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_source(workspace, source_of(str(file)), name)
    return [pair_id for _, pair_id, _, _ in workspace.pairs.rows_in_order(name)]


def flag_pairs(
    workspace: Workspace, scores: dict[str, float], *, dataset: str = "small", filter: str = "empty",
    threshold: float | None = None, read_by: str = "",
) -> None:  # fmt: skip
    """Take in a screening that finds these pairs with these scores; without a threshold all of them are flags."""
    number = len(workspace.flags.taken_in())
    file = workspace.folder / "flags.parquet"
    flags = {
        "pair_id": list(scores), "filter": [filter] * len(scores), "side": ["chosen"] * len(scores),
        "score": list(scores.values()), "reason": ["because"] * len(scores),
    }  # fmt: skip
    pq.write_table(pa.table(flags), file)
    at = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(minutes=number)
    parameters = "{}" if threshold is None else json.dumps({"threshold": threshold})
    counts = (len(scores), len(scores))
    screening = Screening(f"run-{number}", dataset, filter, 1, parameters, *counts, at, threshold or 0.0, read_by)
    workspace.flags.add([screening], file)


def until(true: Callable[[], bool], *, seconds: float = 180.0) -> None:
    """Wait for another process to get somewhere; fails when it does not get there, slow and busy as the machine may be."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        time.sleep(0.005)
