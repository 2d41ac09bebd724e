"""A reward model's favourite phrases: the runs of words that go with its high scores, length set aside.

They are learnt on one half of the prompts and tried on the other (see `halves`), or the probe would only find again what the
phrases were chosen by.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curation.pairs import named
from curation.stats.accuracy import Numbers

Whole = NDArray[np.int64]
SHORTEST, LONGEST = 2, 5  # words of a phrase
FEWEST, FEWEST_SHARE = 5, 0.01  # responses that hold a phrase, the larger of the two
PRIOR = 25  # responses without any lift that are taken to hold each phrase too
LEAST = 0.05  # standard deviations, of the lift as shrunk by PRIOR; what is below is no favourite
_STEPS = 10  # responses of like length are compared: tenths
_TOKEN = re.compile(r"\w+(?:['’]\w+)*|[.!?\n]")
_BETWEEN = r"[^\w.!?\n]+"
_STOPS = frozenset(".!?\n")


class Favourite(NamedTuple):
    """A phrase as it is most often written, and how much higher responses that hold it score.

    `lift` is in standard deviations of the score among responses of like length; `n` counts the responses that hold it.
    """

    phrase: str
    lift: float
    n: int


class _Held(NamedTuple):
    """Which responses hold which phrases: pairs of a response and a phrase, each pair once, by phrase and then response."""

    response: Whole
    phrase: Whole  # an index into `phrases`
    phrases: list[str]  # tokens with spaces between, in lower case


def halves(prompt_id: str) -> Literal[0, 1]:
    """The half of all prompts that this one belongs to, drawn by its id."""
    return 1 if int(named("half", prompt_id), 16) % 2 else 0


def favourites(scored: Sequence[tuple[str, float]], *, count: int = 3, fewest: int | None = None) -> list[Favourite]:
    """So many phrases of 2 to 5 words that go most with high scores, of (text, score) of responses, the strongest first.

    Counted are phrases within a sentence, capitals aside, in at least `fewest` responses: 1% of them and at least 5. A
    phrase's lift is the mean standing of the responses that hold it minus that of those that do not (see `_standings`). The
    chosen ones have the highest lift x n / (n + 25), the lift there would be had 25 more responses held the phrase without any,
    so that a phrase seen a few times must stand out more; of equals the longer one. A phrase is passed over when it shares
    two neighbouring words with one already chosen, or is mostly found in the same responses. Fewer come back, or none, where
    no other phrase reaches 0.05 of such a lift. Scores that are not finite are left out.
    """
    known = sorted((text, score) for text, score in scored if np.isfinite(score))  # sorted: the order given does not matter
    texts, scores = [text for text, _ in known], np.array([score for _, score in known], np.float64)
    least = max(FEWEST, int(np.ceil(FEWEST_SHARE * len(texts)))) if fewest is None else fewest
    held = _held(texts, least)
    n = np.bincount(held.phrase, minlength=len(held.phrases))
    standing = _standings(scores, texts)
    inside = np.bincount(held.phrase, standing[held.response], minlength=len(held.phrases))
    outside = (standing.sum() - inside) / np.maximum(len(texts) - n, 1)
    lift = np.where(n < len(texts), inside / np.maximum(n, 1) - outside, 0.0)
    return [
        Favourite(_written(held.phrases[index], texts, held.response[held.phrase == index]), float(lift[index]), int(n[index]))
        for index in _apart(held, lift * n / (n + PRIOR), count)
    ]


def _standings(scores: Numbers, texts: Sequence[str]) -> Numbers:
    """How far each score is above those of responses of like length, in their standard deviations.

    Like length: the same tenth by words. Within a tenth the longer ones still hold more phrases, so the distance is that from
    the least-squares plane of score on words and characters there. A tenth in which all score the same tells nothing: 0.
    """
    standing = np.zeros(len(scores))
    if not len(scores):
        return standing
    lengths = np.array([(len(text.split()), len(text)) for text in texts], np.float64)
    tenth = np.searchsorted(np.quantile(lengths[:, 0], np.arange(1, _STEPS) / _STEPS), lengths[:, 0])
    for step in np.unique(tenth):
        inside = tenth == step
        score, length = (values[inside] - values[inside].mean(axis=0) for values in (scores, lengths))
        spread = score.std()
        if spread > 1e-9 * max(1.0, float(np.abs(scores[inside]).max())):
            standing[inside] = (score - length @ np.linalg.lstsq(length, score)[0]) / spread
    return standing


def _held(texts: Sequence[str], fewest: int) -> _Held:
    """The phrases in at least `fewest` texts and who holds them.

    A phrase is that frequent only where it is without its last word, so each length grows from what was left of the one before.
    """
    tokens = [_TOKEN.findall(text.lower()) for text in texts]
    response = np.repeat(np.arange(len(texts)), [len(one) for one in tokens])
    words = sorted({token for one in tokens for token in one} - _STOPS)
    number = {word: index for index, word in enumerate(words)}
    word = np.array([number.get(token, -1) for one in tokens for token in one], np.int64)  # of each token; -1 ends a sentence
    begun, names = word, words  # the phrase that begins at each token, -1 for none that is frequent; the phrases' names
    phrases, held = list[str](), [np.empty((0, 2), np.int64)]
    for length in range(SHORTEST, LONGEST + 1):
        last = _ahead(word, length - 1)
        fits = np.flatnonzero((begun >= 0) & (last >= 0) & (_ahead(response, length - 1) == response))
        codes, phrase, holders = _frequent(begun[fits] * len(words) + last[fits], response[fits], fewest)
        begun = np.full(len(word), -1)
        begun[fits] = phrase
        names = [f"{names[code // len(words)]} {words[code % len(words)]}" for code in codes.tolist()]
        held.append(holders + np.array([len(phrases), 0]))
        phrases += names
    pairs = np.concatenate(held)
    return _Held(pairs[:, 1], pairs[:, 0], phrases)


def _ahead(values: Whole, steps: int) -> Whole:
    """For each place the value so many places further on, -1 beyond the end."""
    return np.append(values, np.full(steps, -1))[steps:]


def _frequent(codes: Whole, response: Whole, fewest: int) -> tuple[Whole, Whole, Whole]:
    """The codes in at least so many responses; for each place the index among them, -1 for others; (index, response) pairs."""
    distinct, index = np.unique(codes, return_inverse=True)
    holders = np.unique(np.column_stack([index, response]), axis=0)
    frequent = np.bincount(holders[:, 0], minlength=len(distinct)) >= fewest
    renumbered = np.where(frequent, np.cumsum(frequent) - 1, -1)
    kept = holders[frequent[holders[:, 0]]]
    return distinct[frequent], renumbered[index], np.column_stack([renumbered[kept[:, 0]], kept[:, 1]])


def _apart(held: _Held, worth: Numbers, count: int) -> Iterator[int]:
    """The phrases of most worth that do not overlap those before them."""
    chosen: list[tuple[set[str], set[int]]] = []
    for index in sorted(
        np.flatnonzero(worth >= LEAST).tolist(), key=lambda one: (-worth[one], -held.phrases[one].count(" "), one)
    ):
        if len(chosen) == count:
            return
        couples, holders = _couples(held.phrases[index]), set(held.response[held.phrase == index].tolist())
        if all(
            not (couples & other) and 2 * len(holders & theirs) <= min(len(holders), len(theirs)) for other, theirs in chosen
        ):
            chosen.append((couples, holders))
            yield index


def _couples(phrase: str) -> set[str]:
    words = phrase.split(" ")
    return {f"{one} {other}" for one, other in pairwise(words)}


def _written(phrase: str, texts: Sequence[str], holders: Whole) -> str:
    """The phrase as most of its holders write it, with their capitals and commas; of equals the first by alphabet."""
    pattern = re.compile(rf"(?<!\w){_BETWEEN.join(map(re.escape, phrase.split(' ')))}(?!\w)", re.IGNORECASE)
    forms = Counter(" ".join(form[0].split()) for index in holders for form in [pattern.search(texts[index])] if form)
    return min(forms, key=lambda form: (-forms[form], form), default=phrase)
