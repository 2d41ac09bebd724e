"""The queue of a grid: its order, what failing, cancelling and killing do to it, and that it ends the same."""

import os
import signal
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import until
from tests.grid_job import Counting
from training import engine, grid
from training.grid import Grid, Job
from training.machine import Gpu
from training.run import OVER, Run


class Made:
    """A grid of jobs that count, in a folder of runs."""

    def __init__(
        self, folder: Path, jobs: dict[str, dict[str, Any]], *, at_once: int = 1, title: str = "g",
        module: str = "training.grid", diary: Path | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.diary = folder, diary or folder / "diary.txt"
        folder.mkdir(parents=True, exist_ok=True)
        self.jobs = {}
        queued = []
        for name, told in jobs.items():
            more = {one: value for one, value in told.items() if one not in ("after", "seconds")}
            config = Counting(name=name, diary=str(self.diary), **more)
            run = Run.create(folder / f"grid.{name}", kind="counting", module="tests.grid_job", title=name, config=config)
            run.write_state(run.state().model_copy(update={"waits": "grid"}))
            self.jobs[name] = run
            after = tuple(f"grid.{one}" for one in told.get("after", ()))
            queued.append(Job(run=run.run_id, after=after, seconds=told.get("seconds", 0)))
        config = Grid(name=title, jobs=tuple(queued), at_once=at_once)
        self.run = Run.create(folder / "grid", kind="alignment", module=module, title=title, config=config)

    def ended(self) -> str:
        """Wait until it is over; returns how."""
        until(lambda: engine.watch(self.run).status in OVER)
        return self.run.state().status

    def status(self, name: str) -> str:
        return engine.watch(self.jobs[name]).status

    def at_work(self, name: str) -> None:
        """Wait until a job waits at its gate."""
        until(lambda: self.jobs[name].progress().message == "waiting" and self.status(name) == "running")

    def notes(self) -> list[str]:
        return self.diary.read_text().splitlines() if self.diary.exists() else []

    def counted(self) -> dict[str, list[str]]:
        files = {name: run.output / "steps.txt" for name, run in self.jobs.items()}
        return {name: file.read_text().splitlines() for name, file in files.items() if file.exists()}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of runs, on a machine with no leases; whatever a test leaves at work there ends with it."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)  # as a job that another test ran in this process leaves it
    machine = tmp_path / "machine"
    machine.mkdir()
    monkeypatch.setenv("TMPDIR", str(machine))
    monkeypatch.setattr(tempfile, "tempdir", str(machine))
    yield tmp_path / "runs"
    for state in (tmp_path / "runs").rglob("state.json"):
        one = engine.watch(Run(state.parent))
        if one.status == "running" and one.pid is not None and one.pid != os.getpid():
            os.killpg(one.pid, signal.SIGKILL)


def killed(run: Run) -> None:
    """Kill the process of a run, as a machine that goes down does."""
    pid = run.state().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: engine.watch(run).status == "failed")


def test_jobs_run_one_at_a_time_in_their_order_and_after_what_they_need(folder):
    made = Made(folder, {"first": {"after": ["third"]}, "second": {}, "third": {}})
    engine.start(made.run)
    assert made.ended() == "done"
    order = ("second", "third", "first")  # the first waits for the third
    assert made.notes() == [f"{one} {what}" for one in order for what in ("begins", "ends")]
    assert made.run.progress().model_dump(include={"done", "total", "unit", "message"}) == {
        "done": 3, "total": 3, "unit": "jobs", "message": "all 3 done"
    }  # fmt: skip


def test_as_many_run_at_once_as_it_is_told(folder):
    jobs = {"one": {"gate": str(folder / "grid.two" / "output" / "steps.txt")}, "two": {}, "three": {}}
    made = Made(folder, jobs, at_once=2)
    engine.start(made.run)
    assert made.ended() == "done"  # the first waits for the second to have begun


def test_each_gpu_has_one_job_which_sees_no_other(folder, monkeypatch):
    monkeypatch.setattr(grid, "gpus", lambda: (Gpu("4", "a"), Gpu("7", "b")))
    gates = {"one": "grid.two", "two": "grid.one"}  # each waits for the other to have begun
    jobs = {name: {"gate": str(folder / other / "output" / "steps.txt")} for name, other in gates.items()}
    made = Made(folder, jobs, at_once=0)
    grid.work(made.run)
    assert {one for one in made.notes() if "begins" in one} in (
        {"one begins on 4", "two begins on 7"}, {"one begins on 7", "two begins on 4"}
    )  # fmt: skip


