"""A reward model in the place of a rater: does it go with the other raters as well as that rater does?

`values` is (units, raters), NaN where a rater did not answer; `scores` (units,), NaN where the model did not score. `groups`
(units,) names each unit's prompt: whole prompts are redrawn. Model and rater are set against the same people on the same
units and redraws, so that hard prompts weigh on both.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curation.stats import correlation
from curation.stats.accuracy import Numbers
from curation.stats.correlation import midranks, pearson
from curation.stats.figures import FEWEST, Figure, Groups, drawn_units, estimated, replicates, with_certain_ends

Method = Literal["pearson", "spearman"]

_NAMES = 5
_NO_OVERLAP = "no unit that the model scored was rated by two raters"
_FEW = f"no rater shares {FEWEST} scored units with others, or rater, model or others give one value to all of them"


class Beside(NamedTuple):
    """The mean over raters of how well the model, and of how well the rater, goes with the others; and the difference."""

    model: Figure
    rater: Figure
    difference: Figure  # model less rater


def correlations(
    scores: Numbers, values: Numbers, rng: np.random.Generator, *,
    method: Method = "spearman", groups: Groups | None = None, resamples: int = 1000,
) -> Beside:  # fmt: skip
    """Each rater's correlation with the mean of the other raters, and the model's with the same mean on the same units."""
    keep = ~np.isnan(scores) & ((~np.isnan(values)).sum(axis=1) >= 2)
    scores, values = scores[keep], values[keep]
    groups = None if groups is None else groups[keep]
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    others = (filled.sum(axis=1, keepdims=True) - filled) / np.maximum(known.sum(axis=1, keepdims=True) - 1, 1)

    def both(weights: Numbers) -> Numbers:
        model, rater = np.full((2, known.shape[1], len(weights)), np.nan)
        for number, rows in enumerate(known.T):
            if rows.sum() >= FEWEST:
                drawn = weights[:, rows]
                rest, own, told = (
                    _standing(one[rows], drawn, method) for one in (others[:, number], values[:, number], scores)
                )
                model[number], rater[number] = pearson(told, rest, drawn), pearson(own, rest, drawn)
        return _means(model, rater)

    redrawn = replicates(both, len(scores), rng, groups=groups, resamples=resamples if len(scores) else 0)
    return _beside(redrawn, len(scores), groups, _FEW if len(scores) else _NO_OVERLAP, "responses")


def _standing(x: Numbers, weights: Numbers, method: Method) -> Numbers:
    return midranks(x, weights) if method == "spearman" else x


def preferences(
    margins: Numbers, outcomes: Numbers, rng: np.random.Generator, *, groups: Groups | None = None, resamples: int = 1000
) -> Beside:
    """The same for comparisons: the share of the other raters who prefer what the rater, or the model, prefers.

    `outcomes` is (pairs, raters): 1 where the rater prefers the first, 0 the second, 0.5 or NaN where neither: those
    have no say. `margins` (pairs,) is above 0 where the model prefers the first; its tie agrees by half with anybody.
    """
    decided = np.isin(outcomes, (0.0, 1.0))
    keep = ~np.isnan(margins) & (decided.sum(axis=1) >= 2)
    side, outcomes, decided = (np.sign(margins[keep]) + 1) / 2, outcomes[keep], decided[keep]
    groups = None if groups is None else groups[keep]
    first = np.where(decided, outcomes, 0.0).sum(axis=1, keepdims=True)
    count = decided.sum(axis=1, keepdims=True)
    others_first = (first - np.where(decided, outcomes, 0.0)) / np.maximum(count - 1, 1)  # of the others, who prefer the first
    own = np.where(outcomes == 1.0, others_first, 1 - others_first)
    told = side[:, None] * others_first + (1 - side[:, None]) * (1 - others_first)
    of_model, of_rater, raters = (np.where(decided, one, 0.0).sum(axis=1) for one in (told, own, np.ones_like(own)))

    def both(weights: Numbers) -> Numbers:
        total = weights @ raters
        return _columns(*(np.divide(weights @ one, total, out=np.full(len(total), np.nan), where=total > 0)
                          for one in (of_model, of_rater)))  # fmt: skip

    redrawn = replicates(both, len(side), rng, groups=groups, resamples=resamples if len(side) else 0)
    reason = "no pair that the model scored was decided by two raters"
    return _beside(redrawn, len(side), groups, reason, "pairs of responses")


def with_preferences(
    margins: Numbers, outcomes: Numbers, rng: np.random.Generator, *, groups: Groups | None = None, resamples: int = 1000
) -> Figure:
    """How often the model prefers what a rater prefers, over every decided answer of every rater; its tie counts one half."""
    decided = np.isin(outcomes, (0.0, 1.0)) & ~np.isnan(margins)[:, None]
    side = (np.sign(np.nan_to_num(margins)) + 1) / 2
    same = np.where(decided, 1 - np.abs(side[:, None] - np.nan_to_num(outcomes)), 0.0).sum(axis=1)
    counts = decided.sum(axis=1).astype(np.float64)
    keep = counts > 0
    same, counts, groups = same[keep], counts[keep], None if groups is None else groups[keep]
    redrawn = replicates(
        lambda weights: weights @ same / np.maximum(weights @ counts, 1e-300), len(same), rng, groups=groups,
        resamples=resamples if len(same) else 0,
    )  # fmt: skip
    if not len(same):
        return Figure(None, None, None, 0, "answers", "nobody preferred either of two responses that the model scored")
    units = drawn_units(len(same), groups)
    return with_certain_ends(estimated(redrawn, int(counts.sum()), "answers", "", units=units), units=units)


def lead(
    margins: Numbers, other_margins: Numbers, outcomes: Numbers, rng: np.random.Generator, *,
    groups: Groups | None = None, resamples: int = 1000,
) -> Figure:  # fmt: skip
    """`with_preferences` of one model less that of another, on the pairs both scored, both in the same redraws."""
    both = ~np.isnan(margins) & ~np.isnan(other_margins)
    decided = np.isin(outcomes, (0.0, 1.0)) & both[:, None]
    sides = [(np.sign(np.nan_to_num(one)) + 1) / 2 for one in (margins, other_margins)]
    same = [np.where(decided, 1 - np.abs(side[:, None] - np.nan_to_num(outcomes)), 0.0).sum(axis=1) for side in sides]
    counts = decided.sum(axis=1).astype(np.float64)
    keep = counts > 0
    if not keep.any():
        return Figure(None, None, None, 0, "answers", "nobody preferred either of two responses that both scored")
    more, counts, groups = (same[0] - same[1])[keep], counts[keep], None if groups is None else groups[keep]
    redrawn = replicates(
        lambda weights: weights @ more / np.maximum(weights @ counts, 1e-300), len(more), rng, groups=groups,
        resamples=resamples,
    )  # fmt: skip
    return estimated(redrawn, int(counts.sum()), "answers", "", units=drawn_units(len(more), groups))


def of_means(
    x: Numbers, y: Numbers, names: NDArray[Any], rng: np.random.Generator, *,
    groups: Groups, method: correlation.Method = "pearson", resamples: int = 1000,
) -> Figure:  # fmt: skip
    """The correlation of the means of x and of y by name (by generator, say); n counts names.

    The interval is that of redrawn prompts, the names stay; with fewer than 5 of them there is none, as it would only seem
    to say something of other names.
    """
    known = ~np.isnan(x) & ~np.isnan(y)
    x, y, groups = x[known], y[known], groups[known]
    found, place = np.unique(names[known], return_inverse=True)
    member = (place[:, None] == np.arange(len(found))).astype(np.float64)

    def correlated(weights: Numbers) -> Numbers:
        total = weights @ member
        one, other = (
            np.divide(weights @ (member * side[:, None]), total, out=np.full(total.shape, np.nan), where=total > 0)
            for side in (x, y)
        )
        whole = (total > 0).all(axis=1, keepdims=True)
        sides = _compared(np.where(whole, one, 0.0), method), _compared(np.where(whole, other, 0.0), method)
        return pearson(*sides, np.ones_like(sides[0]))  # undefined where all are 0

    if len(found) < FEWEST:
        return Figure(None, None, None, len(found), "generators", f"it needs at least {FEWEST} generators")
    redrawn = replicates(correlated, len(x), rng, groups=groups, resamples=resamples)
    figure = estimated(redrawn, len(found), "generators", "the means are all equal", units=drawn_units(len(x), groups))
    if figure.value is None or len(found) >= _NAMES:
        return figure
    return figure._replace(low=None, high=None, undefined=f"an interval needs at least {_NAMES} generators")


def _compared(means: Numbers, method: correlation.Method) -> Numbers:
    """What Pearson's correlation is taken of, a row a draw: the means, their ranks, or the signs of their differences, of
    which it is Kendall's tau-b."""
    from scipy.stats import rankdata

    if method == "kendall":
        return np.sign(means[:, :, None] - means[:, None, :]).reshape(len(means), -1)
    return np.asarray(rankdata(means, axis=1)) if method == "spearman" else means


def _means(model: Numbers, rater: Numbers) -> Numbers:
    """Means over the raters for whom both are defined, and their difference; (draws, 3)."""
    usable = np.isfinite(model) & np.isfinite(rater)
    count = usable.sum(axis=0)
    means = [
        np.divide(np.where(usable, one, 0.0).sum(axis=0), count, out=np.full(len(count), np.nan), where=count > 0)
        for one in (model, rater)
    ]
    return _columns(*means)


def _columns(model: Numbers, rater: Numbers) -> Numbers:
    return np.column_stack([model, rater, model - rater])


def _beside(redrawn: Numbers, n: int, groups: Groups | None, reason: str, of: str) -> Beside:
    if not n:
        nothing = Figure(None, None, None, 0, of, reason)
        return Beside(nothing, nothing, nothing)
    units = drawn_units(n, groups)
    return Beside(*(estimated(redrawn[:, column], n, of, reason, units=units) for column in range(3)))
