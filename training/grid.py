"""Runs the jobs of a grid in their order, as a background run: `python -m training.grid RUN_FOLDER`.

A job is a run folder beside the grid's own, queued and filled when the grid was planned. It is started when those it comes
after are done and a place is free: one for each GPU, which it then has for itself, or one on a CPU. A job that fails takes
with it those that need what it makes; the others go on. A grid that was stopped, killed even, goes on with what is not done
yet: jobs that outlived it are waited for, those that failed or were cancelled are resumed from their checkpoints.
"""

import json
import time
from collections.abc import Mapping
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from training import engine
from training.machine import gpus
from training.run import OVER, Cancelled, Run, State, say, write_json

_LOOK = 0.25  # seconds between two looks at the jobs
_PATIENCE = 3.0  # seconds that jobs are given to stop; less than whoever stops the grid gives it
_PLACES = "places.json"
_NAMED = 3  # jobs that went wrong and are named in the grid's error


class Job(BaseModel):
    """A run beside the grid's: its id, the ids of those it comes after, and the seconds it was estimated to take."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    after: tuple[str, ...] = ()
    seconds: float = Field(0.0, ge=0)


class Grid(BaseModel):
    """What a grid's process is told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    jobs: tuple[Job, ...] = Field(min_length=1)
    at_once: int = Field(0, ge=0)  # jobs that run at a time; 0: as many as there are GPUs


def work(run: Run) -> None:
    """The job. Raises ValueError that names the jobs that did not end well, when nothing else is left to do."""
    queue = _Queue(run, Grid.model_validate(run.config()))
    try:
        while queue.goes_on():
            run.tell(queue.done, queue.total, "jobs", queue.message(), left=queue.left(), seconds=1.0)
            time.sleep(_LOOK)
    except Cancelled:
        queue.stop()
        raise
    wrong = queue.wrong()
    if wrong:
        some = "; ".join(wrong[:_NAMED]) + (f"; and {len(wrong) - _NAMED:,} more" if len(wrong) > _NAMED else "")
        raise ValueError(
            f"{len(wrong):,} of {queue.total:,} jobs did not end well: {some}. Resume this run to go on with them alone"
        )
    run.tell(queue.total, queue.total, "jobs", f"all {queue.total:,} done")


class _Place(NamedTuple):
    """Where a job runs: its name, and what is changed in its environment."""

    name: str
    env: Mapping[str, str]


