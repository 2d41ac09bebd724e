"""Baselines: each filter as a cleaning script would write it in a line or two, and one threshold on length."""

import re
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from difflib import SequenceMatcher
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curation.pairs import Pair

Texts = list[tuple[str, str]]  # chosen and rejected response of each row

_NOT_KNOWING = re.compile(r"\bI (?:don't|do not) (?:know|understand)\b|\bI'?m not sure\b|\bwhat do you mean\b", re.IGNORECASE)
_RUDE = re.compile(
    r"\b(?:f+u+ck\w*|sh[i1]t\w*|bitch\w*|ass(?:hole)?s?|bastards?|cunts?|dicks?|crap|damn|idiots?|morons?|retard\w*|stupid|dumb)\b",
    re.IGNORECASE,
)
_REPEATED, _SHORTEST, _SHORTER = 98, 2, 90  # percentiles


def split(pair: Pair) -> tuple[str, str]:
    """The responses as the DPO reference code cuts them: both transcripts where the chosen one's last answer begins.

    Where the two contexts differ, the rejected one is cut in the wrong place, as it is there.
    """
    chosen, rejected = pair.transcripts()
    cut = chosen.rfind("\n\nAssistant:") + len("\n\nAssistant:")
    return chosen[cut:], rejected[cut:]


def repeated(text: str) -> float:
    """The share of a text's 4-grams that stand in it before."""
    words = text.lower().split()
    grams = list(zip(words, words[1:], words[2:], words[3:], strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _either(texts: Texts, true: Callable[[str], object]) -> set[int]:
    return {row for row, sides in enumerate(texts) if any(true(side) for side in sides)}


def _repetitive(texts: Texts) -> set[int]:
    shares = np.array([[repeated(side) for side in sides] for sides in texts])
    line = max(float(np.percentile(shares, _REPEATED)), 1e-9)
    return set(np.flatnonzero((shares >= line).any(axis=1)).tolist())


def _vague(texts: Texts) -> set[int]:
    line = np.percentile([len(side) for sides in texts for side in sides], _SHORTEST)
    return _either(texts, lambda text: len(text) < line or _NOT_KNOWING.search(text))


def _alike(one: str, other: str) -> bool:
    match = SequenceMatcher(None, one, other)  # the two quick ratios are upper bounds of the slow one
    return one == other or (match.real_quick_ratio() > 0.95 and match.quick_ratio() > 0.95 and match.ratio() > 0.95)


def _duplicate(pairs: Sequence[Pair]) -> set[int]:
    seen: dict[tuple[str, str], list[int]] = {}
    for row, pair in enumerate(pairs):
        seen.setdefault(pair.transcripts(), []).append(row)
    return {row for rows in seen.values() if len(rows) > 1 for row in rows}


def _contested(texts: Texts) -> set[int]:
    """Longest is best: those whose chosen side is shorter than the rejected one by more than nine in ten."""
    behind = np.array([len(rejected) - len(chosen) for chosen, rejected in texts])
    return set(np.flatnonzero((behind > 0) & (behind >= np.percentile(behind, _SHORTER))).tolist())


_FORMS: dict[str, Callable[[Texts, Sequence[Pair]], set[int]]] = {
    "empty": lambda texts, pairs: _either(texts, lambda text: not text.strip()),
    "transcript": lambda texts, pairs: _either(texts, lambda text: "Human:" in text),
    "repetitive": lambda texts, pairs: _repetitive(texts),
    "vague": lambda texts, pairs: _vague(texts),
    "indistinct": lambda texts, pairs: {row for row, sides in enumerate(texts) if _alike(*sides)},
    "duplicate": lambda texts, pairs: _duplicate(pairs),
    "toxic": lambda texts, pairs: _either(texts, _RUDE.search),
    "contested": lambda texts, pairs: _contested(texts),
}


def flagged(pairs: Sequence[Pair], filters: Iterable[str] = tuple(_FORMS)) -> dict[str, set[int]]:
    """The rows the simplest form of each of these filters flags."""
    texts = [split(pair) for pair in pairs]
    return {name: _FORMS[name](texts, pairs) for name in filters}


DESCRIBED = {
    "empty": 'strip() == ""',
    "transcript": '"Human:" in the response',
    "repetitive": f"share of repeated 4-grams in the top {100 - _REPEATED}%",
    "vague": f'shortest {_SHORTEST}%, or a regex of "I don\'t know"',
    "indistinct": "difflib ratio over 0.95",
    "duplicate": "exact set",
    "toxic": "profanity regex",
    "contested": f"chosen shorter than rejected, the top {100 - _SHORTER}%",
}


# ---- length alone

_MEASURES: dict[str, Callable[[str, str], int]] = {
    "shorter side": lambda chosen, rejected: min(len(chosen), len(rejected)),
    "longer side": lambda chosen, rejected: max(len(chosen), len(rejected)),
    "difference": lambda chosen, rejected: abs(len(chosen) - len(rejected)),
    "chosen - rejected": lambda chosen, rejected: len(chosen) - len(rejected),
}


class LengthRule(NamedTuple):
    """Flags pairs whose measure, in characters, is at most (`below`) or at least `line`."""

    measure: str
    below: bool
    line: int

    def __str__(self) -> str:
        return f"{self.measure} {'<=' if self.below else '>='} {self.line}"

    def flagged(self, pairs: Sequence[Pair]) -> set[int]:
        """The rows this rule flags."""
        values = _measured(pairs, self.measure)
        return set(np.flatnonzero(values <= self.line if self.below else values >= self.line).tolist())


def best_length_rule(pairs: Sequence[Pair], planted: AbstractSet[int], background: AbstractSet[int]) -> LengthRule:
    """Of all measures, directions and lines the one with the highest F1, chosen in hindsight with the key in hand."""
    rows = np.array(sorted(planted | background))
    right = np.array([row in planted for row in rows])
    best, rule = -1.0, LengthRule("shorter side", True, 0)
    for measure in _MEASURES:
        values = _measured(pairs, measure)[rows]
        for below in (True, False):
            order = np.argsort(values if below else -values, kind="stable")
            ordered, found = values[order], np.cumsum(right[order])
            last = np.append(ordered[1:] != ordered[:-1], True)  # a line takes in all of one value
            f1 = np.where(last, 2 * found / (np.arange(1, len(rows) + 1) + right.sum()), -1.0)
            place = int(np.argmax(f1))
            if f1[place] > best:
                best, rule = float(f1[place]), LengthRule(measure, below, int(ordered[place]))
    return rule


def shortest_chosen(pairs: Sequence[Pair], count: int) -> set[int]:
    """So many rows, those whose chosen side is the furthest behind the rejected one in length."""
    return set(np.argsort(_measured(pairs, "chosen - rejected"), kind="stable")[:count].tolist())


def _measured(pairs: Sequence[Pair], measure: str) -> NDArray[np.int64]:
    return np.array([_MEASURES[measure](*split(pair)) for pair in pairs], np.int64)
