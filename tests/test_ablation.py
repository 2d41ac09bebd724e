"""Ablation: what each part of a policy does, against counts made by hand."""

import json

import numpy as np
import pytest

from curation import ablation, release, runs
from curation.release_policy import Policy
from curation.store.verdicts import Decision, new_id
from curation.toxicity import WordList, level
from tests.conftest import flag_pairs, hh, import_rows, until
from tests.test_cli import Elephant
from training import engine
from training.embeddings import Embedder, asked

ROWS = [
    hh("Name a river.", "The Danube.", "A river is a thing."),
    hh("What is 2 + 2?", "4", "It is hard to say what that would come to."),
    hh("Is tea hot?", "Shut up, you stupid bastard.", "Usually, yes."),
    hh("Name a river.", "The Rhine, which runs to the sea.", "No."),
    hh("Name a river.", "The Danube.", "A river is a thing."),  # the first again
]


def say(workspace, pair_id, verdict, person="ana"):
    decision = Decision(new_id(), "small", pair_id, person, verdict, "open", "A", 8.0, "", [], workspace.clock())
    workspace.verdicts.add([decision])


@pytest.fixture
def ids(workspace):
    ids = import_rows(workspace, ROWS)
    flag_pairs(workspace, {ids[1]: 0.9}, filter="empty")
    flag_pairs(workspace, {ids[0]: 0.9, ids[1]: 0.5}, filter="vague")
    say(workspace, ids[2], "opposite")
    say(workspace, ids[3], "vague")
    return ids


def compared(workspace, policy=None):
    run = runs.start_ablation(workspace, "small", policy)
    until(lambda: engine.watch(run).status not in ("queued", "running"))
    assert run.state().status == "done", run.log_end()
    assert runs.settle(workspace) == []  # its table stays in its folder
    return ablation.latest(workspace, "small")


def test_every_policy_is_counted_as_a_release_would_count_it(workspace, ids):
    found = compared(workspace)
    counted = {(one["kind"], one["name"]): tuple(one["rows"].values()) for one in found["steps"]}
    assert counted == {  # kept, swapped, dropped rows
        ("cumulative", "nothing"): (5, 0, 0),
        ("cumulative", "+ verdicts"): (3, 1, 1),
        ("cumulative", "+ empty"): (2, 1, 2),
        ("cumulative", "+ vague"): (0, 1, 4),
        ("leave one out", "without verdicts"): (2, 0, 3),
        ("leave one out", "without empty"): (0, 1, 4),
        ("leave one out", "without vague"): (2, 1, 2),
    }
    for one in found["steps"]:
        rows = release.plan(workspace, "small", Policy.model_validate(one["policy"])).counts["rows"]
        assert one["rows"] == {name: rows[name] for name in ("kept", "swapped", "dropped")}


def test_lengths_toxicity_and_diversity_are_those_of_the_rows_that_stay(workspace, ids, at_once):
    found = {one["name"]: one for one in compared(workspace)["steps"]}
    nothing, verdicts = found["nothing"], found["+ verdicts"]
    chosen = [row["chosen"].rsplit("Assistant: ", 1)[1] for row in ROWS]
    kept = ["The Danube.", "4", "Usually, yes.", "The Danube."]  # the toxic one swapped, the vague one gone
    for step, texts in ((nothing, chosen), (verdicts, kept)):
        words = [len(text.split()) for text in texts]
        assert step["words"]["chosen"]["mean"] == pytest.approx(np.mean(words))
        assert step["words"]["chosen"]["n"] == len(texts)
        error = 1.96 * np.std(words) / len(words) ** 0.5
        assert step["words"]["chosen"]["high"] - step["words"]["chosen"]["mean"] == pytest.approx(error)
        toxic = level(WordList().read(texts), WordList.classes)
        assert step["toxicity"]["mean"]["mean"] == pytest.approx(toxic.mean(), abs=1e-3)
        assert step["toxicity"]["share"]["count"] == (toxic >= 0.5).sum()
        vectors = Embedder().read(texts)
        pairs = [1 - one @ other for one in vectors for other in vectors]
        assert step["diversity"]["chosen_spread"] == pytest.approx(np.mean(pairs), abs=2e-3)
    assert (nothing["diversity"]["prompts"], verdicts["diversity"]["prompts"]) == (3, 3)
    assert nothing["toxicity"]["share"]["count"] > verdicts["toxicity"]["share"]["count"] == 0
    asked_for = Embedder().read([asked(workspace.pairs.pair(pair_id).prompt) for pair_id in ids])
    assert nothing["diversity"]["prompt_spread"] == pytest.approx(1 - np.sum(asked_for.mean(axis=0) ** 2), abs=2e-3)