class _Queue:
    """The jobs of a grid, as one process of it sees them."""

    def __init__(self, run: Run, grid: Grid) -> None:
        self._run, self._jobs = run, {one.run: one for one in grid.jobs}
        self._runs = {one: Run(run.folder.parent / one) for one in self._jobs}
        self._places = _places(grid.at_once)
        self._states = self._looked()
        self._again = {one for one, state in self._states.items() if self._is_resumed(one, state)}
        self._file = run.checkpoints / _PLACES
        at: dict[str, str] = json.loads(self._file.read_text()) if self._file.exists() else {}
        self._at = {one: at.get(one, "") for one, state in self._states.items() if state.status == "running"}
        self._began = {one: time.time() for one in self._at}
        self._took: dict[str, float] = {}  # seconds that jobs this process has seen end took

    @property
    def total(self) -> int:
        return len(self._jobs)

    @property
    def done(self) -> int:
        return sum(state.status == "done" for state in self._states.values())

    def goes_on(self) -> bool:
        """Look at the jobs and start those whose turn it is; False when none runs and none can be started."""
        self._states = self._looked()
        for one in [one for one in self._at if self._states[one].status in OVER]:
            self._end(one)
        for one, job in self._jobs.items():
            if self._states[one].status in ("running", "done") or not self._waits(one):
                continue
            spoilt = next((each for each in job.after if self._is_lost(each)), None)
            if spoilt is not None:
                self._drop(one, f"it needs what {self._states[spoilt].title} makes, which {self._states[spoilt].status}")
            elif all(self._states[each].status == "done" for each in job.after):
                self._start(one)
        return any(state.status == "running" or self._waits(one) for one, state in self._states.items())

    def message(self) -> str:
        """What runs now."""
        parts = []
        for one in self._at:
            progress = self._runs[one].progress()
            said = f": {progress.message}" if progress.message else ""
            parts.append(f"{self._states[one].title}{said}")
        return "; ".join(parts)

    def left(self) -> float | None:
        """Seconds still needed: the estimates of what is not done, put right by how long the done jobs really took."""
        if not all(one.seconds for one in self._jobs.values()):
            return None
        guessed = sum(self._jobs[one].seconds for one in self._took)
        factor = sum(self._took.values()) / guessed if guessed else 1.0
        waiting = sum(job.seconds for one, job in self._jobs.items() if self._waits(one) and one not in self._at) * factor
        running = sum(self._left_of(one, factor) for one in self._at)
        return (waiting + running) / len(self._places)

    def stop(self) -> None:
        """Cancel everything that waits or runs."""
        for one in self._jobs:
            if self._waits(one) and self._states[one].status == "queued":
                self._drop(one, "the grid was cancelled")
        for one in self._at:
            self._runs[one].stop.touch()  # all at once, so that they stop side by side
        until = time.monotonic() + _PATIENCE  # for all of them together
        for one in self._at:
            engine.cancel(self._runs[one], patience=max(0.0, until - time.monotonic()))

    def wrong(self) -> list[str]:
        """The jobs that did not end well, each with its reason."""
        return [
            f"{state.title} {state.status}" + (f" ({state.error.rstrip('.')})" if state.error else "")
            for state in self._states.values()
            if state.status != "done"
        ]

    # ---- one job

    def _looked(self) -> dict[str, State]:
        return {one: engine.watch(run) for one, run in self._runs.items()}

    def _is_resumed(self, one: str, state: State) -> bool:
        """Whether it is to go on: it failed, it was cancelled, or it was asked to stop with the grid and is about to."""
        return state.status in ("failed", "cancelled") or (state.status == "running" and self._runs[one].stop.exists())

    def _waits(self, one: str) -> bool:
        """Whether it is still to be started by this process."""
        return self._states[one].status == "queued" or one in self._again

    def _is_lost(self, one: str) -> bool:
        return self._states[one].status in ("failed", "cancelled") and one not in self._again

    def _start(self, one: str) -> None:
        free = next((place for place in self._places if place.name not in self._at.values()), None)
        if free is None or len(self._at) >= len(self._places):
            return
        run = self._runs[one]
        self._states[one] = engine.watch(run)  # somebody may have cancelled or resumed it this very moment
        if self._states[one].status in ("running", "done") or not self._waits(one):
            return
        self._again.discard(one)
        self._at[one], self._began[one] = free.name, time.time()
        write_json(self._file, self._at)
        say(f"{self._states[one].title} starts ({one}{f', GPU {free.name}' if free.env else ''})")
        begin = engine.start if self._states[one].status == "queued" else engine.resume
        begin(run, free.env)
        self._states[one] = run.state()
        if self._states[one].status in OVER:
            self._end(one)

    def _end(self, one: str) -> None:
        state = self._states[one]
        if state.status == "done":
            self._took[one] = time.time() - self._began[one]
        self._at.pop(one)
        say(f"{state.title} {state.status}{f': {state.error}' if state.error else ''}")

    def _drop(self, one: str, why: str) -> None:
        self._again.discard(one)
        self._states[one] = engine.drop(self._runs[one], why)
        say(f"{self._states[one].title} is left out: {why}")

    def _left_of(self, one: str, factor: float) -> float:
        """Seconds a running job still needs, as it says itself, or by its estimate."""
        told = self._runs[one].progress().left
        return told if told is not None else max(0.0, self._jobs[one].seconds * factor - (time.time() - self._began[one]))


def _places(at_once: int) -> list[_Place]:
    """One for each GPU, which its job alone sees; several share one where more are asked for. Without a GPU, one."""
    cards = gpus()
    count = at_once or max(1, len(cards))
    if len(cards) < 2:
        return [_Place(f"place {number}", {}) for number in range(count)]
    pinned = [{"CUDA_VISIBLE_DEVICES": cards[number % len(cards)]} for number in range(count)]
    return [_Place(f"{env['CUDA_VISIBLE_DEVICES']}/{number}", env) for number, env in enumerate(pinned)]


if __name__ == "__main__":
    engine.main(work)
