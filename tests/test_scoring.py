"""What is handed to a reward model, to score or to learn from: each text once, nothing that is dropped, turns as turns."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation import policies, reward_models, reward_training, runs, scoring, studies, study_items
from curation.importing import import_source
from curation.pairs import Pair, Response, Turn, parse, response_id_of, turn
from curation.release import Policy, release
from curation.sources import source_of
from curation.store.flags import Screening
from curation.store.studies import NewItem, NewResponse
from curation.store.verdicts import Decision
from curation.study_design import Design
from curation.study_items import Sample, from_dataset
from curation.workspace import Workspace
from tests.conftest import SMALL, hh, import_rows, numbered
from tests.test_policies_registry import Row, asked, left
from tests.test_reward_endpoint import Server
from tests.tiny_models import tiny_t5, tiny_tokenizer
from training.policy_settings import Named
from training.rewarding import Rewarder
from training.rewards.base import Comparer, Message
from training.score import Scoring

Record = dict[str, Any]


@pytest.fixture
def handed(workspace: Workspace, tmp_path: Path) -> Callable[..., tuple[Scoring, list[Record]]]:
    """What a scoring of these settings is handed: the run's settings and its texts."""
    folders = iter(range(100))

    def hand_over(**wanted: Any) -> tuple[Scoring, list[Record]]:
        folder = tmp_path / f"handed-{next(folders)}"
        folder.mkdir()
        settings = scoring.hand_over(workspace, scoring.Wanted.model_validate({"reward_model": "length", **wanted}), folder)
        (file,) = folder.iterdir()
        return settings, pq.read_table(file).to_pylist()

    return hand_over


Handed = Callable[..., tuple[Scoring, list[Record]]]


def refusal(act: Callable[..., Any], *arguments: Any, **named: Any) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011  the sentence is what is looked at
        act(*arguments, **named)
    assert "\n" not in str(error.value)
    return str(error.value)


def ids(records: list[Record]) -> list[str]:
    return [one["response_id"] for one in records]


def say(workspace: Workspace, **verdicts: list[str]) -> None:
    """Record a reviewer's verdicts on pairs of the dataset "small"."""
    for verdict, pair_ids in verdicts.items():
        rows = [
            Decision(f"c-{one}", "small", one, "ana", verdict, "open", "A", 4.0, "", [], workspace.clock()) for one in pair_ids
        ]
        workspace.verdicts.add(rows)


def released(workspace: Workspace, name: str = "clean") -> None:
    release(workspace, "small", name, Policy())


# ---- pairs


def test_a_response_that_stands_in_several_pairs_is_handed_once(workspace: Workspace, handed: Handed) -> None:
    rows = [hh("Hi?", "a", "b"), hh("Hi?", "b", "c"), hh("Hi?", "b", "a"), hh("Hi?", "a", "b"), hh("Ho?", "a", "b")]
    import_rows(workspace, rows)
    settings, texts = handed(dataset="small")
    assert [(json.loads(one["prompt"])[0][1], json.loads(one["response"])) for one in texts] == [
        (asked, [["assistant", answer]])
        for asked, answer in [("Hi?", "a"), ("Hi?", "b"), ("Hi?", "c"), ("Ho?", "a"), ("Ho?", "b")]
    ]
    assert len(set(ids(texts))) == 5
    assert (settings.pairs, settings.unit) == (3, "pairs")  # of the four different pairs one brings nothing new


def test_sides_that_are_the_same_are_handed_once_and_empty_ones_too(workspace: Workspace, handed: Handed) -> None:
    import_rows(workspace, [hh("Hi?", "same", "same"), hh("Ho?", "", "")])
    assert [json.loads(one["response"]) for one in handed(dataset="small")[1]] == [[["assistant", "same"]], [["assistant", ""]]]


