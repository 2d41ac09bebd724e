"""A judge as everybody uses it: registered, run over a dataset or policies, stopped and resumed, and read in the win rates."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curation import benchmark, benchmark_report, outcomes, outcomes_report, outcomes_wins, reward_models, runs
from curation.outcomes_wins import Side
from curation.workspace import Workspace
from tests.aligned import aligned
from tests.conftest import done_here, hh, import_rows, until
from tests.test_judge import SECRET, JudgeServer, longer, responses_in
from training import engine
from training.run import Run
from training.score import PREFERENCES, SUMMARY

pytestmark = pytest.mark.usefixtures("nothing_left_running")

ROWS = [hh(f"Question {n}?", "A good answer.", "Bad." + "?" * (2 * n)) for n in range(24)]


@pytest.fixture
def server(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[JudgeServer]:
    """A judge on this machine, registered as "judge": batches of two pairs, one request after the other."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = JudgeServer()
    settings = {"address": running.address, "model": "wise", "at_once": 1, "tries": 2, "wait": 0}
    reward_models.register(workspace, "judge", "judge", settings, "ana")
    yield running
    running.die()


def started(workspace: Workspace, **wanted: Any) -> Run:
    return runs.start_run(workspace, "score", {"reward_model": "judge", "dataset": "small", **wanted})


def summary(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.output / SUMMARY).read_text())
    return found


def preferences(run: Run) -> list[float]:
    found: list[float] = pq.read_table(run.output / PREFERENCES).column("preference").to_pylist()
    return found


def sometimes_garbled(asked: str) -> str:
    """Every third question is answered without a verdict; the others by length, or by place where a text is short."""
    a, b = responses_in(asked) if "response A begins" in asked else ("", "")
    if not a or (len(a) + len(b)) % 3 == 0:
        return "No idea."
    return "[[A]]" if len(a) + len(b) < 30 else longer(asked)


def ended(run: Run) -> tuple[str, str | None]:
    until(lambda: engine.watch(run).status not in ("queued", "running"))
    return run.state().status, run.state().error


def test_what_is_no_verdict_is_counted_and_told_wherever_the_run_is(
    workspace: Workspace, server: JudgeServer, at_once: None
) -> None:
    import_rows(workspace, ROWS)
    server.says = sometimes_garbled
    run = started(workspace)
    assert ended(run) == ("done", None)
    lengths = [(14, 4 + 2 * n) for n in range(24)]
    garbled = sum((one + other) % 3 == 0 for one, other in lengths)
    turned = sum(one + other < 30 and (one + other) % 3 != 0 for one, other in lengths)
    assert garbled > 3 < turned
    told = [
        f"{2 * garbled} of 48 answers held no verdict in 2 tries: a tie in that order",
        f"{turned} of 24 pairs: the verdict turned with the order",
        "48 answers were by wise-2026, as the server says",
    ]
    assert summary(run)["notes"][-3:] == told
    assert run.progress().message == "; ".join(["24 scored", *told])
    assert all(one in run.log.read_text().splitlines() for one in told)
    assert preferences(run).count(0.5) >= garbled + turned
    assert runs.settle(workspace) == [run.run_id]
    margins = {one.pair_id: one.chosen - one.rejected for one in workspace.scores.of_pairs("small", "judge")}
    assert len(margins) == 24
    (known,) = benchmark_report.to_know_rows(workspace, "small", benchmark.table(workspace, "small"))
    assert known == {"reward model": "judge", "scored": "dataset small", "to know": "; ".join(told)}


def test_a_run_that_was_killed_and_resumed_counts_as_an_undisturbed_one_and_asks_no_pair_twice(
    workspace: Workspace, server: JudgeServer
) -> None:
    import_rows(workspace, ROWS)
    server.says = sometimes_garbled
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "start", done_here)
        undisturbed = started(workspace)
        patch.setattr(engine, "start", lambda run: None)
        run = started(workspace)
    assert undisturbed.state().status == "done"
    whole = [one["messages"][0]["content"] for one in server.asked]
    server.asked.clear()

    def until_killed(asked: str) -> str:
        done = run.checkpoints / "done.jsonl"
        if done.exists() and done.read_bytes().count(b"\n") == 6:  # the plan and five batches
            os.killpg(run.state().pid or 0, signal.SIGKILL)
        return sometimes_garbled(asked)

    server.says = until_killed
    engine.start(run)
    assert ended(run)[0] == "failed"
    asked_before = len(server.asked)
    server.says = sometimes_garbled
    engine.resume(run)
    assert ended(run) == ("done", None)
    assert preferences(run) == preferences(undisturbed)
    assert summary(run)["notes"] == summary(undisturbed)["notes"]
    asked = [one["messages"][0]["content"] for one in server.asked]
    assert asked[: asked_before - 1] + asked[asked_before:] == whole  # the question at which it was killed came twice


