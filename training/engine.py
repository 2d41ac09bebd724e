"""Starts, watches, cancels and resumes runs. Each is a process of its own that outlives whoever started it."""

import errno
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from training.run import OVER, Cancelled, Run, State

_START_WITHIN = timedelta(minutes=30)


def start(run: Run, env: Mapping[str, str] | None = None, *files: int) -> None:
    """Start a queued run in a process of its own; what it prints goes to its log. `env` changes its environment.

    `files` are open files that the process inherits, so that what they lock is locked until it ends.
    """
    state = run.state()
    if state.status != "queued":
        raise ValueError(f"run {run.run_id} is {state.status}: expected a queued one")
    root = Path(__file__).resolve().parent.parent
    paths = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    with run.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", state.module, str(run.folder)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            pass_fds=files,
            env={**os.environ, "TQDM_DISABLE": "1", **(env or {}), "PYTHONPATH": paths},  # bars would fill the log
        )  # fmt: skip
    _children[process.pid] = process
    _running(run, state, process.pid)


_children: dict[int, "subprocess.Popen[bytes]"] = {}


def watch(run: Run) -> State:
    """The state of a run, put right when its process is gone without having said how it ended."""
    _reap()
    state = run.state()
    if state.status == "queued" and not _in_a_grid(run, state) and datetime.now(UTC) - state.queued_at > _START_WITHIN:
        return _ended(run, state, "failed", "it was never started (whoever prepared it was stopped)")
    if state.status != "running" or _alive(state):
        return state
    state = run.state()  # it may have ended between the two looks
    if state.status != "running":
        return state
    cancelled = run.stop.exists()
    error = (
        "the process ended without a word: it was killed, often since the machine's memory was full (then expected smaller "
        "batches or shorter texts), or the machine went down"
    )
    return _ended(run, state, "cancelled" if cancelled else "failed", None if cancelled else error)


def cancel(run: Run, *, patience: float | None = None) -> State:
    """Ask a run to stop, and stop it when it does not within so many seconds: 5, or 30 where it has to stop jobs of its own.
    What it has finished is kept and `resume` goes on from there. Jobs that outlived it are stopped too."""
    jobs = [Run(file.parent) for file in run.folder.parent.glob(f"{run.run_id}.*/state.json")]
    state = _cancelled(run, patience if patience is not None else 30.0 if jobs else 5.0)
    for job in jobs:
        if watch(job).status == "running":
            cancel(job)
    return state


def _cancelled(run: Run, patience: float) -> State:
    state = watch(run)
    if state.status in OVER:
        return state
    if state.status == "queued":
        return _ended(run, state, "cancelled", None)
    run.stop.touch()
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        state = watch(run)
        if state.status in OVER:
            return state
        _children_wait(state, 0.05)
    if state.pid is not None and _alive(state):
        os.killpg(state.pid, signal.SIGKILL)  # its own session: only what the run itself started
        _children_wait(state, 10.0)
    return watch(run)


def resume(run: Run, env: Mapping[str, str] | None = None, *files: int) -> State:
    """Start a failed or cancelled run again, as `start` does; it goes on from what it has finished."""
    state = watch(run)
    if state.status not in ("failed", "cancelled"):
        raise ValueError(f"run {run.run_id} is {state.status}: only a failed or cancelled one can be resumed")
    run.stop.unlink(missing_ok=True)
    cleared = {"status": "queued", "error": None, "ended_at": None, "pid": None, "started": None}
    run.write_state(state.model_copy(update=cleared))
    start(run, env, *files)
    return run.state()


def main(job: Callable[[Run], None]) -> None:
    """The body of a run's process, `python -m MODULE FOLDER`: does the job and writes down how it ended."""
    run = Run(Path(sys.argv[1]))
    _await_start(run)
    try:
        job(run)
    except Cancelled:
        _ended(run, run.state(), "cancelled", None)
    except Exception as error:  # noqa: BLE001  whatever it was, it is written down
        traceback.print_exc()
        _ended(run, run.state(), "failed", f"{type(error).__name__}: {error}".strip())
        sys.exit(1)
    else:
        _ended(run, run.state(), "done", None)


def fail(run: Run, error: str) -> State:
    """Mark a finished run as failed after all, when what it wrote cannot be used; it can be resumed."""
    return _ended(run, run.state(), "failed", error)


def drop(run: Run, why: str) -> State:
    """Mark a queued run as cancelled, because of what it waits for; it can be resumed."""
    return _ended(run, run.state(), "cancelled", why)


def _in_a_grid(run: Run, state: State) -> bool:
    """Whether a grid starts it when its turn comes, however late; one that was not planned to the end starts nothing."""
    return bool(state.waits) and (run.folder.parent / state.waits / "state.json").exists()


def _running(run: Run, state: State, pid: int) -> None:
    began = psutil.Process(pid).create_time()
    changes = {"status": "running", "pid": pid, "started": began, "began_at": datetime.now(UTC)}
    run.write_state(state.model_copy(update=changes))


def _await_start(run: Run, *, patience: float = 10.0) -> None:
    """Wait until the starter has written down who runs, so that its note never comes after ours; without it, write it."""
    deadline = time.monotonic() + patience
    while run.state().pid != os.getpid():
        if time.monotonic() > deadline:
            _running(run, run.state(), os.getpid())
        time.sleep(0.01)


def _ended(run: Run, state: State, status: str, error: str | None) -> State:
    state = state.model_copy(update={"status": status, "error": error, "ended_at": datetime.now(UTC)})
    try:
        run.write_state(state)
    except OSError as full:
        if full.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise  # on a full disk whoever looks next writes it down
    return state


def _reap() -> None:
    """Let go of our own runs that have ended: one nobody asks about would stay in the table of processes."""
    for pid, process in list(_children.items()):
        if process.poll() is not None:
            _children.pop(pid, None)


def _alive(state: State) -> bool:
    """Whether the very process that was started still runs: pids are used again."""
    if state.pid is None or state.started is None:
        return False
    _reap()
    try:
        process = psutil.Process(state.pid)
        return abs(process.create_time() - state.started) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _children_wait(state: State, seconds: float) -> None:
    """Let a moment pass, less when the process ends first."""
    try:
        psutil.Process(state.pid or 0).wait(timeout=seconds)
    except psutil.TimeoutExpired:
        pass
    except psutil.Error:
        time.sleep(min(seconds, 0.01))