def test_a_prompts_turns_keep_their_roles_and_a_responses_further_turns_are_turns(workspace: Workspace, handed: Handed) -> None:
    turns = [{"role": "system", "content": "Be kind."}, *said("Hi", "Hello.", "Why?")]
    rows: list[Any] = [
        {"chosen": [*turns, *said("So.", by="assistant")], "rejected": [*turns, *said("No.", "Oh", "", by="assistant")]},
        {
            "chosen": "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: One?\n\nAssistant:Tight",
            "rejected": "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Two?\n\nAssistant: 2",
        },
        {"chosen": "\n\nHuman: A?\n\nAssistant: 1", "rejected": "\n\nHuman: B?\n\nAssistant: 2"},
        {"chosen": "unmarked\n\nHuman: A?\n\nAssistant: 1", "rejected": "other\n\nHuman: B?"},
    ]
    import_rows(workspace, rows)
    asked = [["system", "Be kind."], ["user", "Hi"], ["assistant", "Hello."], ["user", "Why?"]]
    found = [(json.loads(one["prompt"]), json.loads(one["response"])) for one in handed(dataset="small")[1]]
    assert found == [
        (asked, [["assistant", "So."]]),
        (asked, [["assistant", "No."], ["user", "Oh"], ["assistant", ""]]),
        ([["user", "Hi"]], [["assistant", "Hello."], ["user", "One?"], ["assistant", "Tight"]]),
        ([["user", "Hi"]], [["assistant", "Hello."], ["user", "Two?"], ["assistant", "2"]]),
        ([], [["user", "A?"], ["assistant", "1"]]),
        ([], [["user", "B?"], ["assistant", "2"]]),
        ([], [["assistant", "unmarked"], ["user", "A?"], ["assistant", "1"]]),
        ([], [["assistant", "other"], ["user", "B?"]]),
    ]


def said(*contents: str, by: str = "user") -> list[dict[str, str]]:
    """Messages in turns, the first by this role."""
    roles = ("user", "assistant") if by == "user" else ("assistant", "user")
    return [{"role": roles[number % 2], "content": one} for number, one in enumerate(contents)]


@pytest.mark.parametrize(
    "text",
    ["", " ", "\n\n", "plain", "\n\nplain", "a\n\nHuman: b", "\n\nHuman: a", "a\n\nAssistant:", "\n\nSystem: a", "Human: a"],
)
@pytest.mark.parametrize("lead", ["", "\n\nAssistant:", "\n\nAssistant: ", "\n\nHuman: "])
def test_nothing_of_a_response_is_lost_whatever_stands_before_it(lead: str, text: str) -> None:
    turns = json.loads(scoring.spoken(lead, text))
    assert turns
    assert all(role in ("user", "assistant", "system") for role, _ in turns)
    assert [content for _, content in turns] == [one.content for one in parse(lead + text)] or (turns, lead + text) == (
        [["assistant", ""]], "",
    )  # fmt: skip


def test_a_release_hands_only_what_it_keeps(workspace: Workspace, handed: Handed) -> None:
    pairs = import_rows(workspace, [*numbered(6), hh("Question 0?", "Good answer 0.", "Another.")])
    say(workspace, vague=[pairs[0]], empty=[pairs[3]], opposite=[pairs[1]], same=[pairs[2]])
    released(workspace)
    settings, texts = handed(dataset="small", release="clean")
    kept = [one for one in workspace.pairs.many(pairs) if one.pair_id not in (pairs[0], pairs[3])]
    assert set(ids(texts)) == {one for pair in kept for one in (pair.chosen_id, pair.rejected_id)}
    assert len(texts) == 10
    assert (settings.pairs, settings.of["in words"]) == (5, "release clean of small")
    sentence = "no release 'claen' of 'small': there is clean"
    assert refusal(handed, dataset="small", release="claen") == sentence


def test_a_release_that_drops_everything_has_nothing_to_score(workspace: Workspace, handed: Handed) -> None:
    say(workspace, vague=import_rows(workspace, numbered(2)))
    released(workspace)
    assert refusal(handed, dataset="small", release="clean") == "'small' has no pairs left to score"


def test_a_release_whose_folder_is_gone_is_told(workspace: Workspace, handed: Handed) -> None:
    import_rows(workspace, numbered(2))
    released(workspace)
    (workspace.releases_folder / "clean" / "dropped.jsonl").unlink()
    assert "no dropped.jsonl there" in refusal(handed, dataset="small", release="clean")


