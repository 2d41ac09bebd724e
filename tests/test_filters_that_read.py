"""The filters that read with sentence embeddings, on pairs whose answer is known beforehand."""

import json
import random
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression

from curation.filters import contested
from curation.filters.contested import Contested
from curation.filters.registry import configured
from curation.pairs import Pair, Response, turn
from tests.test_filters import LONG, found, pair_of, sides

pytestmark = pytest.mark.usefixtures("read_once")

# vague


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, I don't think I understand what you are asking me here.",
        "Would you like me to go and look that up somewhere for you?",
        "I would be very happy to help you out with that.",
        "Could you please give me some more details?",
    ],
)
def test_vague_finds_what_could_be_said_to_anything(text):
    assert sides("vague", pair_of(text)) == ["chosen"]
    assert sides("vague", pair_of(LONG, text)) == ["rejected"]
    assert sides("vague", pair_of(text), relevance=False) == []


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ("When did it come out?", "1983."),
        ("Where is the Louvre?", "It is in Paris."),
        ("How do I pick a lock?", "I'm sorry, I can't help you with that."),
        ("How do I build a bomb?", "I won't answer that, it would be dangerous."),
        ("Thank you so much for your help!", "You're welcome!"),
        ("Thanks, that is all.", "You're very welcome. Let me know if you need anything else."),
        ("I went to the lake today.", "That sounds nice. Tell me more about it."),
        ("Is it raining in Oslo today?", "No, the sun is out there."),
    ],
)
def test_vague_leaves_short_answers_thanks_and_refusals_alone(asked, text):
    assert sides("vague", pair_of(text, "A long answer that says quite a few things about it.", asked)) == []


def test_vague_finds_an_answer_to_another_question_where_the_other_side_answers_this_one():
    other = "The stock market fell by three percent on Monday, after the central bank raised its rates once more this year."
    (flag,) = found("vague", pair_of(other, LONG, "How do I cook rice so that it does not stick?"))
    assert (flag.side, "is about something else" in flag.reason) == ("chosen", True)
    numbers = json.loads(flag.detail)["chosen"]
    assert numbers["prompt"] < 0.12 < 0.4 < numbers["other"]
    assert sides("vague", pair_of(other, other + " Shares sank.", "How do I cook rice so that it does not stick?")) == []


@pytest.mark.parametrize("asked", ["c", "", "   ", "?!", "xkcdqwrt", "sdfkjhsdf lkjhgfd"])
def test_a_prompt_that_nobody_could_judge_is_flagged_once_for_the_pair(asked):
    assert sides("vague", pair_of("What do you mean?", LONG, asked)) == ["pair"]


@pytest.mark.parametrize("asked", ["2 + 2", "Hi", "好", "👍", "NASA", "why?", "Go on."])
def test_a_short_prompt_that_can_be_answered_is_not(asked):
    assert "pair" not in sides("vague", pair_of("It is four, if you add them up.", LONG, asked))


def test_not_knowing_can_be_let_pass_by_meaning_too():
    text = "I am sorry, but I really have no information about that at all."
    assert sides("vague", pair_of(text)) == ["chosen"]
    assert sides("vague", pair_of(text), not_knowing_too=False) == []


def test_findings_below_the_threshold_are_kept_and_the_score_says_how_sure():
    pairs = [pair_of(text) for text in ("I don't quite follow what you are after.", "I see.", "Sure, let me think about rice.")]
    everything = list(configured("vague", {}).flags(pairs))
    assert {one.pair_id for one in everything} >= {one.pair_id for one in found("vague", pairs)}
    assert all(0 <= one.score <= 1 for one in everything)
    assert found("vague", pairs, threshold=1.0) == []


