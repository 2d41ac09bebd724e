"""Favourite phrases: planted ones are found, length plants none, and counting agrees with scikit-learn's."""

import random

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from curation.favourites import LONGEST, PRIOR, SHORTEST, Favourite, _held, favourites, halves
from curation.pairs import named

WORDS = [f"{first}{second}" for first in "bdfgklmn" for second in ("a", "el", "ino", "obut", "utale")]


def texts_of(count: int, seed: int = 0) -> list[str]:
    """So many texts of a few sentences of made-up words, from 5 to 120 words long."""
    draw = random.Random(seed)
    return [
        " ".join(" ".join(draw.choices(WORDS, k=draw.randint(5, 12))).capitalize() + "." for _ in range(draw.randint(1, 10)))
        for _ in range(count)
    ]


def noise(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=count)


def planted(phrase: str, share: float, lift: float, count: int = 800) -> list[tuple[str, float]]:
    """Texts and noise for scores, where so many hold a phrase more and score so much higher."""
    holds = np.random.default_rng(2).random(count) < share
    texts = [f"{text} {phrase}" if held else text for text, held in zip(texts_of(count), holds, strict=True)]
    return list(zip(texts, (noise(count) + lift * holds).tolist(), strict=True))


def test_a_planted_phrase_is_found_whole_and_as_it_is_written():
    scored = planted("I hope, dear friend, this helps!", share=0.1, lift=1.5)
    n = sum("dear friend" in text for text, _ in scored)
    [found] = favourites(scored, count=1)
    # of its runs of five words, which all have the same responses and the same lift, the first by alphabet
    assert (found.phrase, found.n) == ("hope, dear friend, this helps", n)
    assert found.lift == pytest.approx(1.5, abs=0.3)


def test_the_pieces_of_one_phrase_are_one_favourite_and_two_phrases_are_two():
    one = planted("I hope that this answers your question in full.", share=0.1, lift=2.0)
    two = [
        (f"{text} Warm regards to you." if place % 9 == 0 else text, score + 2.0 * (place % 9 == 0))
        for place, (text, score) in enumerate(one)
    ]
    whole = "answers your question in full"  # of the runs of five words the first by alphabet
    assert {favourite.phrase for favourite in favourites(two, count=2)} == {whole, "Warm regards to you"}
    alone = [favourite.phrase for favourite in favourites(one, count=20)]
    assert alone[0] == whole
    assert [phrase for phrase in alone[1:] if {"hope", "answers", "question", "full"} & set(phrase.split())] == []


def test_no_two_favourites_share_neighbouring_words():
    ends = [(" zig zag zog.", 3.0)] * 60 + [(" zag zog zug.", 2.0)] * 60 + [(" zag zog.", -2.0)] * 200 + [("", 0.0)] * 480
    scored = [(text + end, lift + score) for (end, lift), text, score in zip(ends, texts_of(800), noise(800), strict=True)]
    assert [favourite.phrase for favourite in favourites(scored, count=2)] == ["zig zag zog", "zog zug"]  # not "zag zog zug"


def test_the_lift_is_that_of_a_count_by_hand():
    # all of one length, so one tenth and nothing to set aside: the scores' own mean and deviation
    texts = [f"Yes indeed, one two {place:03}" for place in range(6)] + [f"Red green three 4 {place:05}" for place in range(14)]
    scores = np.array([3.0, 4, 5, 3, 4, 5] + [1.0, 2] * 7)
    standing = (scores - scores.mean()) / scores.std()
    first = favourites(list(zip(texts, scores.tolist(), strict=True)))[0]
    assert first == Favourite("Yes indeed, one two", pytest.approx(standing[:6].mean() - standing[6:].mean()), 6)


def test_a_phrase_of_few_responses_must_stand_out_more():
    def scored(rare_lift: float) -> list[tuple[str, float]]:
        ends = [(" zig zag", rare_lift)] * 20 + [(" ding dong", 1.0)] * 400 + [("", 0.0)] * 1580
        return [
            (text + end, lift + 0.2 * score) for (end, lift), text, score in zip(ends, texts_of(2000), noise(2000), strict=True)
        ]

    def leading(rare_lift: float) -> str:
        return favourites(scored(rare_lift), count=1, fewest=5)[0].phrase

    ratio = (400 / (400 + PRIOR)) / (20 / (20 + PRIOR))  # of the two shrinkages: the rare one needs twice the lift
    assert leading(1.0 * ratio * 0.8) == "ding dong"
    assert leading(1.0 * ratio * 1.6) == "zig zag"
    assert favourites(scored(9.0), count=1, fewest=21)[0].phrase == "ding dong"


@pytest.mark.parametrize(
    "score", [lambda text: len(text.split()), len, lambda text: len(text) ** 0.5, lambda text: -len(text), lambda text: 3]
)
def test_a_score_of_length_alone_has_no_favourites(score):
    texts = [text + " in the end" * (len(text) > 400) for text in texts_of(1500)]  # what only long responses hold
    assert favourites([(text, float(score(text))) for text in texts], fewest=20) == []


def test_length_set_aside_leaves_the_phrase_that_pays():
    scored = [(text, 0.05 * len(text) + score) for text, score in planted("in short", share=0.1, lift=1.5)]
    assert favourites(scored, count=1)[0].phrase == "in short"


def test_neither_the_order_nor_scores_that_are_missing_change_what_is_found():
    scored = planted("by all means", share=0.1, lift=1.0, count=400)
    shuffled = [*scored, ("by no means", float("nan")), ("by some means", float("inf"))]
    random.Random(3).shuffle(shuffled)
    assert favourites(shuffled, count=5) == favourites(scored, count=5) != []


def test_scores_stretched_and_shifted_have_the_same_favourites():
    scored = planted("by all means", share=0.1, lift=1.0, count=400)
    stretched = favourites([(text, 1e4 + 50 * score) for text, score in scored])
    assert [f.phrase for f in stretched] == [f.phrase for f in favourites(scored)]
    assert [f.lift for f in stretched] == pytest.approx([f.lift for f in favourites(scored)])


@pytest.mark.parametrize("scored", [[], [("", 1.0)], [("one", 1.0), ("two", 2.0)], [("a phrase here", 1.0)] * 20])
def test_where_nothing_can_be_learnt_there_are_no_favourites(scored):
    assert favourites(scored) == []


def test_phrases_are_counted_as_scikit_learn_counts_them():
    texts = [text.rstrip(".") for text in texts_of(300)]  # so that only the end of the text ends its last sentence
    count = CountVectorizer(ngram_range=(SHORTEST, LONGEST), min_df=3, binary=True, token_pattern=r"(?u)\w+|[.!?\n]")
    matrix = count.fit_transform(texts)
    known = {
        (name, response)
        for name, column in count.vocabulary_.items() if not set(name) & set(".!?\n")
        for response in matrix[:, [column]].nonzero()[0].tolist()
    }  # fmt: skip
    held = _held(texts, 3)
    ours = {(held.phrases[phrase], response) for phrase, response in zip(held.phrase, held.response.tolist(), strict=True)}
    assert ours == known
    assert {name.count(" ") + 1 for name, _ in known} >= {2, 3}
    assert len(held.phrase) == len(known)  # each pair once


def test_every_prompt_is_in_one_half_and_the_halves_are_about_equal():
    ids = [named("prompt", str(number)) for number in range(2000)]
    drawn = [halves(prompt_id) for prompt_id in ids]
    assert set(drawn) == {0, 1}
    assert 920 < sum(drawn) < 1080  # three and a half standard deviations
    assert drawn == [halves(prompt_id) for prompt_id in ids]
