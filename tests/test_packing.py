"""Rows that share beginnings: nothing lost, nothing twice, never more tokens, and the very numbers of texts read alone."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from tests.tiny_models import WORDS, tiny_classifier, tiny_tokenizer
from training.rewards.base import Conversation, Message, Scorer
from training.rewards.packing import WORTH, Row, batches, common, rows
from training.rewards.registry import family

Texts = list[list[int]]


def naive(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens in common at the beginning, without the last of either, counted one by one."""
    count = 0
    while count < min(len(one), len(other)) - 1 and one[count] == other[count]:
        count += 1
    return count


def random_texts(seed: int, *, count: int = 60) -> Texts:
    """Texts over few tokens, many alike: new ones, longer and shorter forms of others, others with a new end, copies."""
    rng = Random(seed)

    def some(most: int) -> list[int]:
        return [rng.randrange(3) for _ in range(rng.randint(1, most))]

    found: Texts = [some(40)]
    while len(found) < count:
        old = rng.choice(found)
        kept = old[: rng.randint(1, len(old))]
        found.append(rng.choice([some(40), old + some(20), kept, kept + some(20), list(old)]))
    return found


def alone(texts: Texts) -> int:
    return sum(map(len, texts))


def computed(packed: Sequence[Row]) -> int:
    return sum(row.length for row in packed)


SEEDS = range(40)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_text_is_in_one_row_which_is_as_long_as_it_says_and_never_longer_than_its_texts(seed: int) -> None:
    texts = random_texts(seed)
    packed = rows(texts)
    assert sorted(place for row in packed for place in row.places) == list(range(len(texts)))
    for row in packed:
        together = [texts[place] for place in row.places]
        assert row.length == row.shared + sum(len(one) - row.shared for one in together)
        assert row.length <= alone(together)
        assert all(one[: row.shared] == together[0][: row.shared] for one in together)
        assert row.shared < min(map(len, together))  # the last token of a text is never shared: its score is read there
        assert row.shared >= WORTH if len(together) > 1 else row.shared == 0
    assert computed(packed) < alone(texts)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_row_of_several_texts_grows_beyond_what_is_allowed(seed: int) -> None:
    texts = random_texts(seed)
    packed = rows(texts, longest=50)
    assert sorted(place for row in packed for place in row.places) == list(range(len(texts)))
    assert all(row.length <= 50 for row in packed if len(row.places) > 1)
    assert any(len(row.places) > 1 for row in packed)
    assert computed(packed) <= alone(texts)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_texts_give_the_same_rows_and_in_another_order_rows_as_long(seed: int) -> None:
    texts = random_texts(seed)
    assert rows(texts) == rows([list(one) for one in texts])
    moved = Random(seed).sample(texts, len(texts))
    shapes = [sorted((row.shared, row.length, len(row.places)) for row in rows(one)) for one in (texts, moved)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("seed", SEEDS)
def test_what_two_texts_have_in_common_is_what_counting_finds(seed: int) -> None:
    texts = random_texts(seed)
    for one, other in zip(texts, Random(seed).sample(texts, len(texts)), strict=True):
        assert common(one, other) == common(other, one) == naive(one, other)
        assert common(tuple(one), other) == naive(one, other)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1], [1], 0),
        ([1], [1, 2, 3], 0),
        ([1, 2, 3], [1, 2, 3], 2),
        ([1, 2, 3], [1, 2, 3, 4], 2),
        ([1, 2, 3], [2, 2, 3], 0),
        ([1, 2, 3, 4, 9], [1, 2, 3, 5, 9], 3),
    ],
)
def test_the_last_token_of_a_text_is_never_in_common(one: list[int], other: list[int], expected: int) -> None:
    assert common(one, other) == common(other, one) == expected