def test_what_is_left_of_each_type_is_over_the_reviewed_pairs_that_stay(workspace, ids, at_once):
    say(workspace, ids[1], "same")
    found = {one["name"]: one["types_left"] for one in compared(workspace)["steps"]}
    assert {name: one["count"] for name, one in found["nothing"].items() if one["count"]} == {
        "same": 1,
        "opposite": 1,
        "vague": 1,
    }
    assert found["nothing"]["same"]["n"] == 3
    assert {name: one["count"] for name, one in found["+ verdicts"].items() if one["count"]} == {"same": 2}  # one was swapped


def test_where_nothing_stays_a_mean_is_undefined_and_not_zero(workspace, ids, at_once):
    flag_pairs(workspace, dict.fromkeys(ids, 0.9), filter="vague")
    found = compared(workspace, Policy(verdicts={"opposite": "drop"}))
    everything = next(one for one in found["steps"] if one["name"] == "+ vague")
    assert sum(everything["rows"].values()) == everything["rows"]["dropped"] == 5
    assert everything["words"]["chosen"] == {"mean": None, "n": 0, "low": None, "high": None}
    assert everything["shifts"]["toxicity"] is None
    words = next(one for one in ablation.in_words(found) if one["policy"] == "+ vague")
    assert words["words, chosen"] == "undefined, because nothing is kept"
    assert words["reward-model accuracy"] == "none yet"


def test_a_table_is_out_of_date_when_flags_or_verdicts_have_changed(workspace, ids, at_once):
    run = compared(workspace)["run"]
    assert not ablation.out_of_date(workspace, "small", run)
    say(workspace, ids[0], "toxic")
    assert ablation.out_of_date(workspace, "small", run)
    run = compared(workspace)["run"]
    workspace.flags.set_threshold("small", "vague", 0.8, "ana", workspace.clock())  # one flag less
    assert ablation.out_of_date(workspace, "small", run)


def test_a_dataset_that_is_not_screened_has_nothing_to_compare(workspace):
    import_rows(workspace, ROWS)
    with pytest.raises(ValueError, match="'small' is not screened yet: there is nothing to compare"):
        runs.start_ablation(workspace, "small")
    assert ablation.latest(workspace, "small") is None
    assert runs.all_runs(workspace) == []


def test_the_command_prints_a_row_a_policy_or_everything_as_json(workspace, ids, at_once):
    workspace.close()
    elephant = Elephant(workspace.folder)
    lines = elephant("ablation", "small").splitlines()
    assert lines[0].startswith("policy")
    assert [line.split("  ")[0] for line in lines[1:8]] == [
        "nothing", "+ verdicts", "+ empty", "+ vague", "without verdicts", "without empty", "without vague",
    ]  # fmt: skip
    assert "alt-profanity-check" in lines[-1]
    found = json.loads(elephant("ablation", "small", "--json"))
    assert [one["name"] for one in found["steps"]][:2] == ["nothing", "+ verdicts"]
    assert "no file" in elephant("ablation", "small", "--policy", "nowhere.json", expect=2)