def test_a_subset_and_a_count_choose_the_same_pairs_each_time(workspace: Workspace, handed: Handed) -> None:
    for subset, size in (("a", 30), ("b", 20)):
        (workspace.folder / "parts" / subset).mkdir(parents=True)
        rows = [hh(f"{subset} {n}?", f"Good {n}.", f"Bad {n}.") for n in range(size)]
        (workspace.folder / "parts" / subset / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_source(workspace, source_of(str(workspace.folder / "parts")), "parts")
    settings, texts = handed(dataset="parts", subset="b")
    assert {json.loads(one["prompt"])[0][1] for one in texts} == {f"b {n}?" for n in range(20)}
    assert (settings.pairs, settings.of["in words"]) == (20, "dataset parts, subset b")
    some, again = handed(dataset="parts", count=7)[1], handed(dataset="parts", count=7)[1]
    assert len(some) == 14
    assert some == again
    assert set(ids(some)) < set(ids(handed(dataset="parts", count=8)[1])) < set(ids(handed(dataset="parts", count=5000)[1]))
    assert {json.loads(one["prompt"])[0][1][0] for one in some} == {"a", "b"}
    assert refusal(handed, dataset="parts", subset="c") == "no subset 'c' in 'parts': there is a, b"


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({}, "a scoring wants a dataset or a study: expected dataset=NAME or study=NAME, one of them"),
        ({"dataset": "small", "study": "s"}, "a scoring wants a dataset or a study: "),
        ({"study": "s", "count": 3}, "release, subset, count and probes go with dataset=NAME, not with a study"),
        ({"dataset": "other"}, "no dataset 'other': there is small"),
        ({"dataset": "small", "reward_model": "lenght"}, "no reward model 'lenght': there is length"),
        ({"dataset": "small", "cuont": 3}, "there is no setting 'cuont': expected one of reward_model, dataset, "),
        ({"dataset": "small", "count": "many"}, "count is 'many': "),
        ({"dataset": "small", "count": -1}, "count is -1: "),
        ({"dataset": "small", "device": "gpu"}, "device is 'gpu': "),
    ],
)
def test_a_wrong_request_is_refused_in_a_sentence_and_leaves_no_folder(
    workspace: Workspace, wanted: Record, sentence: str
) -> None:
    import_rows(workspace, SMALL)
    assert refusal(runs.start_run, workspace, "score", {"reward_model": "length", **wanted}).startswith(sentence)
    assert [*workspace.runs.glob("*")] == []


def test_scoring_again_hands_only_what_is_new_and_nothing_new_is_told(
    workspace: Workspace, handed: Handed, at_once: None
) -> None:
    import_rows(workspace, numbered(3))
    runs.start_run(workspace, "score", {"reward_model": "length", "dataset": "small"})
    runs.settle(workspace)
    assert refusal(handed, dataset="small") == "length has scored dataset small already: nothing is missing"
    assert refusal(handed, dataset="small", count=2) == "length has scored dataset small, 2 pairs already: nothing is missing"
    import_rows(workspace, [*numbered(4), hh("Question 0?", "Good answer 0.", "Another.")], "more")
    settings, texts = handed(dataset="more")
    answers = [json.loads(one["response"])[0][1] for one in texts]
    assert (answers, settings.pairs) == (["Good answer 3.", "Bad answer 3.", "Another."], 2)
    reward_models.register(workspace, "length-2", "length", {}, "ana")
    assert len(handed(dataset="more", reward_model="length-2")[1]) == 9


# ---- studies


