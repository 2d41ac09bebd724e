"""Screening with filters that read: one run, in steps, of which a failing one loses no other and none is done twice."""

import json
import os
import shutil
import signal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation import exchange, reward_models, runs, screening
from curation.filters.base import Filter
from curation.filters.contested import SCORES
from curation.filters.registry import FILTERS
from curation.store.scores import ScoreRun
from curation.workspace import Workspace
from tests.conftest import SMALL, done_here, hh, import_rows, until
from training import engine
from training.models import located
from training.run import Run

READING = {"vague": {}, "indistinct": {}, "duplicate": {}, "empty": {}}


def wait(run):
    until(lambda: engine.watch(run).status not in ("queued", "running"))
    return run.state()


def findings(run):
    return pq.read_table(run.output / screening.FLAGS).sort_by([("filter", "ascending"), ("pair_id", "ascending")])


def kept(workspace):
    """The files of readings, with when each was written."""
    return {file.name: file.stat().st_mtime_ns for file in workspace.cache.rglob("*.npz")}


@pytest.fixture
def ids(workspace):
    return import_rows(workspace, SMALL)


@pytest.fixture
def long(workspace):
    """Pairs with enough text that reading it takes some seconds."""
    rows = [
        hh(f"What is {n} about?", f"Part {n}. " + "The river runs to the sea. " * 150, f"Part {n}. " + "I do not know. " * 250)
        for n in range(34)
    ]
    return import_rows(workspace, [*rows, hh("How do I cook rice?", "I'm not sure what you mean by that.", "Boil it.")], "long")


@pytest.fixture
def elsewhere(tmp_path, clock, long, workspace):
    """The same dataset in a workspace of its own, where nothing was read yet."""
    other = Workspace(tmp_path / "elsewhere", clock=clock)
    shutil.copy(workspace.folder / "long.jsonl", other.folder / "long.jsonl")
    from curation.importing import import_source
    from curation.sources import source_of

    import_source(other, source_of(str(other.folder / "long.jsonl")), "long")
    yield other
    other.close()


def test_a_second_screening_reads_nothing_and_finds_the_same(workspace, ids, at_once):
    first = runs.start_screening(workspace, "small", READING)
    assert wait(first).status == "done", first.log_end()
    before = kept(workspace)
    assert before
    second = runs.start_screening(workspace, "small", READING)
    assert wait(second).status == "done"
    assert kept(workspace) == before
    assert findings(second).equals(findings(first))
    runs.settle(workspace)
    read_by = {one.filter: one.read_by for one in workspace.flags.current("small")}
    assert read_by == {
        "vague": "all-MiniLM-L6-v2 (minilm)",
        "indistinct": "all-MiniLM-L6-v2 (minilm)",
        "duplicate": "",
        "empty": "",
    }


def test_a_run_cancelled_and_killed_while_it_reads_finds_what_an_undisturbed_one_finds(workspace, elsewhere, long, monkeypatch):
    run = runs.start_screening(workspace, "long", READING)
    until(lambda: bool(kept(workspace)))
    assert engine.cancel(run).status == "cancelled"
    part = kept(workspace)
    engine.resume(run)
    until(lambda: len(kept(workspace)) > len(part))
    os.killpg(run.state().pid, signal.SIGKILL)
    assert wait(run).status == "failed"
    part = kept(workspace)
    assert not (run.output / screening.FLAGS).exists()
    assert runs.settle(workspace) == []
    engine.resume(run)
    assert wait(run).status == "done", run.log_end()
    monkeypatch.setattr(engine, "start", done_here)
    undisturbed = runs.start_screening(elsewhere, "long", READING)
    assert wait(undisturbed).status == "done", undisturbed.log_end()
    assert 0 < len(part) < len(kept(elsewhere))
    assert {name: at for name, at in kept(workspace).items() if name in part} == part  # no text was read twice
    assert len(kept(workspace)) == len(kept(elsewhere))
    assert findings(run).equals(findings(undisturbed))
    assert "vague" in findings(run)["filter"].to_pylist()


