"""How often a reward model scores the chosen response above the rejected one, and how that compares with other models.

`margins` is everywhere score(chosen) - score(rejected), one a pair, NaN where a pair was not scored. Such pairs are left out,
and n counts the rest.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curation.stats.accuracy import Numbers, wilson_band
from curation.stats.figures import Figure, Groups, drawn_units, estimated, replicates, with_certain_ends

NOTHING_SCORED = "no pair was scored"


class Accuracy(NamedTuple):
    """The share of pairs on which the chosen response scores higher: strictly, and with a tie as one half."""

    strict: Figure
    half_ties: Figure
    ties: int


def accuracy(margins: Numbers) -> Accuracy:
    """Accuracy over pairs of different prompts, with Wilson's intervals; a tie is half a success in the second."""
    margins, _ = scored(margins, None)
    n, won, ties = len(margins), int((margins > 0).sum()), int((margins == 0).sum())
    strict, half_ties = (counted(hits, n, "pairs", NOTHING_SCORED) for hits in (won, won + ties / 2))
    return Accuracy(strict, half_ties, ties)


def clustered_accuracy(margins: Numbers, groups: Groups, rng: np.random.Generator, *, resamples: int = 1000) -> Accuracy:
    """The same where several pairs have one prompt: `groups` names the prompt of each pair, and whole prompts are redrawn.

    Where every pair came out the same the interval is Wilson's over prompts.
    """
    margins, kept = scored(margins, groups)
    n, units, ties = len(margins), drawn_units(len(margins), kept), int((margins == 0).sum())
    if not n:
        return accuracy(margins)
    successes = np.stack([margins > 0, (np.sign(margins) + 1) / 2], axis=1)
    redrawn = replicates(lambda weights: _means(successes, weights), n, rng, groups=kept, resamples=resamples)
    strict, half_ties = (
        with_certain_ends(estimated(column, n, "pairs", NOTHING_SCORED, units=units), units=units) for column in redrawn.T
    )
    return Accuracy(strict, half_ties, ties)


def scored(margins: Numbers, groups: Groups | None) -> tuple[Numbers, Groups | None]:
    """The margins that are there, and their groups. Raises ValueError where there is not one group a pair."""
    if groups is not None and len(groups) != len(margins):
        raise ValueError(f"there are {len(groups)} groups for {len(margins)} pairs, expected one for each pair")
    known = ~np.isnan(margins)
    return margins[known], None if groups is None else groups[known]


def counted(successes: float, n: int, of: str, undefined: str) -> Figure:
    """A share of n with Wilson's interval; half successes are allowed. `undefined` is the reason when n is 0."""
    if not n:
        return Figure(None, None, None, 0, of, undefined)
    low, high = wilson_band([successes], [n])
    return Figure(successes / n, float(low[0]), float(high[0]), n, of)


def mean(
    values: Numbers, rng: np.random.Generator, of: str, undefined: str, *, groups: Groups | None = None, resamples: int = 1000
) -> Figure:
    """The mean of so many values, with a bootstrap interval. `undefined` is the reason when there are none."""
    if not len(values):
        return Figure(None, None, None, 0, of, undefined)
    column = values[:, None]
    redrawn = replicates(lambda weights: _means(column, weights), len(values), rng, groups=groups, resamples=resamples)
    return estimated(redrawn[:, 0], len(values), of, undefined, units=drawn_units(len(values), groups))


def _means(values: Numbers, weights: Numbers) -> Numbers:
    """The mean of each column in each draw."""
    return np.asarray(weights @ values / weights.sum(axis=1, keepdims=True))


# ---- two models


class McNemar(NamedTuple):
    """Two models on the same pairs: how many only one of them has right, and the chance of a split as uneven or more so."""

    only_first: int
    only_second: int
    n: int  # pairs that both scored
    p: float | None  # None when they share no pair


def mcnemar(margins: Numbers, other_margins: Numbers, *, groups: Groups | None = None) -> McNemar:
    """McNemar's exact test (Psychometrika 12 (1947) 153): two-sided, binomial on the pairs that only one model has right.

    A tie is not right. True and False for right and wrong are taken as well as margins. Where both are right on the same
    pairs, p is 1. `groups` names the prompt of each pair: of what the models differ by on a prompt as a whole the sign is
    turned by chance, which with one pair a prompt is McNemar's test. Raises ValueError for arrays of different lengths.
    """
    one, other = np.asarray(margins, np.float64), np.asarray(other_margins, np.float64)
    if len(one) != len(other):
        raise ValueError(f"one model has {len(one)} pairs and the other {len(other)}, expected the same pairs")
    both = ~np.isnan(one) & ~np.isnan(other)
    right, other_right = one[both] > 0, other[both] > 0
    only_first, only_second = int((right & ~other_right).sum()), int((other_right & ~right).sum())
    ahead = right.astype(np.int64) - other_right
    if groups is not None:
        ahead = np.bincount(np.unique(groups[both], return_inverse=True)[1], ahead).astype(np.int64)
    p = _sign_flip(ahead)
    return McNemar(only_first, only_second, len(right), p if len(right) else None)