def test_a_study_hands_its_responses_as_a_dataset_does_and_leaves_out_those_without_text(
    workspace: Workspace, handed: Handed
) -> None:
    begin = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: "
    import_rows(
        workspace,
        [
            {
                "chosen": f"{begin}Why?\n\nAssistant:Tight",
                "rejected": f"{begin}Why?\n\nAssistant: No.\n\nHuman: Oh\n\nAssistant: x",
            },
            {"chosen": "\n\nHuman: A?\n\nAssistant: 1", "rejected": "\n\nHuman: B?\n\nAssistant: 2"},
            {"chosen": "one\n\nHuman: A?\n\nAssistant: 1", "rejected": "two\n\nHuman: B?\n\nAssistant: 2"},
            {"chosen": f"{begin}So?\n\nAssistant: \n\nHuman: Oh", "rejected": f"{begin}So?\n\nAssistant: x"},
        ],
    )
    studies.create(workspace, "s", Design(gold_share=0), "ana")
    studies.add_items(workspace, "s", from_dataset(workspace, "s", "small", Sample(10)).items, "ana", words="small")
    by_id = {one["response_id"]: one for one in handed(dataset="small")[1]}
    settings, texts = handed(study="s")
    assert {one["response_id"]: one for one in texts} == by_id
    assert (len(texts), settings.pairs, settings.unit, settings.of["in words"]) == (8, 4, "items", "study s")

    prompt = (turn("user", "Yes?"),)
    given = NewResponse("x", Response("Yes."))
    item = NewItem("i", "", prompt, (given, NewResponse("y", Response("Gone."), given=False)))
    lost = NewItem("j", "", (turn("user", "No?"),), (NewResponse("y", Response("Lost."), given=False),))
    studies.create(workspace, "t", Design(gold_share=0), "ana")
    workspace.studies.add_items("t", [item, lost], studies.StudyEvent("t", "items", "", "", "ana", workspace.clock()))
    settings, texts = handed(study="t")
    assert [json.loads(one["response"]) for one in texts] == [[["assistant", "Yes."]]]
    assert settings.pairs == 1
    assert refusal(handed, study="u").startswith("no study 'u'")


# ---- policies


RUNS_ON = "Yes.\n\nHuman: And then?\n\nAssistant: No."  # one text, or three turns
ANSWERS: list[Row] = [(0, 8, 0, RUNS_ON), (1, 8, 0, "\n\nHuman: Hm"), (2, 8, 0, "Plain.")]


