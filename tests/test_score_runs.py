"""Scoring as a run: cancelled, killed, resumed it gives what an undisturbed run gives, and nothing is computed twice."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from curation import reward_models, runs
from curation.workspace import Workspace
from tests.conftest import done_here, hh, import_rows, numbered, until
from tests.test_reward_endpoint import Server, lengths
from tests.tiny_models import WORDS, tiny_classifier, tiny_tokenizer, write_weights
from training import engine
from training.run import Progress, Run
from training.score import PREFERENCES, SCORES, SUMMARY

pytestmark = pytest.mark.usefixtures("nothing_left_running")

FAST = {"wait": 0, "tries": 2}  # of an endpoint: no pause before the second try


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(tmp_path_factory.mktemp("made"))
    tiny_tokenizer(folder)
    tiny_classifier(folder)
    return folder


@pytest.fixture
def tiny(workspace: Workspace, made_once: Path) -> str:
    """A registered classifier that computes a few texts at once."""
    reward_models.register(workspace, "tiny", "classifier", {"source": str(made_once), "batch_tokens": 100}, "ana")
    return "tiny"


@pytest.fixture
def server(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server on this machine, registered as the reward model "remote" that is sent 4 texts at once."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = Server()
    reward_models.register(workspace, "remote", "endpoint", {"address": running.address, "at_once": 4, **FAST}, "ana")
    yield running
    running.die()


def started(workspace: Workspace, model: str, **wanted: Any) -> Run:
    return runs.start_run(workspace, "score", {"reward_model": model, "dataset": "small", "device": "cpu", **wanted})


def ended(run: Run) -> tuple[str, str | None]:
    """How a run ended, when its process is over."""
    until(lambda: engine.watch(run).status not in ("queued", "running"))
    return run.state().status, run.state().error


def kept(run: Run) -> list[dict[str, Any]]:
    """Every whole line of the file of finished batches."""
    found = []
    for line in (run.checkpoints / "done.jsonl").read_bytes().split(b"\n"):
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [one for one in found if isinstance(one, dict)]


def batches(run: Run) -> list[int]:
    """The numbers of the batches that were computed, in order."""
    return [one["batch"] for one in kept(run) if "batch" in one]


def scores(run: Run) -> dict[str, float]:
    table = pq.read_table(run.output / SCORES)
    return dict(zip(table.column("response_id").to_pylist(), table.column("score").to_pylist(), strict=True))


def stored_nothing(workspace: Workspace, run: Run) -> bool:
    assert runs.settle(workspace) == []
    return [*run.output.iterdir()] == [] and workspace.scores.counts() == {} and workspace.scores.runs() == []


def varied(count: int) -> list[dict[str, str]]:
    words = " ".join(WORDS).split()
    return [
        hh(f"Question {n}? {' '.join(words[: n % 17])}", " ".join(words[n % 11 : n % 29]), " ".join(words[n % 7 :]))
        for n in range(count)
    ]


# ---- real processes


def test_killed_half_way_and_resumed_a_run_gives_the_scores_of_an_undisturbed_one(workspace: Workspace, tiny: str) -> None:
    import_rows(workspace, varied(150))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "start", done_here)
        undisturbed = started(workspace, tiny)
    assert ended(undisturbed) == ("done", None)
    assert len(batches(undisturbed)) > 50
    run = started(workspace, tiny)
    until(lambda: (run.checkpoints / "done.jsonl").exists() and len(batches(run)) > 5)
    pid = run.state().pid
    assert pid is not None
    os.killpg(pid, signal.SIGKILL)
    assert ended(run)[0] == "failed"
    before = kept(run)
    assert 5 < len(before) <= len(kept(undisturbed))
    engine.resume(run)
    assert ended(run) == ("done", None)
    assert kept(run)[: len(before)] == before
    assert batches(run) == batches(undisturbed) == list(range(len(batches(run))))  # each once
    assert scores(run) == scores(undisturbed)  # to the last digit
    assert len(scores(run)) == json.loads((run.output / SUMMARY).read_text())["texts"] > 250


def test_cancelled_half_way_and_resumed_no_text_is_sent_twice(workspace: Workspace, server: Server) -> None:
    import_rows(workspace, numbered(20))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "start", lambda run: None)
        run = started(workspace, "remote")

    def answers(asked: dict[str, Any]) -> tuple[int, Any]:
        if len(server.asked) == 4:  # somebody asks the run to stop while its fourth batch is out
            run.stop.touch()
            server.released.wait(0.3)  # it looks at most every 0.2 seconds
        return lengths(asked)

    server.answers = answers
    engine.start(run)
    assert ended(run) == ("cancelled", None)
    assert batches(run) == [0, 1, 2, 3]
    assert (run.progress().done, run.progress().total, run.progress().unit) == (8, 20, "pairs")
    assert stored_nothing(workspace, run)
    engine.resume(run)
    assert ended(run) == ("done", None)
    assert batches(run) == list(range(10))
    sent = [text for one in server.asked for text in one["responses"]]
    assert len(sent) == len(set(sent)) == 40
    assert sorted(scores(run).values()) == sorted(len(one) / 2 for one in sent)


def test_an_endpoint_that_dies_half_way_ends_the_run_with_a_sentence_and_when_it_is_back_the_rest_is_scored(
    workspace: Workspace, server: Server
) -> None:
    import_rows(workspace, numbered(20))
    server.answers = lambda asked: lengths(asked) if len(server.asked) <= 4 else (503, {"error": "out of memory"})
    run = started(workspace, "remote")
    status, error = ended(run)
    assert status == "failed"
    assert error == (
        f"ValueError: the endpoint {server.address} did not answer in 2 tries; the last time: 503 Service Unavailable: "
        '{"error": "out of memory"}'
    )
    assert batches(run) == [0, 1, 2, 3]
    assert stored_nothing(workspace, run)
    answered = [text for one in server.asked[:4] for text in one["responses"]]
    server.asked.clear()
    server.answers = lengths
    engine.resume(run)
    assert ended(run) == ("done", None)
    rest = [text for one in server.asked for text in one["responses"]]
    assert len(rest) == 24
    assert not set(rest) & set(answered)
    assert runs.settle(workspace) == [run.run_id]
    assert workspace.scores.counts() == {"remote": (40, 0)}


# ---- what a stopped run left


def stopped_after(run: Run, lines: int, torn: bytes = b"") -> None:
    """Make a finished run one that was killed when it had written so many lines, and a part of the next."""
    file = run.checkpoints / "done.jsonl"
    whole = file.read_bytes().split(b"\n")
    file.write_bytes(b"".join(line + b"\n" for line in whole[:lines]) + torn)
    shutil.rmtree(run.output)
    run.output.mkdir()
    engine.fail(run, "killed")


TORN = [(0, b""), (0, b'{"plan": "'), (1, b""), (2, b"{"), (7, b'{"batch": 6, "values": [0.12'), (7, b"\x00\x00"), (7, b"7")]


@pytest.mark.parametrize(("lines", "torn"), TORN)
def test_half_a_line_is_read_by_nobody(workspace: Workspace, tiny: str, at_once: None, lines: int, torn: bytes) -> None:
    import_rows(workspace, varied(15))
    run = started(workspace, tiny)
    expected, lines_before = scores(run), kept(run)
    assert len(lines_before) > 8
    stopped_after(run, lines, torn)
    engine.resume(run)
    assert ended(run) == ("done", None)
    assert scores(run) == expected
    assert kept(run) == lines_before  # the plan, and each batch once


def test_a_whole_last_line_without_its_end_counts(workspace: Workspace, tiny: str, at_once: None) -> None:
    import_rows(workspace, varied(15))
    run = started(workspace, tiny)
    expected, lines = scores(run), (run.checkpoints / "done.jsonl").read_bytes().split(b"\n")
    stopped_after(run, 3, lines[3])
    engine.resume(run)
    assert (ended(run), scores(run)) == (("done", None), expected)
    assert (run.checkpoints / "done.jsonl").read_bytes().split(b"\n") == lines


def test_what_was_kept_of_another_plan_is_not_mixed_in(workspace: Workspace, tiny: str, at_once: None) -> None:
    import_rows(workspace, varied(15))
    run = started(workspace, tiny)
    expected, plan = scores(run), kept(run)[0]
    stopped_after(run, 5)
    file = run.checkpoints / "done.jsonl"
    head, *rest = file.read_text().splitlines()
    spoilt = [json.dumps({**json.loads(line), "values": [9.0] * len(json.loads(line)["values"])}) for line in rest]
    file.write_text("\n".join([head, *spoilt]) + "\n")
    config = run.config()
    config["settings"]["batch_tokens"] = 400
    (run.folder / "config.json").write_text(json.dumps(config))
    engine.resume(run)
    assert ended(run) == ("done", None)
    assert kept(run)[0] != plan
    assert batches(run) == list(range(len(batches(run))))
    np.testing.assert_allclose([scores(run)[one] for one in expected], [*expected.values()], atol=1e-5)


def test_a_finished_run_that_is_resumed_computes_nothing(workspace: Workspace, server: Server, at_once: None) -> None:
    import_rows(workspace, numbered(6))
    run = started(workspace, "remote")
    expected, asked = scores(run), len(server.asked)
    stopped_after(run, 100)
    engine.resume(run)
    assert (ended(run), scores(run), len(server.asked)) == (("done", None), expected, asked)


# ---- taking in


def test_scores_are_taken_in_once(workspace: Workspace, tiny: str, at_once: None) -> None:
    pair_ids = import_rows(workspace, numbered(5))
    run = started(workspace, tiny)
    assert ended(run) == ("done", None)
    assert workspace.scores.counts() == {}
    assert runs.settle(workspace) == [run.run_id]
    generation, found, told = workspace.scores.generation, workspace.scores.scores(tiny), workspace.scores.runs()
    assert found == scores(run)
    assert runs.settle(workspace) == []
    runs.take_in(workspace, run)
    assert (workspace.scores.generation, workspace.scores.scores(tiny), workspace.scores.runs()) == (generation, found, told)
    assert [view.taken_in for view in runs.all_runs(workspace)] == [True]
    pairs = {one.pair_id: one for one in workspace.pairs.many(pair_ids)}
    for pair_id, chosen, rejected in workspace.scores.of_pairs("small", tiny):
        assert (chosen, rejected) == (found[pairs[pair_id].chosen_id], found[pairs[pair_id].rejected_id])
    (one,) = told
    assert (one.run_id, one.reward_model, one.texts, one.truncated) == (run.run_id, tiny, 10, 0)
    assert one.tokens > 100
    assert one.seconds > 0


def test_of_two_runs_over_the_same_texts_the_first_counts(workspace: Workspace, tiny: str, at_once: None) -> None:
    import_rows(workspace, numbered(5))
    first = started(workspace, tiny, count=3)
    second = started(workspace, tiny)
    table = pq.read_table(second.output / SCORES)
    other = pa.array([9.0] * table.num_rows)
    pq.write_table(table.set_column(table.column_names.index("score"), "score", other), second.output / SCORES)
    assert runs.settle(workspace) == [first.run_id, second.run_id]
    found = workspace.scores.scores(tiny)
    assert len(found) == 10
    assert {one: found[one] for one in scores(first)} == scores(first)
    assert sum(value == 9.0 for value in found.values()) == 4


def _torn(run: Run) -> None:
    file = run.output / SCORES
    file.write_bytes(file.read_bytes()[:-20])


def _without_a_column(run: Run) -> None:
    pq.write_table(pq.read_table(run.output / SCORES).drop_columns(["score"]), run.output / SCORES)


def _not_a_number(run: Run) -> None:
    table = pq.read_table(run.output / SCORES)
    pq.write_table(table.set_column(1, "score", pa.array([*[1.0] * (table.num_rows - 1), float("nan")])), run.output / SCORES)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda run: (run.output / SCORES).unlink(), "holds neither scores.parquet nor preferences.parquet"),
        (lambda run: (run.output / SUMMARY).unlink(), "summary.json"),
        (lambda run: (run.output / SUMMARY).write_text("{"), "Expecting"),
        (_torn, "cannot be read: "),
        (_without_a_column, "cannot be read: "),
        (_not_a_number, "1 scores of 'tiny' are no numbers"),
    ],
)
def test_output_that_cannot_be_used_is_told_once_and_stores_nothing(
    workspace: Workspace, tiny: str, at_once: None, spoil: Any, sentence: str
) -> None:
    import_rows(workspace, numbered(5))
    run = started(workspace, tiny)
    spoil(run)
    assert runs.settle(workspace) == []
    status, error = ended(run)
    assert (status, sentence in str(error), "\n" in str(error)) == ("failed", True, False), error
    assert (workspace.scores.counts(), workspace.scores.runs()) == ({}, [])
    engine.resume(run)
    assert runs.settle(workspace) == [run.run_id]
    assert workspace.scores.counts() == {tiny: (10, 0)}


# ---- numbers that are none


def test_a_score_that_is_no_number_fails_the_run_and_stores_nothing(
    workspace: Workspace, made_once: Path, tmp_path: Path, at_once: None
) -> None:
    folder = Path(shutil.copytree(made_once, tmp_path / "broken"))
    weights = load_file(folder / "model.safetensors")
    (norm,) = (name for name in weights if name.endswith("model.norm.weight"))
    weights[norm][0] = float("inf")
    write_weights(folder, weights)
    reward_models.register(workspace, "broken", "classifier", {"source": str(folder)}, "ana")
    import_rows(workspace, numbered(5))
    run = started(workspace, "broken")
    status, error = ended(run)
    assert status == "failed"
    assert str(error).startswith("ValueError: broken gave ")
    assert any(one in str(error) for one in (" nan for response ", " inf for response ", " -inf for response "))
    assert "\n" not in str(error)
    assert batches(run) == []
    assert stored_nothing(workspace, run)
    assert not (run.output / PREFERENCES).exists()


# ---- progress


def test_progress_tells_pairs_tokens_a_second_and_the_time_that_is_left(
    workspace: Workspace, tiny: str, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_rows(workspace, varied(30))
    told: list[Progress] = []
    tell = Run.tell

    def heard(run: Run, *words: Any, **more: Any) -> None:
        tell(run, *words, **{**more, "seconds": 0})
        told.append(run.progress())

    monkeypatch.setattr(Run, "tell", heard)
    run = started(workspace, tiny)
    assert ended(run) == ("done", None)
    assert {(one.total, one.unit) for one in told} == {(30, "pairs")}
    assert [one.done for one in told] == sorted(one.done for one in told)
    assert [one.message for one in told[:2]] == ["opening tiny", "reading the texts"]
    working = told[2:-1]
    assert len(working) == len(batches(run)) > 10
    assert all(one.message.endswith(" tokens/s") for one in working)
    assert all(one.left is not None and one.left >= 0 for one in working)
    assert working[-1].left == 0
    assert (told[-1].done, told[-1].message) == (30, f"{len(scores(run))} scored")
    stopped_after(run, 6)
    told.clear()
    engine.resume(run)
    assert [one.left is None for one in told[2:8]] == [True] * 5 + [False]  # what was done before says nothing of the rate


def test_texts_that_were_cut_are_counted_and_told(workspace: Workspace, made_once: Path, at_once: None) -> None:
    reward_models.register(workspace, "short", "classifier", {"source": str(made_once), "max_length": 40}, "ana")
    import_rows(workspace, [*numbered(2), hh("Why? " * 40, "So.", "No.")])
    run = started(workspace, "short")
    cut = sum(pq.read_table(run.output / SCORES).column("truncated").to_pylist())
    assert cut == json.loads((run.output / SUMMARY).read_text())["truncated"] > 1
    assert run.progress().message == f"6 scored, {cut} cut to the model's length"
    assert f"{cut} of them longer than the model reads" in run.log_end()
    runs.settle(workspace)
    assert workspace.scores.counts() == {"short": (6, cut)}
