"""A run folder: what one background job was told, how it is doing, and what it made.

    runs/<run_id>/  config.json  state.json  progress.json  metrics.jsonl  log.txt  input/  output/  checkpoints/  model/

JSON files are replaced atomically: a reader sees the old or the new one, never half of it.
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from training import beside

Status = Literal["queued", "running", "done", "failed", "cancelled"]
OVER: tuple[Status, ...] = ("done", "failed", "cancelled")


class State(BaseModel):
    """Where a run stands. `started` is when its process began (seconds since the epoch), which tells it from a later
    process with the same pid. Times are UTC."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    module: str  # what `python -m` runs on this folder
    title: str
    status: Status = "queued"
    pid: int | None = None
    started: float | None = None
    queued_at: datetime
    began_at: datetime | None = None
    ended_at: datetime | None = None
    error: str | None = None
    waits: str = ""  # the id of the grid, a run beside it, that starts it when its turn comes


class Progress(BaseModel):
    """How far a run is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    done: int = 0
    total: int = 0
    unit: str = ""
    message: str = ""
    at: float = 0.0  # seconds since the epoch
    rate: float | None = None  # units a second, measured since the process began
    left: float | None = None  # seconds still needed, where the job knows better than its rate tells


class Cancelled(Exception):
    """The run was asked to stop; what it has finished so far is kept."""


class Run:
    """One run folder, as the job itself and those who watch it see it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.input, self.output, self.checkpoints = folder / "input", folder / "output", folder / "checkpoints"
        self.log = folder / "log.txt"
        self.stop = folder / "cancel"  # there when somebody asked it to stop
        self._told = 0.0
        self._began = (time.monotonic(), 0)

    @property
    def run_id(self) -> str:
        """The folder's name."""
        return self.folder.name

    @classmethod
    def create(cls, folder: Path, *, kind: str, module: str, title: str, config: BaseModel) -> "Run":
        """A new run folder, queued; `input/` is there to be filled before it is started. What its settings name of runs beside
        it is written from their folder on, and `config` finds it there again, wherever the workspace has been moved to."""
        run = cls(folder)
        for inside in (run.input, run.output, run.checkpoints):
            inside.mkdir(parents=True, exist_ok=inside == run.input)  # what it reads may be there already
        write_json(folder / "config.json", beside.placed(config.model_dump(mode="json"), folder.parent))
        run.write_state(State(kind=kind, module=module, title=title, queued_at=datetime.now(UTC)))
        return run

    def config(self) -> dict[str, Any]:
        """The frozen settings, to be validated by the job's own settings class; paths into runs beside this one in full."""
        loaded: dict[str, Any] = beside.resolved(json.loads((self.folder / "config.json").read_text()), self.folder.parent)
        return loaded

    def state(self) -> State:
        """Where it stands."""
        return State.model_validate_json((self.folder / "state.json").read_text())

    def write_state(self, state: State) -> None:
        """Replace the state."""
        write_json(self.folder / "state.json", state.model_dump(mode="json"))

    def progress(self) -> Progress:
        """How far it is."""
        try:
            return Progress.model_validate_json((self.folder / "progress.json").read_text())
        except FileNotFoundError:
            return Progress()

    def tell(
        self, done: int, total: int, unit: str, message: str = "", *, left: float | None = None, seconds: float = 0.2
    ) -> None:
        """Say how far the job is, at most every `seconds`. Raises Cancelled when somebody asked it to stop.

        `left` is how many more seconds it needs, for a job whose units take unequal times.
        """
        at = time.monotonic()
        if done < total and at - self._told < seconds:
            return
        if self._told == 0.0:
            self._began = (at, done)  # a resumed run is as fast as it is now, not as it was
        self._told = at
        since, first = self._began
        rate = (done - first) / (at - since) if at > since and done > first else None
        told = Progress(done=done, total=total, unit=unit, message=message, at=time.time(), rate=rate, left=left)
        write_json(self.folder / "progress.json", told.model_dump(mode="json"))
        if self.stop.exists():
            raise Cancelled

    def drop_checkpoints(self) -> None:
        """Remove what a resume would go on from, several times the size of a model: the run is over."""
        for left in self.checkpoints.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()

    def log_end(self, *, lines: int = 30) -> str:
        """The last lines of the log."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 20_000))
            text = file.read().decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-lines:])


def say(words: str) -> None:
    """A line in the run's log, at once."""
    print(words, flush=True)  # noqa: T201


def write_json(path: Path, value: Mapping[str, Any] | list[Any]) -> None:
    """Replace a JSON file atomically; on a full disk the old one stays."""
    half = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        with half.open("w", encoding="utf-8") as file:
            json.dump(value, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(half, path)
    finally:
        half.unlink(missing_ok=True)
