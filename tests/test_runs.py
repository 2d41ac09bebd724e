"""Runs: background processes that are started, watched, cancelled, killed and resumed, and taken in once."""

import os
import signal
import subprocess
import sys

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation import runs, screening
from curation.workspace import Workspace
from tests.conftest import ROOT, SMALL, import_rows, until
from training import engine
from training.run import Run

pytestmark = pytest.mark.usefixtures("nothing_left_running")

EMPTY = {"empty": {}}
FLAG_OF_SMALL = {"filter": "empty", "side": "rejected", "score": 1.0, "reason": "the rejected response is empty", "detail": ""}
SIZE = 160_000  # pairs of a run that is still at work when it is interrupted


def wait(run):
    """The state of a run when its process is over."""
    until(lambda: engine.watch(run).status not in ("queued", "running"))
    return run.state()


def at_work(run):
    """Wait until the first stretch of a run is finished and it goes on with the second."""
    until(lambda: any(run.checkpoints.glob("*.parquet")))
    assert engine.watch(run).status == "running"


def big_run(workspace, name, *, size=SIZE):
    """A run over the small dataset's pairs repeated, which takes seconds."""
    config = screening.Screening(dataset="small", filters={"empty": {"punctuation_too": False}})
    run = Run.create(workspace.runs / name, kind="screen", module="curation.screening", title="small: empty", config=config)
    once = run.folder / "once.parquet"
    workspace.pairs.export("small", once)
    pairs = pq.read_table(once)
    pq.write_table(pa.concat_tables([pairs] * (size // pairs.num_rows)), run.input / screening.PAIRS)
    return run


def found_by(run):
    return pq.read_table(run.output / screening.FLAGS)


@pytest.fixture
def ids(workspace):
    return import_rows(workspace, SMALL)


def test_a_run_is_queued_done_and_its_flags_are_taken_in_once(workspace, ids):
    run = runs.start_screening(workspace, "small", EMPTY)
    assert run.config() == {"dataset": "small", "filters": {"empty": {"threshold": 0.0, "punctuation_too": False}}}
    state = wait(run)
    assert (state.status, state.error, state.kind) == ("done", None, "screen")
    assert state.queued_at <= state.began_at <= state.ended_at
    assert run.progress().model_dump(include={"done", "total", "unit"}) == {"done": 4, "total": 4, "unit": "pairs"}
    assert workspace.flags.current("small") == []
    assert runs.settle(workspace) == [run.run_id]
    assert [workspace.flags.of_pair("small", pair_id) for pair_id in ids] == [[], [FLAG_OF_SMALL], [], []]
    generation = workspace.flags.generation
    assert runs.settle(workspace) == []
    runs.take_in(workspace, run)
    assert (len(workspace.flags.export("small")), workspace.flags.generation) == (1, generation)
    (current,) = workspace.flags.current("small")
    assert current[:7] == (run.run_id, "small", "empty", 1, '{"threshold":0.0,"punctuation_too":false}', 4, 1)
    assert [(view.run.run_id, view.state.status, view.taken_in) for view in runs.all_runs(workspace)] == [
        (run.run_id, "done", True)
    ]


def test_the_latest_run_of_a_filter_is_what_holds(workspace, ids):
    for parameters in ({}, {"punctuation_too": True}):
        wait(runs.start_screening(workspace, "small", {"empty": parameters}))
        runs.settle(workspace)
    (current,) = workspace.flags.current("small")
    assert current.parameters == '{"threshold":0.0,"punctuation_too":true}'
    assert workspace.flags.counts("small") == [{"filter": "empty", "subset": "", "pairs": 1, "of": 4}]
    assert [view.taken_in for view in runs.all_runs(workspace)] == [True, True]


@pytest.mark.parametrize(
    ("dataset", "filters", "sentence"),
    [
        ("other", EMPTY, "no dataset 'other': there is small"),
        ("small", {}, "no filter chosen: expected one or more of "),
        ("small", {"emtpy": {}}, "there is no filter 'emtpy'; expected one of "),
        (
            "small",
            {"empty": {"least": 3}},
            "filter 'empty' has no parameter 'least'; expected one of threshold, punctuation_too",
        ),
        ("small", {"empty": {"punctuation_too": "perhaps"}}, "filter 'empty': punctuation_too is 'perhaps', but "),
    ],
)
def test_a_wrong_request_is_refused_and_leaves_no_run(workspace, ids, dataset, filters, sentence):
    with pytest.raises(ValueError) as refused:  # noqa: PT011  its beginning is compared
        runs.start_screening(workspace, dataset, filters)
    assert str(refused.value).startswith(sentence)
    assert runs.all_runs(workspace) == []


def test_a_run_that_is_not_there_is_named(workspace):
    with pytest.raises(ValueError, match="no run 'x': there is none yet"):
        runs.find_in(workspace.runs, "x")


def test_a_cancelled_run_stops_and_resumed_finds_what_an_undisturbed_one_finds(workspace, ids):
    run, undisturbed = big_run(workspace, "disturbed"), big_run(workspace, "undisturbed")
    engine.start(run)
    at_work(run)
    state = engine.cancel(run)
    assert (state.status, state.error) == ("cancelled", None)
    until(lambda: not (engine.watch(run) and psutil.pid_exists(state.pid)))  # nor is it left in the table of processes
    kept = {part.name: part.stat().st_mtime_ns for part in run.checkpoints.glob("*.parquet")}
    assert 0 < len(kept) < SIZE // 20_000
    assert not (run.output / screening.FLAGS).exists()
    assert runs.settle(workspace) == []
    with pytest.raises(ValueError, match="is cancelled: expected a queued one"):
        engine.start(run)
    engine.resume(run)
    with pytest.raises(ValueError, match="only a failed or cancelled one can be resumed"):
        engine.resume(run)
    engine.start(undisturbed)
    assert (wait(run).status, wait(undisturbed).status) == ("done", "done")
    assert {name: (run.checkpoints / name).stat().st_mtime_ns for name in kept} == kept  # looked at no pair twice
    assert found_by(run).equals(found_by(undisturbed))
    assert found_by(run).num_rows == SIZE // 4
    counts = {"version": 1, "screened": SIZE, "flagged": 1, "read_by": ""}
    assert screening.summary(run) == screening.summary(undisturbed) == {"empty": counts}
    assert engine.cancel(run).status == "done"


def test_a_queued_run_can_be_cancelled_before_it_starts(workspace, ids):
    run = big_run(workspace, "waiting", size=4)
    assert engine.cancel(run).status == "cancelled"
    assert not run.log.exists()


def test_a_killed_run_is_shown_as_failed_with_a_reason_and_can_be_resumed(workspace, ids):
    run = big_run(workspace, "killed")
    engine.start(run)
    at_work(run)
    os.killpg(run.state().pid, signal.SIGKILL)
    assert wait(run).status == "failed"
    (view,) = runs.all_runs(workspace)
    assert view.state.error == (
        "the process ended without a word: it was killed, often since the machine's memory was full (then expected smaller "
        "batches or shorter texts), or the machine went down"
    )
    assert view.state.ended_at is not None
    assert runs.remaining(view) is None
    engine.resume(run)
    assert (wait(run).status, wait(run).error) == ("done", None)
    assert found_by(run).num_rows == SIZE // 4


def test_a_run_that_fails_says_why_and_its_log_says_where(workspace, ids):
    run = runs.start_screening(workspace, "small", EMPTY)
    wait(run)
    config = screening.Screening(dataset="small", filters=EMPTY)
    broken = Run.create(workspace.runs / "broken", kind="screen", module="curation.screening", title="t", config=config)
    engine.start(broken)
    state = wait(broken)
    assert state.status == "failed"
    assert state.error.startswith("FileNotFoundError: ")
    assert "Traceback" in broken.log_end()
    assert runs.settle(workspace) == [run.run_id]


START = """
import sys
from pathlib import Path
from curation import runs
from curation.workspace import Workspace
from training import engine
from training.run import Run
if len(sys.argv) > 2:
    engine.start(Run(Path(sys.argv[2])))
else:
    print(runs.start_screening(Workspace(Path(sys.argv[1])), "small", {"empty": {}}).run_id)
"""


def test_a_run_outlives_its_starter_and_is_found_and_taken_in_by_a_fresh_workspace(workspace, ids, clock):
    workspace.close()
    done = subprocess.run(
        [sys.executable, "-c", START, workspace.folder], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    run = Run(workspace.runs / done.stdout.strip())
    wait(run)
    fresh = Workspace(workspace.folder, clock=clock)
    try:
        assert [(view.run.run_id, view.state.status, view.taken_in) for view in runs.all_runs(fresh)] == [
            (run.run_id, "done", False)
        ]
        assert runs.find_in(fresh.runs, run.run_id).folder == run.folder
        assert runs.settle(fresh) == [run.run_id]
        assert fresh.flags.of_pair("small", ids[1]) == [FLAG_OF_SMALL]
    finally:
        fresh.close()


def test_a_run_goes_on_when_its_starter_is_gone_and_another_process_can_cancel_it(workspace, ids):
    run = big_run(workspace, "orphan")
    subprocess.run([sys.executable, "-c", START, workspace.folder, run.folder], cwd=ROOT, check=True, timeout=300)
    at_work(run)
    assert engine.cancel(run).status == "cancelled"


def test_a_later_process_with_the_same_pid_is_not_taken_for_the_run(workspace, ids):
    run = big_run(workspace, "old", size=4)
    mine = psutil.Process()
    run.write_state(run.state().model_copy(update={"status": "running", "pid": mine.pid, "started": mine.create_time()}))
    assert engine.watch(run).status == "running"
    run.write_state(run.state().model_copy(update={"started": mine.create_time() - 60}))
    assert engine.watch(run).status == "failed"