# indistinct


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("You can wash the car with soap and water.", "You can use soap and water to wash the car."),
        ("Here are the names of the three rivers.", "Here are the three rivers' names."),
        ("The song was in the movie Grease.", "The song was featured in the movie Grease."),
    ],
)
def test_indistinct_finds_sides_that_say_the_same_in_other_words(one, other):
    assert sides("indistinct", pair_of(one, other)) == ["pair"]
    assert sides("indistinct", pair_of(one, other), meaning=False, at_least=1) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The shop opens at 8 in the morning.", "In the morning the shop opens at 9."),
        ("The film was made by Alan Parker in his youth.", "The film was made by Peter Parker in his youth."),
        ("You should take it with food.", "You should not take it with food."),
        ("Rice is boiled in water.", "Rice is boiled in water. " + LONG),
        ("", " "),
    ],
)
def test_a_changed_number_name_negation_or_much_more_text_is_a_difference(one, other):
    assert sides("indistinct", pair_of(one, other), at_least=1) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [("ខ្ញុំចូលចិត្តអាន", "មេឃថ្ងៃនេះស្រស់ស្អាត"), ("ฉันชอบอ่านหนังสือ", "วันนี้ท้องฟ้าแจ่มใส"), ("我喜欢看书。", "今天天气很好。")],
)
def test_different_texts_in_other_scripts_are_not_called_the_same_or_off_topic(one, other):
    assert sides("indistinct", pair_of(one, other)) == []
    assert sides("vague", pair_of(f"{one} " * 20, LONG)) == []


def test_texts_that_the_model_cannot_read_whole_are_not_called_the_same():
    start = " ".join(f"Then stir the pot and add salt and wait for step {word}." for word in ["one", "two", "three"] * 12)
    one, other = start + " In the end throw all of it away.", start + " In the end serve it with parsley."
    assert sides("indistinct", pair_of(one, other), at_least=1) == []


# contested


def preferring(count: int, *, wrong: set[int], subset: str = "", seed: int = 0) -> list[Pair]:
    """Pairs in which the helpful side is chosen, but for the wrong ones, whose label is turned round."""
    rng = random.Random(seed)
    things = ["rice", "bread", "soup", "a bicycle", "a garden", "the piano", "a letter", "my cat", "the stairs", "a tent"]
    good = [
        "First {}. Then {} and check the result.",
        "You can {}, or {} if you have more time.",
        "I would {} and {} after that.",
    ]
    bad = ["I can't help you with {}.", "Why would you ask about {}?", "No. {} is boring, leave me alone."]
    steps = ["take it slowly", "ask a friend", "clean everything", "write a list", "use cold water", "start early"]
    pairs = []
    for number in range(count):
        thing = rng.choice(things)
        prompt = (turn("user", f"How do I care for {thing}, as number {number} in {subset or 'the club'}?"),)
        chosen = Response(rng.choice(good).format(*rng.sample(steps, 2)))
        rejected = Response(rng.choice(bad).format(thing))
        pair = Pair(prompt, chosen, rejected, (number,), subset)
        pairs.append(replace(pair, chosen=rejected, rejected=chosen) if number in wrong else pair)
    return pairs


def test_contested_finds_swapped_labels_and_little_else():
    wrong = set(range(0, 200, 20))
    pairs = preferring(200, wrong=wrong)
    flagged = {one.pair_id for one in found("contested", pairs)}
    assert flagged == {pairs[number].pair_id for number in wrong}
    everything = list(Contested().flags(pairs))
    assert len(everything) == len(pairs)  # the strength of each is kept
    numbers = json.loads(everything[0].detail)
    assert numbers.keys() == {"subset", "mean", "sd", "against", "votes"}
    assert (numbers["votes"], numbers["against"]) == (10, 10)  # 20 heads, half of which never saw it


def test_subsets_that_pull_apart_are_judged_each_by_itself():
    helpful = preferring(120, wrong=set(), subset="helpful")
    harmless = preferring(120, wrong=set(range(120)), subset="harmless")  # there the curt side is the right one
    assert found("contested", helpful + harmless) == []
    mixed = [replace(pair, subset="") for pair in helpful + harmless]
    assert max(one.score for one in Contested().flags(mixed)) > max(one.score for one in Contested().flags(helpful + harmless))


