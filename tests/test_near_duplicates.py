"""Near duplicates: planted ones with known answers, and the same found by comparing every pair with every other."""

import json
import os
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations, pairwise

import pytest

from curation.filters import near
from curation.filters.base import Flag
from curation.filters.duplicate import Duplicate
from curation.filters.near import Nearness
from curation.pairs import Pair, Response, turn

ASKED = "How do I cook rice so that it does not stick to the pot?"
GOOD = "Rinse the rice until the water runs clear, then simmer it under a lid for fifteen minutes and let it rest."
BAD = "I once went to a market where a man sold eleven kinds of rice, and none of them was cheap or came in a bag."
NAMES = "amber birch cedar delta ember fjord grove haven inlet jetty knoll ledge marsh north ocean plain quarry ridge"


def pair_of(chosen: str, rejected: str, *asked: str, row: int = 0) -> Pair:
    """A pair of responses to these turns, which alternate and end with the human's."""
    roles = ("user", "assistant") if len(asked) % 2 else ("assistant", "user")
    prompt = tuple(turn(roles[index % 2], text) for index, text in enumerate(asked))
    return Pair(prompt, Response(chosen), Response(rejected), (row,))


def found(pairs: Iterable[Pair]) -> list[Flag]:
    return list(Duplicate().flags(pairs))


def numbered(*pairs: Pair) -> list[Pair]:
    return [replace(pair, rows=(row,)) for row, pair in enumerate(pairs)]


def clusters(flags: Iterable[Flag]) -> set[frozenset[str]]:
    named = defaultdict(set)
    for flag in flags:
        named[json.loads(flag.detail)["cluster"]].add(flag.pair_id)
    return {frozenset(members) for members in named.values()}