@pytest.fixture
def turns(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that scores a response by the number of its turns, registered as the reward models "turns" and "again"."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = Server()
    running.answers = lambda asked: (200, {"scores": [1 if isinstance(one, str) else len(one) for one in asked["responses"]]})
    for name in ("turns", "again"):
        reward_models.register(workspace, name, "endpoint", {"address": running.address}, "ana")
    yield running
    running.die()


def test_what_a_policy_wrote_is_one_message_in_its_run_in_a_scoring_and_in_a_study_and_a_datasets_turns_stay_turns(
    workspace: Workspace, turns: Server, at_once: None
) -> None:
    policies.take_in(workspace, left(workspace, "one", ANSWERS))
    rewarder = Rewarder(Named(name="turns", family="endpoint", settings={"address": turns.address}))
    in_run = rewarder.scores([asked(place).turns for place, *_ in ANSWERS], [text for *_, text in ANSWERS])
    given = turns.asked[-1]["responses"]
    assert given == [RUNS_ON, "\n\nHuman: Hm", "Plain."]

    runs.start_run(workspace, "score", {"reward_model": "turns", "policies": "one"})
    runs.settle(workspace)
    assert sorted(turns.asked[-1]["responses"]) == sorted(given)
    assert workspace.policies.scored("one", "turns").score.tolist() == in_run.tolist() == [1, 1, 1]

    import_rows(workspace, [hh("Question 9?", RUNS_ON, "Plain.")])
    studies.create(workspace, "s", Design(gold_share=0), "ana")
    items = study_items.from_policies(workspace, "s", Design(gold_share=0), ["one"], Sample(10)).items
    of_data = study_items.from_dataset(workspace, "s", "small", Sample(10)).items
    studies.add_items(workspace, "s", [*items, *of_data], "ana", words="both")
    runs.start_run(workspace, "score", {"reward_model": "again", "study": "s"})
    runs.start_run(workspace, "score", {"reward_model": "turns", "dataset": "small"})
    runs.settle(workspace)
    assert workspace.policies.scored("one", "again").score.tolist() == [1, 1, 1]
    for name in ("again", "turns"):
        assert [(one.chosen, one.rejected) for one in workspace.scores.of_pairs("small", name)] == [(3, 1)]


def test_what_policies_wrote_is_one_message_for_a_model_that_compares_too(
    workspace: Workspace, handed: Handed, steam: str
) -> None:
    policies.take_in(workspace, left(workspace, "one", ANSWERS))
    policies.take_in(workspace, left(workspace, "two", [(0, 8, 0, "Else.")]))
    (duel,) = handed(policies="one,two", reward_model=steam)[1]
    assert sorted(json.loads(duel[side]) for side in ("first", "second")) == [
        [["assistant", "Else."]], [["assistant", RUNS_ON]],
    ]  # fmt: skip


# ---- models that compare


@pytest.fixture
def steam(workspace: Workspace, tmp_path: Path) -> str:
    folder = tmp_path / "steam"
    tiny_tokenizer(folder, adds="eos", bos="", chat_template="")
    tiny_t5(folder, seed=10)
    reward_models.register(workspace, "steam", "steam_shp", {"source": str(folder)}, "ana")
    return "steam"


def test_a_model_that_compares_gets_each_duel_once_with_its_ids_in_order(
    workspace: Workspace, handed: Handed, steam: str
) -> None:
    rows = [hh("Hi?", "a", "b"), hh("Hi?", "b", "a"), hh("Hi?", "b", "c"), hh("Ho?", "a", "b"), hh("Hi?", "a", "a")]
    pairs = workspace.pairs.many(import_rows(workspace, rows))
    settings, duels = handed(dataset="small", reward_model=steam)
    met = {tuple(sorted((one.chosen_id, one.rejected_id))) for one in pairs}
    assert {(one["first_id"], one["second_id"]) for one in duels} == met
    assert len(duels) == len(met) == settings.pairs == 4
    texts = {response_id: text for one in pairs for response_id, text in (
        (one.chosen_id, one.chosen.text), (one.rejected_id, one.rejected.text)
    )}  # fmt: skip
    for one in duels:
        assert [json.loads(one[side])[0][1] for side in ("first", "second")] == [
            texts[one["first_id"]],
            texts[one["second_id"]],
        ]


def test_preferences_are_stored_once_and_read_from_either_side(workspace: Workspace, steam: str, at_once: None) -> None:
    rows = [*numbered(3), hh("Question 0?", "Bad answer 0.", "Good answer 0."), hh("Same?", "x", "x")]
    pair_ids = import_rows(workspace, rows)
    run = runs.start_run(workspace, "score", {"reward_model": steam, "dataset": "small"})
    assert (run.state().status, run.state().error) == ("done", None)
    assert runs.settle(workspace) == [run.run_id]
    margins = {one.pair_id: one.chosen - one.rejected for one in workspace.scores.of_pairs("small", steam)}
    assert set(margins) == set(pair_ids)
    assert margins[pair_ids[0]] == pytest.approx(-margins[pair_ids[3]]) != 0
    assert margins[pair_ids[4]] == pytest.approx(0, abs=1e-6)
    family = reward_models.opened_by(workspace, workspace.scores.model(steam)).load()
    assert isinstance(family, Comparer)
    sides = [[(Message("assistant", text),)] for text in ("Good answer 1.", "Bad answer 1.")]
    preferred = family.prefer([(Message("user", "Question 1?"),)], *sides).values[0]
    assert margins[pair_ids[1]] == pytest.approx(np.log(preferred / (1 - preferred)), abs=1e-5)
    sentence = refusal(runs.start_run, workspace, "score", {"reward_model": steam, "dataset": "small"})
    assert sentence == "steam has scored dataset small already: nothing is missing"


# ---- pairs to learn from


@pytest.fixture
def taught(workspace: Workspace, tmp_path: Path) -> Callable[..., list[Record]]:
    """The pairs a training of these settings is handed."""
    folders = iter(range(100))

    def hand_over(**wanted: Any) -> list[Record]:
        folder = tmp_path / f"taught-{next(folders)}"
        folder.mkdir()
        made = reward_training.Wanted.model_validate({"model": "new", "data": "small", **wanted})
        reward_training.hand_over(workspace, made, folder)
        return pq.read_table(folder / "pairs.parquet").to_pylist()

    return hand_over


Taught = Callable[..., list[Record]]


def by_split(records: list[Record], of: Callable[[Record], str]) -> tuple[set[str], set[str]]:
    train, held_out = ({of(one) for one in records if one["split"] == name} for name in ("train", "held out"))
    return train, held_out


def first_words(record: Record) -> str:
    """What the human says first, in the prompt or, where the sides have none in common, in the chosen side."""
    turns = json.loads(record["prompt"]) + json.loads(record["chosen"])
    return str(next(content for role, content in turns if role == "user"))


def test_no_prompt_and_no_conversation_is_in_both_splits(workspace: Workspace, taught: Taught) -> None:
    rows = []
    for n in range(150):
        begin = f"\n\nHuman: Question {n}?\n\nAssistant: "
        rows += [
            hh(f"Question {n}?", "a", "b"),
            hh(f"Question {n}?", "a", "c"),
            hh(f"Question {n}?\n\nAssistant: No.\n\nHuman: Why?", "a", "b"),
        ]
        rows += [{"chosen": f"{begin}x\n\nHuman: y\n\nAssistant: z", "rejected": f"{begin}q\n\nHuman: r\n\nAssistant: s"}]
        rows += [{"chosen": f"\n\nSystem: One.{begin}a", "rejected": f"\n\nSystem: Two.{begin}b"}]  # nothing in common
    import_rows(workspace, rows)
    found = taught(held_out=0.3)
    assert len(found) == 750
    assert sum(one["prompt"] == "[]" for one in found) == 150
    for of in (first_words, lambda one: one["prompt"] if one["prompt"] != "[]" else one["pair_id"]):
        train, held_out = by_split(found, of)
        assert train
        assert held_out
        assert not train & held_out
    assert 0.2 < sum(one["split"] == "held out" for one in found) / len(found) < 0.4


def test_a_prompt_without_a_human_turn_is_on_one_side() -> None:
    prompt = (Turn("system", "Go on.", "\n\nSystem: "),)
    pairs = [Pair(prompt, Response(f"good {n}"), Response(f"bad {n}")) for n in range(40)]
    assert len({reward_training.split_of(one, 0.5, 0) for one in pairs}) == 1
    without = [Pair((), Response(f"good {n}"), Response(f"bad {n}")) for n in range(40)]
    assert {reward_training.split_of(one, 0.5, 0) for one in without} == {"train", "held out"}


def test_a_pair_stays_in_its_split_when_others_come_and_another_seed_draws_another(
    workspace: Workspace, taught: Taught
) -> None:
    import_rows(workspace, numbered(100))
    import_rows(workspace, numbered(200), "more")
    few, many = ({one["pair_id"]: one["split"] for one in taught(data=name, held_out=0.3)} for name in ("small", "more"))
    assert few.items() < many.items()
    assert few == {one["pair_id"]: one["split"] for one in taught(held_out=0.3)}
    other = {one["pair_id"]: one["split"] for one in taught(held_out=0.3, split_seed=1)}
    assert other != few
    more = {one["pair_id"] for one in taught(held_out=0.5) if one["split"] == "held out"}
    assert {pair_id for pair_id, split in few.items() if split == "held out"} < more  # a larger share adds to it
    assert {one["split"] for one in taught(held_out=0)} == {"train"}


def test_labels_that_a_release_turned_round_are_turned_round_and_what_it_dropped_is_not_there(
    workspace: Workspace, taught: Taught
) -> None:
    pairs = import_rows(workspace, numbered(6))
    say(workspace, vague=[pairs[0]], opposite=[pairs[1]], same=[pairs[2]])
    released(workspace)
    before, after = ({one["pair_id"]: one for one in taught(data=data, held_out=0)} for data in ("small", "release:clean"))
    assert set(before) == set(pairs)
    assert set(after) == set(pairs[1:])
    turned = {**before[pairs[1]], "chosen": before[pairs[1]]["rejected"], "rejected": before[pairs[1]]["chosen"]}
    assert after[pairs[1]] == turned
    assert {one: after[one] for one in pairs[2:]} == {one: before[one] for one in pairs[2:]}
    assert json.loads(after[pairs[1]]["chosen"]) == [["assistant", "Bad answer 1."]]


def found_contested(workspace: Workspace, means: dict[str, float]) -> None:
    """Take in what the contested filter finds: how strongly votes prefer each pair's label."""
    file = workspace.folder / "found.parquet"
    flags = {
        "pair_id": list(means), "filter": ["contested"] * len(means), "side": ["pair"] * len(means),
        "score": [0.1] * len(means), "reason": ["because"] * len(means),
        "detail": [json.dumps({"mean": mean, "sd": 1.0}) for mean in means.values()],
    }  # fmt: skip
    pq.write_table(pa.table(flags), file)
    taken = Screening("run-c", "small", "contested", 1, "{}", len(means), len(means), workspace.clock(), 0.75, "")
    workspace.flags.add([taken], file)


def test_margins_are_what_the_votes_found_and_turn_with_the_label(workspace: Workspace, taught: Taught) -> None:
    pairs = import_rows(workspace, numbered(4))
    say(workspace, opposite=[pairs[1]])
    released(workspace)
    sentence = refusal(taught, margins="contested")
    assert sentence == "margins=contested needs that filter's votes: elephant screen DATASET --filter contested"
    found_contested(workspace, {pairs[0]: 1.25, pairs[1]: -0.5, pairs[2]: -2.0})
    before, after = (
        {one["pair_id"]: one["margin"] for one in taught(data=data, margins="contested")} for data in ("small", "release:clean")
    )
    assert [before[one] for one in pairs] == [1.25, -0.5, -2.0, None]
    assert [after[one] for one in pairs] == [1.25, 0.5, -2.0, None]
    assert {one["margin"] for one in taught()} == {None}


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"data": "other"}, "no dataset 'other': there is small"),
        ({"data": "small/b"}, "no subset 'b' in 'small': there is none"),
        ({"data": "release:clean"}, "no release 'clean': there is none yet"),
        ({"data": "release:"}, "no dataset ''"),
        ({"data": "small, other"}, "no dataset 'other': there is small"),
        ({"data": " , "}, "' , ' leaves no pair to train on"),
        ({"data": ""}, "data is '': "),
        ({"margins": "mine"}, "margins is 'mine': expected contested or none"),
        ({"held_out": 1}, "held_out is 1: "),
        ({"model": "length"}, "there is a reward model 'length' already: choose another name"),
        ({"model": "my model"}, "the name 'my model' cannot be used: expected up to 60 letters"),
    ],
)
def test_a_training_that_cannot_be_is_refused_in_a_sentence_and_leaves_no_folder(
    workspace: Workspace, wanted: Record, sentence: str
) -> None:
    import_rows(workspace, SMALL)
    assert refusal(runs.start_run, workspace, "reward", {"model": "new", "data": "small", **wanted}).startswith(sentence)
    assert [*workspace.runs.glob("*")] == []