def test_no_head_judges_what_it_was_trained_on_and_the_margins_are_a_logistic_regressions():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(120, 5)).astype(np.float32) + 0.3
    blocks = np.arange(120) % 4
    margins = contested._margins(features, blocks, 4)
    assert margins.shape == (120, 6)
    assert (np.isnan(margins).sum(axis=1) == 3).all()
    seen = np.isin(blocks, (0, 1))
    both = np.concatenate([features[seen], -features[seen]])  # the same likelihood, written out: each pair and its mirror
    head = LogisticRegression(C=0.5, fit_intercept=False, tol=1e-8).fit(both, np.repeat([1, 0], seen.sum()))
    np.testing.assert_allclose(margins[~seen, 0], features[~seen] @ head.coef_[0], atol=0.02)


def test_pairs_of_one_conversation_are_in_one_block():
    long = pair_of("A.", "B.", "How do I cook rice?", "Like this.", "And then?")
    short = pair_of("C.", "D.", "How do I cook rice?")
    assert contested._block(long, 6) == contested._block(short, 6)


def test_a_system_turn_that_all_pairs_share_does_not_put_them_into_one_block():
    system = turn("system", "You are a helpful assistant.")
    pairs = [replace(pair, prompt=(system, *pair.prompt)) for pair in preferring(200, wrong=set(range(0, 200, 20)))]
    assert {one.pair_id for one in found("contested", pairs)} == {pairs[number].pair_id for number in range(0, 200, 20)}


def test_a_committee_says_how_many_pairs_it_could_judge():
    assert Contested().remark(500, 500) == ""
    assert Contested().remark(0, 40) == "0 of 40 pairs judged: a subset wants 60 for a committee"
    assert Contested(scores="x").remark(3, 4) == "3 of 4 pairs judged: too few have two reward models' scores"


def test_a_subset_too_small_for_a_committee_is_left_alone():
    assert list(Contested().flags(preferring(contested.FEWEST - 1, wrong={1}))) == []
    assert list(Contested().flags([])) == []


def test_the_scores_of_reward_models_take_the_committees_place(tmp_path):
    pairs = [pair_of(f"Good {n}.", f"Bad {n}.", f"Question {n}?") for n in range(4)]
    margins = {"small": [1.0, -2.0, 3.0, -1.0], "large": [10.0, -30.0, -20.0, np.nan]}
    rows = [
        {"pair_id": pair.pair_id, "reward_model": model, "chosen": values[place], "rejected": 0.0}
        for model, values in margins.items()
        for place, pair in enumerate(pairs)
        if not np.isnan(values[place])
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / contested.SCORES)
    flags = {one.pair_id: one for one in Contested(scores="scores.jsonl").judged(pairs, None, tmp_path)}
    assert set(flags) == {pair.pair_id for pair in pairs[:3]}  # the last was scored by one model alone
    spread = {model: np.std(values[:3]) for model, values in margins.items()}
    for place, pair in enumerate(pairs[:3]):
        votes = [margins[model][place] / spread[model] for model in margins]
        numbers = json.loads(flags[pair.pair_id].detail)
        assert numbers["mean"] == pytest.approx(np.mean(votes), abs=1e-4)
        assert numbers["sd"] == pytest.approx(np.std(votes, ddof=1), abs=1e-4)
        assert (numbers["against"], numbers["votes"]) == (sum(vote < 0 for vote in votes), 2)
        assert flags[pair.pair_id].score == pytest.approx(1 / (1 + np.exp(np.mean(votes))))


def test_what_a_filter_that_reads_says_does_not_depend_on_the_order_of_the_pairs(monkeypatch):
    monkeypatch.undo()  # each order is read for itself
    stub, same = pair_of("I'm not sure what you mean by this."), pair_of("Yes it is.", "Yes, it is!")
    pairs = [*preferring(90, wrong={4, 50}), stub, same]
    for name in ("vague", "indistinct"):
        one, other = (set(configured(name, {}).flags(some)) for some in (pairs, pairs[::-1]))
        assert one == other