def test_without_several_gpus_nothing_is_pinned(folder, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(grid, "gpus", lambda: (Gpu("0", "a"),))
    made = Made(folder, {"one": {}}, at_once=0)
    grid.work(made.run)
    assert made.notes() == ["one begins", "one ends"]


def test_a_failed_job_takes_those_that_need_it_with_it_and_no_others(folder):
    bread = folder / "bread"
    jobs = {
        "base": {"fails_without": str(bread)}, "child": {"after": ["base"]}, "grandchild": {"after": ["child"]}, "other": {},
    }  # fmt: skip
    made = Made(folder, jobs)
    engine.start(made.run)
    assert made.ended() == "failed"
    assert {name: made.status(name) for name in jobs} == {
        "base": "failed", "child": "cancelled", "grandchild": "cancelled", "other": "done",
    }  # fmt: skip
    assert made.jobs["child"].state().error == "it needs what base makes, which failed"
    assert made.run.state().error == (
        "ValueError: 3 of 4 jobs did not end well: base failed (ValueError: there is no bread: expected some); child cancelled "
        "(it needs what base makes, which failed); grandchild cancelled (it needs what child makes, which was cancelled). "
        "Resume this run to go on with them alone"
    )
    bread.touch()
    engine.resume(made.run)
    assert made.ended() == "done"
    assert {name: made.status(name) for name in jobs} == dict.fromkeys(jobs, "done")
    assert made.notes().count("other begins") == 1


def test_cancelling_a_grid_cancels_what_runs_and_what_waits_and_it_can_be_resumed(folder):
    gate = folder / "gate"
    made = Made(folder, {"before": {}, "running": {"gate": str(gate), "steps": 3}, "waiting": {"after": ["running"]}})
    engine.start(made.run)
    made.at_work("running")
    assert engine.cancel(made.run, patience=60).status == "cancelled"
    assert [made.status(name) for name in made.jobs] == ["done", "cancelled", "cancelled"]
    assert made.counted() == {"before": ["before 0", "before 1"], "running": ["running 0", "running 1"]}
    gate.touch()
    engine.resume(made.run)
    assert made.ended() == "done"
    assert made.counted()["running"] == ["running 0", "running 1", "running 2"]  # it went on, it did not begin again
    assert made.notes().count("before begins") == 1


def test_a_job_that_is_still_stopping_when_the_grid_is_resumed_goes_on_with_it(folder):
    gate = folder / "gate"
    made = Made(folder, {"stopping": {"gate": str(gate), "steps": 3}, "waiting": {"after": ["stopping"]}})
    engine.start(made.run)
    made.at_work("stopping")
    killed(made.run)  # as one that was given no time to stop its jobs
    job = made.jobs["stopping"]
    pid = job.state().pid
    os.kill(pid, signal.SIGSTOP)  # it has not looked yet whether it is to stop
    job.stop.touch()
    (made.run.folder / "progress.json").unlink()
    engine.resume(made.run)
    until(lambda: made.run.progress().message.startswith("stopping"))
    os.kill(pid, signal.SIGCONT)
    until(lambda: made.notes().count("stopping begins") == 2 or engine.watch(made.run).status in OVER)
    gate.touch()
    assert made.ended() == "done"
    assert made.counted()["stopping"] == [f"stopping {step}" for step in range(3)]


def test_a_job_that_is_cancelled_the_moment_it_would_start_does_not_end_the_grid(folder):
    made = Made(folder, {"unwanted": {}, "other": {}})
    queue = grid._Queue(made.run, Grid.model_validate(made.run.config()))
    engine.cancel(made.jobs["unwanted"])
    queue._start(made.jobs["unwanted"].run_id)
    assert (made.status("unwanted"), made.notes()) == ("cancelled", [])


def test_a_job_that_somebody_cancels_while_it_waits_is_left_out(folder):
    gate = folder / "gate"
    made = Made(folder, {"running": {"gate": str(gate)}, "unwanted": {}, "needs it": {"after": ["unwanted"]}, "last": {}})
    engine.start(made.run)
    made.at_work("running")
    engine.cancel(made.jobs["unwanted"])
    gate.touch()
    assert made.ended() == "failed"
    assert [made.status(name) for name in made.jobs] == ["done", "cancelled", "cancelled", "done"]


def test_a_job_that_somebody_resumes_while_the_grid_waits_for_another_does_not_keep_it(folder):
    gate = folder / "gate"
    made = Made(folder, {"first": {"gate": str(gate)}, "resumed": {"after": ["first"]}})
    job = made.jobs["resumed"]
    engine.cancel(job)
    engine.start(made.run)
    made.at_work("first")
    engine.resume(job)
    until(lambda: made.status("resumed") == "done")
    gate.touch()
    assert made.ended() == "done"
    assert made.notes().count("resumed begins") == 1


def outlived(folder: Path) -> tuple[Made, Path]:
    """A grid that was killed while a job of it stood at its gate, and the gate."""
    gate = folder / "gate"
    made = Made(folder, {"running": {"gate": str(gate)}, "waiting": {"after": ["running"]}})
    engine.start(made.run)
    made.at_work("running")
    killed(made.run)
    return made, gate


def test_a_job_outlives_a_killed_grid_and_is_waited_for(folder):
    made, gate = outlived(folder)
    assert (made.status("running"), made.status("waiting")) == ("running", "queued")
    engine.resume(made.run)
    until(lambda: engine.watch(made.run).status == "running" and made.run.progress().total == 2)
    gate.touch()
    assert made.ended() == "done"
    assert made.notes() == ["running begins", "running ends", "waiting begins", "waiting ends"]


def test_cancelling_a_killed_grid_stops_the_job_that_outlived_it(folder):
    made, gate = outlived(folder)
    assert engine.cancel(made.run).status == "failed"
    assert (made.status("running"), made.status("waiting")) == ("cancelled", "queued")
    gate.touch()
    engine.resume(made.run)
    assert made.ended() == "done"


def test_a_grid_killed_with_its_job_ends_as_an_undisturbed_one(folder):
    gate = folder / "gate"
    jobs = {"one": {"steps": 2}, "two": {"gate": str(gate), "steps": 4, "after": ["one"]}, "three": {"after": ["two"]}}
    made = Made(folder / "disturbed", jobs)
    engine.start(made.run)
    made.at_work("two")
    killed(made.run)
    killed(made.jobs["two"])
    gate.touch()
    undisturbed = Made(folder / "undisturbed", jobs)
    engine.resume(made.run)
    engine.start(undisturbed.run)
    assert (made.ended(), undisturbed.ended()) == ("done", "done")
    assert made.counted() == undisturbed.counted()
    assert len(made.counted()["two"]) == 4


def test_a_job_of_a_grid_waits_as_long_as_the_grid_is_there(folder):
    made = Made(folder, {"one": {}})
    job = made.jobs["one"]
    job.write_state(job.state().model_copy(update={"queued_at": datetime.now(UTC) - timedelta(days=3)}))
    assert engine.watch(job).status == "queued"
    (made.run.folder / "state.json").unlink()
    assert engine.watch(job).error == "it was never started (whoever prepared it was stopped)"


def test_what_is_left_goes_by_how_long_the_done_jobs_really_took(folder, monkeypatch):
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr(grid.time, "time", lambda: float(next(clock)))
    made = Made(folder, {"one": {"seconds": 5}, "two": {"seconds": 5}, "three": {"seconds": 20}})
    queue = grid._Queue(made.run, Grid.model_validate(made.run.config()))
    assert queue.left() == 30
    for name in ("one", "two"):
        run = made.jobs[name]
        run.write_state(run.state().model_copy(update={"status": "done"}))
        queue._began[run.run_id], queue._at[run.run_id] = 0.0, name
    monkeypatch.setattr(grid.time, "time", lambda: 10.0)  # each took twice what was estimated
    queue._states = queue._looked()
    for name in ("one", "two"):
        queue._end(made.jobs[name].run_id)
    assert queue.left() == 40
    queue._at_most = 4
    assert queue.left() == 40  # of one job nothing is done by others


def test_the_processes_of_jobs_are_gone_when_the_grid_is_over(folder):
    made = Made(folder, {"one": {}, "two": {}})
    engine.start(made.run)
    assert made.ended() == "done"
    pids = [one.state().pid for one in made.jobs.values()]
    until(lambda: not any(psutil.pid_exists(one) for one in pids))