def noun(number: int) -> str:
    """A made-up word for this number."""
    names = NAMES.split()
    return "".join(names[number // 18**place % 18] for place in range(3))


def prose(rng: random.Random, words: int) -> str:
    return " ".join(noun(rng.randrange(3000)) for _ in range(words))


def edited(rng: random.Random, text: str, share: float) -> str:
    return " ".join(noun(3000 + rng.randrange(2000)) if rng.random() < share else word for word in text.split())


def texts_of(pair: Pair) -> tuple[str, str, str]:
    return pair.chosen.text, pair.rejected.text, pair.prompt[-1].content


def some_pairs(count: int = 300) -> list[Pair]:
    """Pairs of random words, and beside each third of them up to three edits of it, of which some are turned round."""
    rng = random.Random(7)
    pairs: list[Pair] = []
    while len(pairs) < count:
        base = pair_of(prose(rng, rng.randint(5, 80)), prose(rng, rng.randint(5, 80)), prose(rng, rng.randint(4, 15)))
        pairs.append(base)
        for _ in range(rng.choice((0, 0, 1, 2, 3))):
            share = rng.choice((0.0, 0.02, 0.05, 0.1, 0.2))
            one = pair_of(*(edited(rng, text, share) for text in texts_of(base)))
            pairs.append(one.swapped() if rng.random() < 0.3 else one)
    rng.shuffle(pairs)
    return numbered(*{pair.pair_id: pair for pair in pairs}.values())


# planted


@pytest.mark.parametrize(
    ("again", "alike"),
    [
        (pair_of(GOOD.upper(), BAD.replace(",", " --"), ASKED.lower()), 1.0),
        (pair_of(GOOD.replace("simmer", "boil"), BAD, ASKED), 61 / 65),  # of 63 pairs of words two are others
        (pair_of(GOOD, BAD, "Hello!", "Hello. What can I do for you?", ASKED), 1.0),
    ],
    ids=["case and punctuation", "one word", "an earlier conversation"],
)
def test_a_pair_said_again_with_little_changed_is_found_and_says_where_and_how_alike(again, alike):
    pair, again = numbered(pair_of(GOOD, BAD, ASKED), again)
    flags = found([pair, again])
    shown = f"{int(100 * alike)}% alike to its nearest"
    assert [(flag.pair_id, flag.side, flag.reason) for flag in flags] == [
        (pair.pair_id, "pair", f"1 other pair is nearly the same in row 1: {shown}"),
        (again.pair_id, "pair", f"1 other pair is nearly the same in row 0: {shown}"),
    ]
    name = min(pair.pair_id, again.pair_id)[:12]
    for flag in flags:
        assert flag.score == pytest.approx(0.9 * alike)
        assert json.loads(flag.detail) == {"cluster": name, "size": 2, "alike": round(alike, 3), "swapped": False}


def test_a_swapped_label_is_told_and_scores_higher_than_the_same_label():
    turned = pair_of(BAD, GOOD.replace("simmer", "boil"), ASKED)
    (one, other) = found(numbered(pair_of(GOOD, BAD, ASKED), turned))
    assert one.reason.endswith("93% alike to its nearest with the label swapped")
    assert one.score == other.score == pytest.approx(61 / 65)
    assert json.loads(one.detail)["swapped"] is True


def test_a_near_pair_with_the_label_swapped_is_told_though_a_nearer_one_has_it_the_same():
    turned = pair_of(BAD, GOOD.replace("simmer", "boil"), ASKED)
    first = found(numbered(pair_of(GOOD, BAD, ASKED), pair_of(GOOD.upper(), BAD, ASKED), turned))[0]
    assert first.reason == (
        "2 other pairs are nearly the same in rows 1, 2: 100% alike to its nearest, 93% alike to one with the label swapped"
    )
    assert first.score == pytest.approx(61 / 65)  # more than the 0.9 of the same label


def test_what_is_exactly_the_same_keeps_its_words_and_near_ones_are_added():
    pair = pair_of(GOOD, BAD, ASKED)
    exact = [replace(pair, rows=(0, 4)), replace(pair.swapped(), rows=(1,))]
    near_one = pair_of(GOOD.replace("simmer", "boil"), BAD, ASKED, row=2)
    flags = found([*exact, near_one])
    assert flags[0].reason == (
        "the same responses stand with the label swapped in row 1, and the same pair comes 2 times in rows 0, 4, "
        "and 2 other pairs are nearly the same in rows 1, 2: 100% alike to its nearest with the label swapped"
    )
    assert [flag.score for flag in flags] == [1.0, 1.0, pytest.approx(61 / 65)]
    assert {json.loads(flag.detail)["size"] for flag in flags} == {4}


def chain() -> list[Pair]:
    """Each like the next; the last is like the first no more."""
    texts = [GOOD]
    for words in (("Rinse", "Wash"), ("simmer", "boil"), ("fifteen minutes", "a quarter hour")):
        texts.append(texts[-1].replace(*words))
    longer = [text.replace(".", f", says {name}.") for text, name in zip(texts, ("Ann", "Bob", "Cy", "Di"), strict=True)]
    return numbered(*(pair_of(text, "No idea, I am sorry to say, but ask a cook.", ASKED) for text in longer))


def test_a_chain_is_one_cluster_though_its_ends_are_far_apart():
    pairs = chain()
    assert len(clusters(found([pairs[0], pairs[3]]))) == 0
    (cluster,) = clusters(found(pairs))
    assert cluster == {pair.pair_id for pair in pairs}


@pytest.mark.parametrize(
    "other",
    [
        pair_of(BAD[::-1], GOOD[::-1], "Tell me a joke.", "A man walks into a bar.", "And which wine goes with it?"),
        pair_of(GOOD, BAD, "Tell me a joke.", "A man walks into a bar.", "Where did you get your rice last year?"),
        pair_of(GOOD, "Ask someone else, I am only here for the weather.", "Tell me.", "A man walks into a bar.", ASKED),
        pair_of(BAD, "Ask someone else, I am only here for the weather.", "Tell me.", "A man walks into a bar.", ASKED),
    ],
    ids=["conversation shared", "other question", "other rejected", "one response on the other side"],
)
def test_pairs_that_share_a_part_only_are_no_duplicates(other):
    assert found(numbered(pair_of(GOOD, BAD, "Tell me a joke.", "A man walks into a bar.", ASKED), other)) == []


def test_stock_answers_in_other_conversations_are_no_duplicates():
    stub = ("You're welcome!", "You're welcome! Is there anything else I can help you with?")
    prompts = [("Hi", "Hello!", "Thanks!"), ("Is it far?", "No.", "Thanks!"), ("Thank you so much for that!",)]
    assert found(numbered(*(pair_of(*stub, *prompt) for prompt in prompts))) == []


def test_short_pairs_are_found_where_only_case_spaces_and_punctuation_differ():
    asked = ("Is it far?", "No.", "Thanks!")
    again = pair_of("Youre  welcome", "no PROBLEM", "is it far", "No!", "thanks")
    pair, other = pair_of("You're welcome!", "No problem.", *asked), pair_of("Fine.", "Bye.", *asked)
    flags = found(numbered(pair, again.swapped(), other))
    assert [flag.score for flag in flags] == [1.0, 1.0]
    assert found(numbered(pair_of("You're welcome!", "No trouble.", *asked), again)) == []
    assert found(numbered(pair_of("Great 👍", "No.", *asked), pair_of("Great 👎", "No.", *asked))) == []


def test_scripts_without_spaces_are_compared_by_their_characters():
    chosen = "先把鸡蛋打散炒熟盛出，再炒番茄出汁，最后一起翻炒放盐。"
    rejected = "番茄炒蛋是一道家常菜，很多人都喜欢吃，你可以去饭馆里点。"
    asked = "番茄炒蛋应该怎么做才好吃呢？"
    pair = pair_of(chosen, rejected, asked)
    assert len(found(numbered(pair, pair_of(chosen.replace("盛出", "出锅"), rejected, asked)))) == 2
    assert found(numbered(pair, pair_of("我不太会做饭，不如你去网上找一个菜谱，跟着它一步一步来。", rejected, asked))) == []


def test_composed_and_decomposed_letters_are_the_same():
    text = "Le café était très bon, mais la crème brûlée était déjà finie quand nous sommes arrivés à la fenêtre."
    other = text.replace("é", "e\u0301").replace("è", "e\u0300")
    assert [flag.score for flag in found(numbered(pair_of(text, BAD, ASKED), pair_of(other, BAD, ASKED)))] == [0.9, 0.9]


def test_empty_sides_and_no_prompt_are_compared_like_others():
    assert found(numbered(pair_of("", GOOD, ASKED), pair_of("", BAD, ASKED), pair_of("", "", ASKED))) == []
    assert found(numbered(pair_of("", "", "One?"), pair_of("", "", "Two?"), pair_of("", "", ""), pair_of("", ""))) == []
    changed = pair_of("", (GOOD + BAD).replace("simmer", "boil"), ASKED)
    assert len(found(numbered(pair_of("", GOOD + BAD, ASKED), changed))) == 2
    assert len(found(numbered(pair_of(GOOD, BAD), pair_of(GOOD.replace("simmer", "boil"), BAD)))) == 2


def test_two_sides_that_are_alike_make_no_swapped_label():
    one, other, third = (GOOD.replace("simmer", word) for word in ("simmer", "boil", "steam"))
    flags = found(numbered(pair_of(one, other, ASKED), pair_of(one, third, ASKED)))
    assert [json.loads(flag.detail)["swapped"] for flag in flags] == [False, False]


# the whole dataset


def shingles(text: str) -> set[tuple[str, str]]:
    words = ["", *text.split(), ""]
    return set(pairwise(words))


def jaccard(pair: Sequence[str], other: Sequence[str]) -> float:
    """How alike the responses and turn of two pairs are; 0 where one of the three is less than half alike."""
    sets = [(shingles(one), shingles(two)) for one, two in zip(pair, other, strict=True)]
    if any(len(one & two) < near.PART * len(one | two) for one, two in sets):
        return 0.0
    return sum(len(one & two) for one, two in sets) / sum(len(one | two) for one, two in sets)


def every_link(pairs: Sequence[Pair]) -> Iterator[tuple[str, str, float, bool]]:
    """All pairs of pairs that are near, by comparing each with each; True where the label is swapped."""
    for one, other in combinations(pairs, 2):
        chosen, rejected, asked = texts_of(other)
        same, turned = jaccard(texts_of(one), texts_of(other)), jaccard(texts_of(one), (rejected, chosen, asked))
        if max(same, turned) >= near.FLOOR:
            yield one.pair_id, other.pair_id, max(same, turned), turned > same


def test_findings_are_those_of_comparing_every_pair_with_every_other():
    pairs = [pair for pair in some_pairs() if len(" ".join(texts_of(pair)).split()) >= 30]
    nearest: dict[str, tuple[float, bool]] = {}
    linked: dict[str, set[str]] = {pair.pair_id: {pair.pair_id} for pair in pairs}
    for one, other, alike, turned in every_link(pairs):
        for name in (one, other):
            nearest[name] = max(nearest.get(name, (0.0, False)), (alike, turned))
        together = linked[one] | linked[other]
        linked.update(dict.fromkeys(together, together))
    expected = {frozenset(names) for names in linked.values() if len(names) > 1}
    flags = found(pairs)
    assert len(expected) > 40
    assert {json.loads(flag.detail)["swapped"] for flag in flags} == {True, False}
    assert {flag.pair_id: json.loads(flag.detail)["alike"] for flag in flags} == {
        name: round(alike, 3) for name, (alike, _) in nearest.items()
    }
    assert clusters(flags) == expected


def test_the_order_of_the_dataset_changes_no_finding():
    pairs = [*some_pairs(), *chain()]
    findings = {(flag.pair_id, flag.score, flag.detail) for flag in found(pairs)}
    assert len(findings) > 50
    for seed in range(3):
        mixed = random.Random(seed).sample(pairs, len(pairs))
        assert {(flag.pair_id, flag.score, flag.detail) for flag in found(mixed)} == findings


@pytest.mark.parametrize("held", [1, 100, 1_000_000])
def test_how_many_words_are_held_at_once_changes_nothing(held, monkeypatch):
    flags = found(some_pairs())
    monkeypatch.setattr(near, "_HELD", held)
    monkeypatch.setattr(near, "_STEP", held)
    assert found(iter(some_pairs())) == flags


def test_another_process_finds_the_same():
    script = "from tests.test_near_duplicates import *; print(*(one.detail for one in found(some_pairs())))"
    details = " ".join(flag.detail for flag in found(some_pairs()))
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        process = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
        assert process.stdout.strip() == details


def test_nothing_is_found_where_all_is_different():
    rng = random.Random(3)
    pairs = numbered(*(pair_of(prose(rng, 40), prose(rng, 40), prose(rng, 10)) for _ in range(2000)))
    nearness = Nearness()
    for pair in pairs:
        nearness.add(pair)
    assert nearness.members([pair.pair_id for pair in pairs]) == {}
    assert nearness.comparisons < 10


def identical(rng: random.Random, number: int) -> Pair:
    return pair_of(GOOD, BAD, f"Conversation {number}", "Yes?", ASKED)


def one_answer(rng: random.Random, number: int) -> Pair:
    return pair_of(GOOD * 5, BAD * 5, prose(rng, 8))


def little_changed(rng: random.Random, number: int) -> Pair:
    return pair_of(edited(rng, GOOD, 0.1), edited(rng, BAD, 0.1), edited(rng, ASKED, 0.1))


@pytest.mark.parametrize("kind", [identical, one_answer, little_changed])
def test_thousands_alike_are_compared_a_number_of_times_that_grows_with_them_alone(kind):
    comparisons = []
    for count in (1000, 4000):
        rng, nearness = random.Random(1), Nearness()
        for number in range(count):
            nearness.add(kind(rng, number))
        members = nearness.members([f"{number:08}" for number in range(count)])
        comparisons.append(nearness.comparisons / count)
        if kind is identical:
            assert len(members) == count
            assert len({member.cluster for member in members.values()}) == 1
    assert comparisons[1] < 1.3 * comparisons[0]
    assert comparisons[1] < (near._BANDS + 1) * near._ROUNDS