def test_a_key_is_in_no_file_of_a_run(
    workspace: Workspace, server: JudgeServer, monkeypatch: pytest.MonkeyPatch, at_once: None
) -> None:
    monkeypatch.setenv("JUDGE_KEY", SECRET)
    settings = {"address": server.address, "model": "wise", "token_variable": "JUDGE_KEY"}
    reward_models.register(workspace, "locked", "judge", settings, "ana")
    import_rows(workspace, ROWS)
    server.says = lambda _: (401, {"error": {"message": f"Incorrect API key provided: {SECRET}"}})
    run = started(workspace, reward_model="locked")
    status, error = ended(run)
    assert (status, server.headers[0]["Authorization"]) == ("failed", f"Bearer {SECRET}")
    assert error == (
        f"Refused: the judge {server.address}/chat/completions refused the request: 401 Unauthorized: "
        '{"error": {"message": "Incorrect API key provided: ***"}}'
    )
    for file in workspace.folder.rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file


def test_its_win_rates_stand_beside_those_of_other_models_that_compare(
    workspace: Workspace, server: JudgeServer, at_once: None
) -> None:
    for name, words in (("wordy", "at length"), ("curt", "so")):
        aligned(workspace, name, {"gold": lambda *_: 1.0}, text=lambda p, point, s, words=words: f"{words} {point} {p}")
    run = runs.start_run(workspace, "score", {"reward_model": "judge", "policies": "wordy,curt"})
    assert ended(run) == ("done", None)
    runs.settle(workspace)
    found = outcomes_wins.duels(workspace, Side("wordy", 10), Side("curt", 10))
    assert [(one.judge, one.by, one.rate.value) for one in found] == [("gold", "reward model", 0.5), ("judge", "judge", 1.0)]
    told = "24 answers were by wise-2026, as the server says"  # 4 prompts, 3 comparisons of each, both orders
    assert [one.why for one in found] == ["", told]
    found = outcomes_wins.against_start(workspace, outcomes.named(workspace, "wordy"), models=["gold"])
    assert [(one.judge, one.rate.value, one.why) for one in found] == [("gold", 0.5, ""), ("judge", 1.0, told)]
    with pytest.raises(ValueError, match="'judge' compares and gives no score: its win rates stand beside those of a gold"):
        outcomes_report.parts(workspace, "", "judge", "win rate")


def test_a_judge_is_registered_by_the_command_and_wrong_settings_are_one_line(elephant: Any, tiny: Path) -> None:
    said = elephant("reward-models", "add", "gpt", "--family", "judge", "address=https://host/v1/", "model=wise")
    assert said == "gpt: judge · wise at https://host/v1\n"
    elephant("reward-models", "add", "here", "--family", "judge", f"source={tiny}", "instructions=Which is funnier?")
    for arguments, sentence in (
        (["model=wise"], "one of the two ways to reach a judge"),
        (["address=https://host/v1"], "model is missing: expected model=NAME"),
        (["address=https://host/v1", "model=a", f"source={tiny}"], "one of the two ways to reach a judge"),
        ([f"source={tiny}", "token_variable=KEY"], "token_variable goes with address, not with source"),
        (["source=./nowhere"], "no folder './nowhere'"),
        (["address=https://host/v1", "model=a", 'request={"n": 2}'], "request holds 'n'"),
    ):
        line = elephant("reward-models", "add", "x", "--family", "judge", *arguments, expect=2)
        assert (line.startswith("elephant: "), sentence in line, line.count("\n")) == (True, True, 1), line
    refused = elephant("reward-models", "add", "x", "--family", "ensemble", "members=gpt,here", expect=2)
    assert "compares and gives no score" in refused
    with closing(Workspace(elephant.folder)) as opened:
        known = {one.reward_model: one for one in opened.scores.models()}
        assert set(known) == {"length", "gpt", "here"}
        assert (known["gpt"].compares, known["gpt"].fingerprint, known["here"].compares) == (True, "", True)
        assert known["here"].fingerprint != ""
        kept = json.loads(known["gpt"].settings)
        assert (kept["address"], kept["model"], set(kept)) == ("https://host/v1", "wise", {"address", "model", "instructions"})


def test_a_judge_on_this_machine_runs_as_any_model(workspace: Workspace, tmp_path: Path, at_once: None) -> None:
    from tests.test_judge_local import made

    source = made(tmp_path / "model")["source"]
    reward_models.register(workspace, "judge", "judge", {"source": source, "instructions": "Which?"}, "ana")
    import_rows(workspace, ROWS[:4])
    run = started(workspace, device="cpu")
    assert ended(run) == ("done", None)
    assert summary(run)["notes"][0] == "judged by P(A) against P(B) as the next token"
    assert summary(run)["tokens"] > 1000
    assert len(set(preferences(run))) == 4
