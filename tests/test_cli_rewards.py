"""The commands of reward models as scripts see them: what they print, what is stored, what they refuse and how."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from curation import runs
from curation.workspace import Workspace
from tests.command import Elephant
from tests.conftest import done_here, hh, import_rows
from tests.raters import answer_all, item, set_up
from tests.scored import prefer
from training import engine
from training.rewards.registry import FAMILIES
from training.run import Run

# by length the first five are right, the sixth is a tie, the last two are wrong
ROWS = [
    *({**hh(f"Question {n}?", "A long answer." + "!" * n, "Short."), "subset": "easy"} for n in range(5)),
    {**hh("Question 5?", "Yes, so.", "No, not."), "subset": "hard"},
    *({**hh(f"Question {n}?", "Short.", "A long answer." + "?" * n), "subset": "hard"} for n in (6, 7)),
]


@pytest.fixture
def rows(opened) -> list[str]:
    """The pairs of the dataset "small"."""
    with opened() as workspace:
        return import_rows(workspace, ROWS)


@pytest.fixture
def scored(rows, elephant, at_once) -> list[str]:
    """They are scored by length."""
    elephant("run", "score", "reward_model=length", "dataset=small", "--wait")
    return rows


@pytest.fixture
def released(scored, elephant, tmp_path) -> str:
    """A release that turns the two wrong pairs round and drops the tie."""
    verdicts = {scored[5]: "vague", scored[6]: "opposite", scored[7]: "opposite"}
    said = [json.dumps({"pair_id": one, "person": "ana", "verdict": verdict}) for one, verdict in verdicts.items()]
    (tmp_path / "verdicts.jsonl").write_text("\n".join(said))
    elephant("verdicts", "import", tmp_path / "verdicts.jsonl")
    elephant("release", "small", "--name", "v1", "--out", tmp_path / "v1")
    return "v1"


def refused(elephant: Elephant, *arguments: object, says: str) -> str:
    said = elephant(*arguments, expect=2)
    assert said.startswith("elephant: ")
    assert says in said
    assert said.count("\n") == 1
    return said


def strict(text: str) -> Any:
    """JSON as the standard has it, which knows no NaN and no infinity."""

    def no(word: str) -> Any:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=no)


def figures(found: Any) -> Iterator[dict[str, Any]]:
    """Every figure in a record, however deep."""
    if isinstance(found, dict):
        if "low" in found and "value" in found:
            yield found
        for one in found.values():
            yield from figures(one)
    elif isinstance(found, list):
        for one in found:
            yield from figures(one)


# ---- the registry


def test_length_is_listed_from_the_start_and_what_is_added_stays(elephant, opened):
    header, row = elephant("reward-models").splitlines()
    assert header.split() == ["reward", "model", "scored", "cut", "what"]
    assert row.split() == ["length", "0", "0", "length"]
    said = elephant(
        "reward-models", "add", "server", "--family", "endpoint", "address=http://127.0.0.1:9", "--set", "at_once=4"
    )
    assert said.startswith("server: endpoint")
    told = json.loads(
        elephant("reward-models", "add", "both", "--family", "ensemble", "members=length,server", "--person", "eve", "--json")
    )
    assert (told["reward_model"], told["person"], len(told["settings"]["members"])) == ("both", "eve", 2)
    with opened() as workspace:
        known = {one.reward_model: one for one in workspace.scores.models()}
    assert list(known) == ["length", "server", "both"]
    assert json.loads(known["server"].settings) == {"address": "http://127.0.0.1:9", "at_once": 4}
    listed = strict(elephant("reward-models", "--json"))
    assert [(one["reward_model"], one["family"], one["scored"], one["cut"]) for one in listed] == [
        ("length", "length", 0, 0), ("server", "endpoint", 0, 0), ("both", "ensemble", 0, 0),
    ]  # fmt: skip


def test_families_are_listed_with_their_settings(elephant):
    listed = strict(elephant("reward-models", "families", "--json"))
    assert {one["family"]: set(one["settings"]) for one in listed} == {
        name: set(kind.model_fields) for name, kind in FAMILIES.items()
    }
    assert [row.split()[0] for row in elephant("reward-models", "families").splitlines()] == ["family", *FAMILIES]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["x", "--family", "clasifier"], "no family of reward models 'clasifier': expected one of classifier, "),
        (["x", "--family", "classifier"], "source"),
        (["x", "--family", "classifier", "source=empty"], "holds no weights: expected .safetensors files in"),
        (["x", "--family", "classifier", "source"], "'source': expected NAME=VALUE"),
        (["x", "--family", "classifier", "source=gpt2", "max_length=2"], "max_length is '2'"),
        (
            ["x", "--family", "classifier", "source=gpt2", "--set", "colour=red"],
            "there is no setting 'colour': expected one of ",
        ),
        (["x", "--family", "ensemble", "members=length,nobody"], "no reward model 'nobody': there is length"),
        (["x", "--family", "ensemble", "members=[1"], "members is '[1': it begins like JSON but is none"),
        (["length", "--family", "length"], "there is a reward model 'length' already"),
        (["a b", "--family", "length"], "the name 'a b' cannot be used"),
        (["<b>x</b>", "--family", "length"], "cannot be used"),
        (["x" * 61, "--family", "length"], "cannot be used"),
    ],
)
def test_what_cannot_be_registered_is_one_line_and_stores_nothing(elephant, opened, tmp_path, arguments, says):
    (tmp_path / "empty").mkdir()
    elephant("reward-models")
    refused(elephant, "reward-models", "add", *arguments, says=says)
    with opened() as workspace:
        assert [one.reward_model for one in workspace.scores.models()] == ["length"]


# ---- runs


def test_a_score_run_that_is_waited_for_is_in_the_store(elephant, opened, rows, at_once):
    said = elephant("run", "score", "--set", "reward_model=length", "dataset=small", "subset=hard", "--wait")
    assert said.endswith(": 6 scored\n")
    with opened() as workspace:
        (view,) = runs.all_runs(workspace)
        assert said.startswith(f"run {view.run.run_id}: ")
        assert view.taken_in
        assert sorted(workspace.scores.scores("length").values()) == sorted(
            len(one[side].rpartition("Assistant: ")[2]) for one in ROWS[5:] for side in ("chosen", "rejected")
        )
    again = json.loads(elephant("run", "score", "reward_model=length", "dataset=small", "--wait", "--json"))
    assert again["done"] == "10 scored"  # what has a score is not scored again
    refused(elephant, "run", "score", "reward_model=length", "dataset=small", says="has scored dataset small already")


def test_a_run_that_nobody_waited_for_is_found_by_the_next_command(elephant, rows, at_once):
    told = json.loads(elephant("run", "score", "reward_model=length", "dataset=small", "--json"))
    (listed,) = json.loads(elephant("reward-models", "--json"))
    assert listed["scored"] == 16
    assert [one["run"] for one in json.loads(elephant("runs", "--json"))] == [told["run"]]
    elephant("run", "score", "reward_model=length", "dataset=small", "probes=true")
    assert "\nPitfalls" in elephant("benchmark", "small")


@pytest.mark.parametrize("kind", ["score", "reward"])
def test_the_settings_of_a_kind_are_explained_and_nothing_is_started(elephant, kind):
    listed = strict(elephant("run", kind, "--explain", "--json"))
    assert [one["setting"] for one in listed] == list(runs.KINDS[kind].wanted.model_fields)
    assert all(one["means"] for one in listed)
    header, *lines = elephant("run", kind, "--explain").splitlines()
    assert header.split() == ["setting", "default", "means"]
    assert [line.split()[0] for line in lines] == [one["setting"] for one in listed]
    assert elephant("runs") == "no runs yet\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["scores"], "no kind of run 'scores': expected one of score, reward"),
        (["scores", "--explain"], "no kind of run 'scores': expected one of score, reward"),
        (["score"], "reward_model is missing: expected reward_model=VALUE"),
        (["score", "reward_model=length"], "a scoring wants a dataset or a study"),
        (["score", "reward_model=length", "dataset=small", "study=one"], "a scoring wants a dataset or a study"),
        (["score", "reward_model=lenght", "dataset=small"], "no reward model 'lenght': there is length"),
        (["score", "reward_model=length", "dataset=smal"], "no dataset 'smal': there is small"),
        (["score", "reward_model=length", "dataset=small", "subset=soft"], "no subset 'soft' in 'small': there is easy, hard"),
        (["score", "reward_model=length", "dataset=small", "release=v1"], "no release 'v1' of 'small': there is none yet"),
        (["score", "reward_model=length", "study=one"], "no study 'one'"),
        (["score", "reward_model=length", "study=one", "probes=true"], "probes go with dataset=NAME"),
        (["score", "reward_model=length", "dataset=small", "count=-1"], "count is '-1'"),
        (["score", "reward_model=length", "dataset=small", "count=some"], "count is 'some'"),
        (["score", "reward_model=length", "dataset=small", "colour=red"], "there is no setting 'colour': expected one of "),
        (["score", "reward_model=length", "dataset=small", "device=tpu"], "device is 'tpu'"),
        (["score", "reward_model=length", "dataset"], "'dataset': expected NAME=VALUE"),
        (["reward", "model=length", "data=small"], "there is a reward model 'length' already"),
        (["reward", "model=a b", "data=small"], "the name 'a b' cannot be used"),
        (["reward", "model=head"], "data"),
        (["reward", "model=head", "data=smal"], "no dataset 'smal': there is small"),
        (["reward", "model=head", "data=small/soft"], "no subset 'soft'"),
        (["reward", "model=head", "data=release:v1"], "no release 'v1': there is none yet"),
        (["reward", "model=head", "data=small", "held_out=1"], "held_out is '1'"),
        (["reward", "model=head", "data=small", "margins=strength"], "margins is 'strength': expected contested or none"),
        (["reward", "model=head", "data=small", "margins=contested"], "elephant screen DATASET --filter contested"),
    ],
)
def test_bad_settings_are_one_line_and_start_no_run(elephant, rows, arguments, says):
    refused(elephant, "run", *arguments, says=says)
    assert elephant("runs") == "no runs yet\n"
    assert list((elephant.folder / "runs").glob("*")) == []


def test_a_run_that_fails_says_why_in_one_line_and_stores_no_score(elephant, opened, rows, at_once):
    address = "http://127.0.0.1:9"  # nobody listens on the port of discard
    elephant("reward-models", "add", "server", "--family", "endpoint", f"address={address}", "tries=1", "wait=0")
    said = refused(elephant, "run", "score", "reward_model=server", "dataset=small", "--wait", says="failed: ")
    assert "127.0.0.1:9" in said
    assert "log.txt" in said
    with opened() as workspace:
        assert workspace.scores.counts() == {}


def test_a_score_run_is_cancelled_and_goes_on_when_resumed(elephant, rows, monkeypatch):
    monkeypatch.setattr(engine, "start", lambda run: None)  # the machine is busy: it stays in the queue
    run = json.loads(elephant("run", "score", "reward_model=length", "dataset=small", "--json"))["run"]
    assert elephant("cancel", run) == f"run {run} is cancelled\n"
    (listed,) = json.loads(elephant("runs", "--json"))
    assert (listed["status"], listed["title"]) == ("cancelled", "dataset small by length")
    refused(elephant, "benchmark", "small", says="no reward model has scored 'small' yet")
    monkeypatch.setattr(engine, "start", done_here)
    assert elephant("resume", run) == f"run {run} is done\n"
    refused(elephant, "resume", run, says=f"run {run} is done: only a failed or cancelled one can be resumed")
    assert strict(elephant("benchmark", "small", "--json"))["models"]["length"]["half_ties"]["n"] == 8
    assert Run(elephant.folder / "runs" / run).state().status == "done"


def test_a_trained_head_registers_itself_and_scores(elephant, opened, at_once):
    with opened() as workspace:
        import_rows(workspace, [hh(f"Name river {n}.", f"River {n}, gladly.", f"No, not {n}.") for n in range(12)], "rivers")
    said = elephant("run", "reward", "model=head", "data=rivers", "held_out=0.25", "penalty=1", "--wait")
    assert "held-out accuracy " in said
    assert "(n=" in said
    listed = {one["reward_model"]: one for one in json.loads(elephant("reward-models", "--json"))}
    run = said.split()[1].rstrip(":")
    assert (listed["head"]["family"], listed["head"]["run_id"]) == ("minilm-bt", run)
    assert listed["head"]["settings"]["source"] == f"runs/{run}/model"
    elephant("run", "score", "reward_model=head", "dataset=rivers", "--wait")
    found = strict(elephant("benchmark", "rivers", "--reward-model", "head", "--json"))["models"]["head"]
    assert found["half_ties"]["n"] + found["left_out_trained_on"] == 12  # it is not tested on what it learnt from
    assert found["half_ties"]["n"] == int(said.rpartition("n=")[2].rstrip(")\n")) > 0
    assert found["half_ties"]["value"] > 0.9  # every chosen one says "gladly"
    refused(elephant, "run", "reward", "model=head", "data=rivers", says="there is a reward model 'head' already")


# ---- benchmark


def test_accuracy_is_told_with_interval_and_n(elephant, scored):
    said = elephant("benchmark", "small")
    assert "length        0.69 [" in said  # (5 + 1/2) / 8
    assert "n=8 pairs" in said
    assert "0.62 [" in said  # 5 / 8, strictly
    assert "easy    1.00 [" in said
    assert "hard    0.17 [" in said
    assert "Original against cleaned" not in said
    assert "nan" not in said.lower()
    assert "None" not in said


def test_a_release_is_told_in_its_parts(elephant, released):
    found = strict(elephant("benchmark", "small", "--release", released, "--json"))
    assert (found["dataset"], found["release"], found["pairs"]) == ("small", "v1", 7)
    parts = found["models"]["length"]["cleaning"]
    assert {name: one["value"] for name, one in parts.items() if isinstance(one, dict)} == pytest.approx(
        {
            "original": 5.5 / 8, "dropped": 0.5, "kept_as_were": 5 / 7, "cleaned": 1.0, "from_labels": 2 / 7,
            "from_dropping": 5 / 7 - 5.5 / 8,
        }
    )  # fmt: skip
    assert parts["swapped"] == 2
    said = elephant("benchmark", "small", "--release", released)
    assert "Original against cleaned, in parts" in said
    assert "1.00 [" in said
    refused(elephant, "benchmark", "small", "--release", "v2", says="no release 'v2' of 'small': there is v1")


def test_every_figure_of_the_record_has_an_n_and_a_reason_where_it_is_undefined(elephant, opened, released):
    with opened() as workspace:
        sides = {one[0]: (one[2], one[3]) for one in workspace.pairs.sides("small")}
        prefer(workspace, "judge", {both: 0.9 if n % 2 else 0.3 for n, both in enumerate(sides.values())}, dataset="small")
    elephant("run", "score", "reward_model=length", "dataset=small", "probes=true", "--wait")
    for more in ([], ["--release", released], ["--reward-model", "judge"]):
        record = strict(elephant("benchmark", "small", *more, "--json"))
        found = list(figures(record))
        assert len(found) > 10
        for one in found:
            assert isinstance(one["n"], int), one
            assert one["of"], one
            if one["low"] is None:
                assert one["undefined"], one
            else:
                assert one["low"] <= one["value"] <= one["high"]
    assert list(record["models"]) == ["judge"]
    assert record["duels"] == []


def test_models_are_chosen_and_set_against_each_other(elephant, opened, scored):
    elephant("reward-models", "add", "again", "--family", "length")
    refused(
        elephant, "benchmark", "small", "--reward-model", "length", "--reward-model", "again",
        says="the reward model 'again' has not scored 'small' yet: elephant run score --set reward_model=again dataset=small",
    )  # fmt: skip
    refused(elephant, "benchmark", "small", "--reward-model", "nobody", says="no reward model 'nobody': there is length, again")
    elephant("run", "score", "reward_model=again", "dataset=small", "--wait")
    both = strict(elephant("benchmark", "small", "--json"))
    assert list(both["models"]) == ["length", "again"]
    (duel,) = both["duels"]
    assert (duel["only_first"], duel["only_second"], duel["n"], duel["p"]) == (0, 0, 8, 1.0)
    assert "Reward models against each other" in elephant("benchmark", "small")
    assert "Reward models against each other" not in elephant("benchmark", "small", "--reward-model", "again")


def test_a_dataset_that_nobody_scored_says_how_to_score_it(elephant, rows):
    for more in ([], ["--json"]):
        refused(elephant, "benchmark", "small", *more, says="elephant run score --set reward_model=length dataset=small")
    refused(elephant, "benchmark", "smal", says="no dataset 'smal': there is small")


# ---- beside people


def answered(workspace: Workspace) -> None:
    """A study of six items that two people rated and compared, each liking the longer answer more."""
    texts = [{"a": "x" * (n + 1), "b": "y" * (9 - n)} for n in range(6)]
    set_up(workspace, [item(n, one) for n, one in enumerate(texts)], "one", protocol="both", overlap=2)
    for person in ("ana", "ben"):

        def says(card, question):
            if question.response:
                return min(5, 1 + len(card.texts[question.place] or "") // 2)
            first, second = (len(one or "") for one in card.texts)
            return 1 if first > second else 2 if second > first else 3

        answer_all(workspace, "one", person, says)


def test_a_reward_model_is_set_beside_the_people_of_a_study(elephant, opened, at_once):
    with opened() as workspace:
        answered(workspace)
    elephant("run", "score", "reward_model=length", "study=one", "--wait")
    said = elephant("agreement", "one", "--reward-model", "length")
    assert "length agrees with people" in said
    assert "n=12 responses" in said or "n=12 " in said
    assert "Spearman, all" in said
    assert "ana" not in said
    record = strict(elephant("agreement", "one", "--reward-model", "length", "--json"))["reward_models"]
    assert set(record) == {"helpfulness", "comparison"}
    assert record["helpfulness"]["length"]["over_all"]["spearman"]["value"] == pytest.approx(1, abs=0.05)
    assert record["comparison"]["length"]["with_answers"]["value"] == 1
    for one in figures(record):
        assert isinstance(one["n"], int)
        assert one["low"] is not None or one["undefined"]
    assert "reward_models" not in json.loads(elephant("agreement", "one", "--json"))
    refused(elephant, "agreement", "one", "--reward-model", "nobody", says="no reward model 'nobody': there is length")
    refused(elephant, "agreement", "two", "--reward-model", "length", says="no study 'two': there is one")