def test_the_two_sides_of_a_pair_share_their_prompt_and_pairs_that_begin_alike_do_not_take_it_from_them() -> None:
    rng = Random(0)
    begins = [rng.randrange(50) for _ in range(12)]  # a system message, the same in every prompt
    prompts = [[*begins, number, *(rng.randrange(50) for _ in range(20))] for number in range(30)]
    texts = [[*prompt, side, *(rng.randrange(50) for _ in range(9))] for prompt in prompts for side in (100, 101)]
    order = rng.sample(range(len(texts)), len(texts))
    found = {frozenset(order[place] // 2 for place in row.places): row for row in rows([texts[place] for place in order])}
    assert set(found) == {frozenset([number]) for number in range(30)}
    assert all((row.shared, row.length) == (33, 33 + 10 + 10) for row in found.values())


def test_a_text_joins_a_row_only_where_that_saves_tokens() -> None:
    long, short = [1] * 30, [1] * WORTH
    assert rows([[*long, 2, 2], [*long, 3, 3], [*short, 4, 4]]) == [Row((0, 1), 30, 34), Row((2,), 0, WORTH + 2)]
    assert rows([[*short, 5], [*short, 6], [*short, 7]]) == [Row((0, 1, 2), WORTH, WORTH + 3)]
    assert [row.places for row in rows([[*short[1:], 5], [*short[1:], 6]])] == [(0,), (1,)]  # too little to be worth it


def test_two_of_one_prompt_share_it_where_two_that_are_more_alike_stand_between_them() -> None:
    prompt = [1] * 20
    texts = [[*prompt, 2, 9], [*prompt, 3, *[4] * 50, 5], [*prompt, 3, *[4] * 50, 6], [*prompt, 7, 9]]
    assert rows(texts) == [Row((1, 2), 71, 73), Row((0, 3), 20, 24)]


def test_without_sharing_every_text_is_a_row_and_a_text_without_tokens_is_refused() -> None:
    assert rows([[1, 2], [1, 2], [3]], share=False) == [Row((0,), 0, 2), Row((1,), 0, 2), Row((2,), 0, 1)]
    assert rows([]) == []
    with pytest.raises(ValueError, match="text 1 has no tokens"):
        rows([[1], [], []])


@pytest.mark.parametrize("seed", range(5))
def test_batches_hold_every_row_once_within_the_budget(seed: int) -> None:
    packed = rows(random_texts(seed))
    found = batches(packed, budget=80, at_most=4)
    assert sorted(place for some in found for place in some) == list(range(len(packed)))
    assert all(len(some) == 1 or len(some) * max(packed[place].length for place in some) <= 80 for some in found)
    assert max(map(len, found)) == 4
    firsts = [packed[some[0]].length for some in found]
    assert firsts == sorted(firsts, reverse=True)


def test_on_hh_sharing_saves_a_third_of_the_tokens_about_as_many_as_each_pair_by_itself(data: Path) -> None:
    ids: dict[str, int] = {}
    texts: Texts = []
    with gzip.open(data / "hh-rlhf" / "harmless-base" / "test.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            texts += ([ids.setdefault(word, len(ids)) for word in row[side].split()] for side in ("chosen", "rejected"))
    packed = rows(texts)
    assert sorted(place for row in packed for place in row.places) == list(range(2 * 2312))
    by_itself = sum(computed(rows(texts[at : at + 2])) for at in range(0, len(texts), 2))
    assert computed(packed) < 0.66 * alone(texts)
    assert computed(packed) < 1.005 * by_itself


# ---- with a model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = Path(tmp_path_factory.mktemp("classifier"))
    tiny_tokenizer(place)
    tiny_classifier(place)
    return place


def conversations() -> tuple[list[Conversation], list[Conversation]]:
    """Prompts and responses: pairs, prompts that go on, copies, responses that begin others, empty ones, and long ones."""
    rng = Random(1)
    words = " ".join(WORDS).split()

    def say(most: int) -> str:
        return " ".join(rng.choice(words) for _ in range(rng.randint(0, most)))

    prompts: list[Conversation] = []
    responses: list[Conversation] = []
    for number in range(60):
        asked: Conversation = (Message("user", say(30)),)
        if number % 3 == 0:
            asked = (
                Message("system", "be kind to the lazy dog"),
                *asked,
                Message("assistant", say(20)),
                Message("user", say(9)),
            )
        answer = say(120 if number % 10 == 0 else 25)
        for one in (answer, say(25), answer, answer[: len(answer) // 2], f"{answer} {say(9)}"):
            prompts.append(asked)
            responses.append((Message("assistant", one),))
    return prompts, responses


def opened(folder: Path, **settings: Any) -> Any:
    return family("classifier", {"source": str(folder), **settings}).load(device="cpu")


def plain(scorer: Any, prompts: Sequence[Conversation], responses: Sequence[Conversation]) -> Any:
    scorer.machine.shares = False
    return Scorer.score(scorer, prompts, responses)


@pytest.mark.parametrize("settings", [{}, {"max_length": 60}, {"batch_tokens": 300}])
def test_scores_of_shared_rows_are_those_of_texts_read_alone(folder: Path, settings: dict[str, int]) -> None:
    prompts, responses = conversations()
    scorer = opened(folder, **settings)
    assert scorer.machine.shares
    shared, apart = scorer.score(prompts, responses), plain(scorer, prompts, responses)
    assert shared.truncated == apart.truncated
    assert (shared.truncated > 50) == ("max_length" in settings)
    assert shared.tokens < 0.9 * apart.tokens
    assert np.ptp(apart.values) > 0.1  # or every number would do
    np.testing.assert_allclose(shared.values, apart.values, atol=1e-5, rtol=0)