def test_a_filter_that_fails_loses_no_other_and_resume_tries_it_again(workspace, ids, tmp_path, at_once):
    model = tmp_path / "model"
    model.mkdir()
    run = runs.start_screening(workspace, "small", {"empty": {}, "vague": {"model": str(model)}, "duplicate": {}})
    state = wait(run)
    assert state.status == "failed"
    assert state.error.startswith("FiltersFailed: vague: ValueError: no sentence-transformers model")
    assert state.error.endswith("; what the other filters found is kept")
    assert runs.settle(workspace) == [run.run_id]
    assert {one.filter: one.flagged for one in workspace.flags.current("small")} == {"empty": 1, "duplicate": 0}
    assert runs.settle(workspace) == []
    finished = {part.name: part.stat().st_mtime_ns for part in run.checkpoints.glob("*.parquet")}

    shutil.copytree(located("minilm").place, model, dirs_exist_ok=True)
    engine.resume(run)
    assert wait(run).status == "done", run.log_end()
    assert {part.name: part.stat().st_mtime_ns for part in run.checkpoints.glob("*.parquet")}.items() >= finished.items()
    assert runs.settle(workspace) == [run.run_id]
    assert [one.filter for one in workspace.flags.current("small")] == ["duplicate", "empty", "vague"]
    assert len(workspace.flags.export("small")) == len(
        {(one["pair_id"], one["filter"]) for one in workspace.flags.export("small")}
    )


def test_a_rule_that_fails_amid_the_pairs_goes_over_all_of_them_when_it_is_resumed(workspace, ids, monkeypatch):
    class Stumbling(Filter):
        """Flags every pair, and stumbles over the one about tea while a file says so."""

        name = "stumbling"

        def flags(self, pairs):
            for pair in pairs:
                if "tea" in pair.prompt[0].content and trap.exists():
                    raise RuntimeError("tea")
                yield self.flag(pair, "pair", 1.0, "because")

    trap = workspace.folder / "trap"
    trap.touch()
    monkeypatch.setitem(FILTERS, "stumbling", Stumbling)
    monkeypatch.setattr(screening, "_CHUNK", 1)
    config = screening.Screening(dataset="small", filters={"empty": {}, "stumbling": {}})
    run = Run.create(workspace.runs / "r", kind="screen", module="curation.screening", title="t", config=config)
    workspace.pairs.export("small", run.input / screening.PAIRS)
    with pytest.raises(screening.FiltersFailed, match=r"^stumbling: RuntimeError: tea; what the other filters found is kept$"):
        screening.screen(run)
    assert set(screening.summary(run)) == {"empty"}
    assert findings(run)["filter"].to_pylist() == ["empty"]
    trap.unlink()
    screening.screen(run)
    counts = {name: one["flagged"] for name, one in screening.summary(run).items()}
    assert counts == {"empty": 1, "stumbling": 4}
    assert sorted(findings(run)["filter"].to_pylist()) == ["empty"] + ["stumbling"] * 4


def test_findings_below_the_threshold_are_stored_and_a_moved_threshold_flags_them(workspace, ids, clock, at_once):
    rows = [hh("How do I cook rice?", "I'm not sure what you mean by that.", "Boil it in water.")]
    (pair_id,) = import_rows(workspace, rows, "near")
    run = runs.start_screening(workspace, "near", {"vague": {"threshold": 0.95}})
    assert wait(run).status == "done", run.log_end()
    runs.settle(workspace)
    ((name, found, score),) = workspace.flags.findings("near")
    assert (name, found, score < 0.95) == ("vague", pair_id, True)
    assert workspace.flags.export("near") == []
    assert [(one.threshold, one.flagged) for one in workspace.flags.current("near")] == [(0.95, 0)]
    workspace.flags.set_threshold("near", "vague", score, "ana", clock())
    assert [one["score"] for one in workspace.flags.export("near")] == [score]
    assert [(one.threshold, one.flagged) for one in workspace.flags.current("near")] == [(score, 1)]


# scores of reward models


