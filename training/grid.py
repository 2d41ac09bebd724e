"""Runs the jobs of a grid in their order, as a background run: `python -m training.grid RUN_FOLDER`.

A job is a run folder beside the grid's own, queued and filled when the grid was planned. It is started when those it comes
after are done and a place is free: one for each GPU, which it then has for itself, of all grids of this user, or one on a
CPU. (Two grids share the CPUs, as other runs do: there both get slower. On a GPU both would run out of memory.) A job that
fails takes with it those that need what it makes; the others go on. A grid that was stopped, killed even, goes on with what
is not done yet: jobs that outlived it are waited for, those that failed or were cancelled are resumed from their checkpoints.
"""

import json
import time
from collections.abc import Mapping
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from training import engine
from training.leases import Lease, Taken, machines_folder, take
from training.machine import Gpu, gpus
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
    """Where a job runs: its name, what is changed in its environment, the GPU and how many jobs the grid puts on it."""

    name: str
    env: Mapping[str, str]
    gpu: Gpu | None = None
    sharing: int = 1


class _Queue:
    """The jobs of a grid, as one process of it sees them."""

    def __init__(self, run: Run, grid: Grid) -> None:
        self._run, self._jobs = run, {one.run: one for one in grid.jobs}
        self._runs = {one: Run(run.folder.parent / one) for one in self._jobs}
        self._places = _places(grid.at_once)
        self._at_most = grid.at_once or len(self._places)
        self._name = f"{grid.name}, {run.folder.resolve()}"  # what other grids are told
        self._refused: dict[Gpu, str] = {}  # GPUs that others have at this look, and their names
        self._waits_for: dict[Gpu, str] = {}  # the same, where a job could not be started for it
        self._waited = ""  # what the log was last told of them
        self._leased = True  # as far as is known
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
        self._refused, self._waits_for = {}, {}
        for one in [one for one in self._at if self._states[one].status in OVER]:
            self._end(one)
        for one, job in self._jobs.items():
            if self._states[one].status in ("running", "done") or not self._waits(one):
                continue
            spoilt = next((each for each in job.after if self._is_lost(each)), None)
            if spoilt is not None:
                ended = {"failed": "failed", "cancelled": "was cancelled"}[self._states[spoilt].status]
                self._drop(one, f"it needs what {self._states[spoilt].title} makes, which {ended}")
            elif all(self._states[each].status == "done" for each in job.after):
                self._start(one)
        self._note_waiting()
        return any(state.status == "running" or self._waits(one) for one, state in self._states.items())

    def message(self) -> str:
        """What runs now, and which GPUs are waited for."""
        parts = []
        for one in self._at:
            progress = self._runs[one].progress()
            said = f": {progress.message}" if progress.message else ""
            parts.append(f"{self._states[one].title}{said}")
        ending = [gpu.name for gpu, who in self._waits_for.items() if who == self._name]
        if ending:
            parts.append(f"waits for GPU {', '.join(ending)}, which a job of its own has not left yet")
        return "; ".join([*parts, *filter(None, [self._others()])])

    def left(self) -> float | None:
        """Seconds still needed: the estimates of what is not done, put right by how long the done jobs really took."""
        if not all(one.seconds for one in self._jobs.values()):
            return None
        guessed = sum(self._jobs[one].seconds for one in self._took)
        factor = sum(self._took.values()) / guessed if guessed else 1.0
        waiting = [job.seconds * factor for one, job in self._jobs.items() if self._waits(one) and one not in self._at]
        lefts = [*waiting, *(self._left_of(one, factor) for one in self._at)]
        return max(sum(lefts) / self._at_most, max(lefts, default=0.0))

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
        """Whether it is still to be started by this process: what somebody else resumed, and is done, is not."""
        status = self._states[one].status
        return status == "queued" or (one in self._again and status != "done")

    def _is_lost(self, one: str) -> bool:
        return self._states[one].status in ("failed", "cancelled") and one not in self._again

    def _start(self, one: str) -> None:
        run = self._runs[one]
        free = self._free(run)
        if free is None:
            return
        place, lease = free
        try:
            self._states[one] = engine.watch(run)  # somebody may have cancelled or resumed it this very moment
            if self._states[one].status in ("running", "done") or not self._waits(one):
                return
            self._again.discard(one)
            self._at[one], self._began[one] = place.name, time.time()
            write_json(self._file, self._at)
            say(f"{self._states[one].title} starts ({one}{f', GPU {place.gpu.name}' if place.gpu else ''})")
            begin = engine.start if self._states[one].status == "queued" else engine.resume
            begin(run, place.env, *lease.files)
        finally:
            lease.close()  # from here on it is the job's
        self._states[one] = run.state()
        if self._states[one].status in OVER:
            self._end(one)

    def _free(self, run: Run) -> tuple[_Place, Lease] | None:
        """A place that no job has, and the lease of its GPU."""
        if len(self._at) >= self._at_most:
            return None
        for place in self._places:
            if place.name not in self._at.values() and place.gpu not in self._refused:
                lease = self._lease(place, run)
                if lease is not None:
                    return place, lease
        self._waits_for = self._refused
        return None

    def _lease(self, place: _Place, run: Run) -> Lease | None:
        """The lease of a place's GPU, empty where the run needs none; None where others have it."""
        if place.gpu is None or run.config().get("device") == "cpu":
            return Lease()
        try:
            return take(machines_folder(), place.gpu.uuid, self._name, sharing=place.sharing)
        except Taken as other:
            self._refused[place.gpu] = str(other)
            return None
        except OSError as error:
            if self._leased:
                say(f"goes on without leases of GPUs, so that another grid may put its jobs on them too: {error}")
            self._leased = False
            return Lease()

    def _others(self) -> str:
        """Which GPUs other grids have, and which grids, in words."""
        theirs = {gpu.name: who for gpu, who in self._waits_for.items() if who != self._name}
        if not theirs:
            return ""
        names = list(dict.fromkeys(filter(None, theirs.values())))
        whose = "other grids have" if len(names) > 1 else "another grid has"
        return f"waits for GPU {', '.join(theirs)}, which {whose}" + (f" ({'; '.join(names)})" if names else "")

    def _note_waiting(self) -> None:
        waits = self._others()
        if waits and waits != self._waited:
            say(waits)
        self._waited = waits

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
    """One for each GPU, which its job alone sees; several share one where more are asked for. Without a GPU, one.

    Fewer than there are GPUs are not tied to some of them: a job takes one that is free.
    """
    cards = gpus()
    if not cards:
        return [_Place(f"place {number}", {}) for number in range(at_once or 1)]
    count = max(at_once, len(cards))
    on = [number % len(cards) for number in range(count)]
    return [
        _Place(
            f"{cards[card].name}/{number}",
            {"CUDA_VISIBLE_DEVICES": cards[card].name} if len(cards) > 1 else {},
            cards[card],
            on.count(card),
        )
        for number, card in enumerate(on)
    ]


if __name__ == "__main__":
    engine.main(work)