def test_data_of_several_parts_is_each_pair_once_with_the_subset_it_was_asked_for_by(
    workspace: Workspace, taught: Taught
) -> None:
    for subset, numbers in (("a", range(4)), ("b", range(2, 8))):
        (workspace.folder / "parts" / subset).mkdir(parents=True)
        rows = [hh(f"Question {n}?", f"Good answer {n}.", f"Bad answer {n}.") for n in numbers]
        (workspace.folder / "parts" / subset / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_source(workspace, source_of(str(workspace.folder / "parts")), "parts")
    import_rows(workspace, numbered(10))
    found = taught(data="parts/b, parts/b")
    assert [one["subset"] for one in found] == ["b"] * 6
    assert len(taught(data="parts")) == 8
    both = taught(data="parts/a,small")
    assert len({one["pair_id"] for one in both}) == len(both) == 10
    assert len(taught(data="small,parts", count=3)) in range(3, 7)
    say(workspace, opposite=[both[0]["pair_id"]])
    released(workspace)
    assert "with its label and with its label turned round: expected a release or its dataset" in refusal(
        taught, data="small,release:clean"
    )
    assert len(taught(data="parts/b,release:clean")) == 10


def test_a_response_has_one_id_and_one_reading_wherever_it_comes_from() -> None:
    pair = Pair.of_texts("\n\nHuman: Hi\n\nAssistant: a\n\nHuman: b", "\n\nHuman: Hi\n\nAssistant: c")
    assert pair.chosen_id == response_id_of(pair.prompt_id, Response("a\n\nHuman: b"))
    group = scoring.group_of(pair)
    assert [json.loads(text) for _, text in group.responses] == [[["assistant", "a"], ["user", "b"]], [["assistant", "c"]]]