def test_scores_of_reward_models_are_handed_to_the_run(workspace, ids, tmp_path):
    file = tmp_path / "scores.jsonl"
    rows = [
        {"row": row, "reward_model": model, "chosen": sign * (row - 1.5), "rejected": 0}
        for model, sign in (("one", 1), ("two", 2))
        for row in range(4)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = runs.start_screening(workspace, "small", {"contested": {"scores": str(file)}})
    assert pq.read_table(run.input / SCORES).num_rows == 8
    assert wait(run).status == "done", run.log_end()
    runs.settle(workspace)
    assert {one["pair_id"] for one in workspace.flags.export("small")} == {ids[0]}
    (flag,) = workspace.flags.export("small")
    assert flag["reason"].startswith("2 of 2 reward models prefer the rejected side")
    assert kept(workspace) == {}  # no text had to be read


def score_pairs(workspace, model, margins):
    """Have a reward model of this name say these margins of the chosen sides, by pair."""
    reward_models.register(workspace, model, "length", {}, "ana")
    scores = {}
    for pair in workspace.pairs.many(list(margins)):
        scores |= {pair.chosen_id: margins[pair.pair_id], pair.rejected_id: 0.0}
    file = workspace.folder / f"{model}.parquet"
    columns = {"response_id": list(scores), "score": list(scores.values()), "truncated": [False] * len(scores)}
    pq.write_table(pa.table(columns), file)
    workspace.scores.add(ScoreRun(f"run-{model}", model, "{}", len(scores), 0, 0, 0.0, workspace.clock()), file, None)


def test_reward_models_that_have_scored_the_dataset_are_a_committee(workspace, ids, at_once):
    for model, factor in (("length", 9.0), ("one", 1.0), ("two", 3.0)):  # length is no member unless it is named
        score_pairs(workspace, model, {pair_id: factor * (row - 1.5) for row, pair_id in enumerate(ids)})
    run = runs.start_screening(workspace, "small", {"contested": {"scores": "models:all"}})
    handed = pq.read_table(run.input / SCORES).to_pylist()
    assert {(one["pair_id"], one["reward_model"]): one["chosen"] - one["rejected"] for one in handed} == {
        (pair_id, model): factor * (row - 1.5) for row, pair_id in enumerate(ids) for model, factor in (("one", 1), ("two", 3))
    }
    runs.settle(workspace)
    (flag,) = workspace.flags.export("small")
    assert (flag["pair_id"], flag["reason"][:40]) == (ids[0], "2 of 2 reward models prefer the rejected")
    with pytest.raises(ValueError, match="no reward model 'three': there is length, one, two"):
        runs.start_screening(workspace, "small", {"contested": {"scores": "models:one,three"}})
    with pytest.raises(ValueError, match="no pair of 'small' has scores of two of one; score it first"):
        runs.start_screening(workspace, "small", {"contested": {"scores": "models:one"}})


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        ({"row": 9, "reward_model": "one", "chosen": 1, "rejected": 0}, "record 2: row is 9: expected 0 to 3"),
        ({"row": 0, "chosen": 1, "rejected": 0}, "record 2: no reward_model: expected its name"),
        ({"row": 0, "reward_model": "one", "chosen": "high", "rejected": 0}, "record 2: chosen is 'high': expected a score"),
        ({"row": 0, "reward_model": "one", "chosen": float("nan"), "rejected": 0}, "record 2: chosen is nan: expected a score"),
        (
            {"row": 0, "reward_model": "one", "chosen": 1, "rejected": 0},
            "has no pair of 'small' with scores of two reward models",
        ),
    ],
)
def test_scores_that_cannot_be_used_are_refused_and_leave_no_run(workspace, ids, tmp_path, record, sentence):
    file = tmp_path / "scores.jsonl"
    good = {"row": 0, "reward_model": "one", "chosen": 2, "rejected": 0}
    file.write_text("".join(json.dumps(one) + "\n" for one in (good, record)))
    with pytest.raises(ValueError, match=sentence):
        runs.start_screening(workspace, "small", {"contested": {"scores": str(file)}})
    assert runs.all_runs(workspace) == []
    with pytest.raises(ValueError, match="no file"):
        exchange.hand_over_scores(workspace, "small", Path("nowhere.jsonl"), tmp_path / "x.parquet")