def _sign_flip(differences: NDArray[np.int64]) -> float:
    """P(|sum| at least as large as it is) were each difference's sign a coin's: exact, magnitude by magnitude."""
    from scipy.stats import binom  # a second to import, wanted only here

    chances = np.ones(1)  # of sums, from the least to the largest, two apart or more
    for size, count in zip(*np.unique(np.abs(differences[differences != 0]), return_counts=True), strict=True):
        steps = np.zeros(2 * size * count + 1)
        steps[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, steps)
    sums = np.arange(len(chances)) - (len(chances) - 1) // 2
    return float(min(1.0, chances[np.abs(sums) >= abs(int(differences.sum()))].sum()))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p-values (Scandinavian Journal of Statistics 6 (1979) 65), in the order given, none above 1.

    None, and NaN, is a test that was not made: it stays None and does not count among the comparisons.
    Raises ValueError for a p-value outside 0 to 1.
    """
    given = np.array([np.nan if p is None else p for p in p_values], np.float64)
    made = np.flatnonzero(~np.isnan(given))
    if ((given[made] < 0) | (given[made] > 1)).any():
        raise ValueError(f"a p-value is {given[made][(given[made] < 0) | (given[made] > 1)][0]:g}, expected 0 to 1")
    ascending = made[np.argsort(given[made], kind="stable")]
    stepped = given[ascending] * np.arange(len(ascending), 0, -1)
    adjusted: list[float | None] = [None] * len(given)
    for place, p in zip(ascending, np.minimum(np.maximum.accumulate(stepped), 1.0), strict=True):
        adjusted[place] = float(p)
    return adjusted


# ---- several responses


def best_of(
    scores: Numbers, is_best: NDArray[np.bool_], groups: Groups, rng: np.random.Generator, *, resamples: int = 1000
) -> Figure:
    """The share of prompts whose top-scored response is one of the best; all arrays are (responses,), `groups` the prompts.

    Where t responses share the top score and j of them are best, the prompt earns j / t: one best among k tied earns 1 / k,
    as RewardBench 2 has it (arXiv 2506.01937). Prompts without both a best response and another are left out, and so are those
    with a response that was not scored (NaN): among fewer the best would be easier to find.
    """
    prompts, prompt = np.unique(groups, return_inverse=True)

    def per_prompt(yes: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(prompt[yes], minlength=len(prompts))

    top = np.full(len(prompts), -np.inf)
    np.fmax.at(top, prompt, scores)  # passes NaN over
    at_top = scores == top[prompt]
    whole = (per_prompt(is_best) > 0) & (per_prompt(~is_best) > 0) & (per_prompt(np.isnan(scores)) == 0)
    earned = per_prompt(at_top & is_best)[whole] / per_prompt(at_top)[whole]
    reason = "no prompt has a best response and another, all scored"
    return with_certain_ends(mean(earned, rng, "prompts", reason, resamples=resamples))


# ---- several models


class Committee(NamedTuple):
    """How many models score the chosen response higher, the rejected one, and both the same; each is (pairs,)."""

    votes_for: NDArray[np.int64]
    votes_against: NDArray[np.int64]
    ties: NDArray[np.int64]


def committee(margins: Numbers) -> Committee:
    """The votes of several models; `margins` is (pairs, models), and a model that did not score a pair has no vote on it."""
    return Committee(*((side(margins, 0)).sum(axis=1, dtype=np.int64) for side in (np.greater, np.less, np.equal)))


class AgreementMatrix(NamedTuple):
    """Model against model, all (models, models): the share, Wilson's limits, and the pairs both scored; NaN where n is 0."""

    share: Numbers
    low: Numbers
    high: Numbers
    n: NDArray[np.int64]


def agreement_matrix(margins: Numbers) -> AgreementMatrix:
    """How often two models prefer the same side; `margins` is (pairs, models), over the pairs that both scored.

    A tie agrees wholly with a tie and by half with a preference, as a model that draws lots would. Not corrected for chance.
    """
    sides = np.sign(margins)
    n = np.stack([(~np.isnan(one[:, None] - sides)).sum(axis=0) for one in sides.T]).astype(np.int64)
    agreed = np.stack([np.nansum(1 - np.abs(one[:, None] - sides) / 2, axis=0) for one in sides.T])
    share = np.divide(agreed, n, out=np.full(n.shape, np.nan), where=n > 0)
    return AgreementMatrix(share, *wilson_band(agreed, n), n)
