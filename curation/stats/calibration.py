"""Whether a reward model's margins mean what Bradley and Terry's model says: P(chosen is better) = sigma(margin).

`margins` is score(chosen) - score(rejected), (pairs,), NaN where a pair was not scored. Only models trained by Bradley-Terry
loss have such a scale. Scores of others (a judge's 1 to 10, a regression on ratings, an implicit reward whose beta was chosen
freely) order responses without it, and these numbers then speak of the choice of unit, not of the model.

The label is "chosen is better" for every pair, so sigma(margin) has no negatives to be set against. What can be checked is the
confidence in the side that the model prefers, max(p, 1 - p) from 0.5 to 1, against how often that side is the chosen one. A tie
has confidence 0.5 and is half right.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curation.stats.accuracy import Numbers
from curation.stats.figures import Figure, Groups, drawn_units, estimated, replicates
from curation.stats.preference_accuracy import NOTHING_SCORED, counted, mean, scored


class Bin(NamedTuple):
    """The pairs with a confidence from `low` to below `high` (the last bin holds 1 too)."""

    low: float
    high: float
    confidence: float | None  # the mean; None where there is no such pair
    right: Figure  # the share on which the preferred side is the chosen one, with Wilson's interval


def calibration(margins: Numbers, *, bins: int = 10) -> list[Bin]:
    """The calibration curve, in bins of equal width; a calibrated model is right as often as it is confident."""
    confidence, right = _confidence(scored(margins, None)[0])
    place = _bin(confidence, bins)
    pairs, sure, hits = (np.bincount(place, of, bins) for of in (np.ones(len(place)), confidence, right))
    edges = np.linspace(0.5, 1.0, bins + 1).tolist()
    return [
        Bin(
            edges[b], edges[b + 1], float(sure[b] / pairs[b]) if pairs[b] else None,
            counted(float(hits[b]), int(pairs[b]), "pairs", "no pair has such a confidence"),
        )
        for b in range(bins)
    ]  # fmt: skip


def brier(margins: Numbers, rng: np.random.Generator, *, groups: Groups | None = None, resamples: int = 1000) -> Figure:
    """The mean of (1 - sigma(margin))^2 (Brier, Monthly Weather Review 78 (1950) 1, halved as usual for two classes).

    0 is best; 0.25 is what a model gets that always says one half, so above it the confidence does harm. `groups` names the
    prompt of each pair: whole prompts are redrawn.
    """
    margins, groups = scored(margins, groups)
    return mean((1 - _sigma(margins)) ** 2, rng, "pairs", NOTHING_SCORED, groups=groups, resamples=resamples)


def expected_calibration_error(
    margins: Numbers, rng: np.random.Generator, *, groups: Groups | None = None, bins: int = 10, resamples: int = 1000
) -> Figure:
    """The mean distance of confidence and share right, over bins of equal width weighted by their pairs.

    Guo, Pleiss, Sun and Weinberger, eq. 3 (arXiv 1706.04599). Distances do not cancel, so chance alone makes the value too
    large, the more so the fewer pairs a bin has: do not compare samples of different size by it. The interval allows for that
    (`_without_noise`). `groups` names the prompt of each pair: whole prompts are redrawn.
    """
    margins, groups = scored(margins, groups)
    confidence, right = _confidence(margins)
    short = np.zeros((len(margins), bins))  # what each pair falls short by, in the column of its bin
    short[np.arange(len(margins)), _bin(confidence, bins)] = right - confidence

    def errors_and_noise(weights: Numbers) -> Numbers:
        total = np.maximum(weights.sum(axis=1), 1.0)[:, None]
        means = weights @ short / total
        return np.stack([np.abs(means).sum(axis=1), np.abs(means - short.sum(axis=0) / len(short)).sum(axis=1)], axis=1)

    if not len(margins):
        return Figure(None, None, None, 0, "pairs", NOTHING_SCORED)
    redrawn = replicates(errors_and_noise, len(margins), rng, groups=groups, resamples=resamples)
    figure = estimated(redrawn[:, 0], len(margins), "pairs", NOTHING_SCORED, units=drawn_units(len(margins), groups))
    return _without_noise(figure, errors=redrawn[1:, 0], noise=redrawn[1:, 1])


def _without_noise(figure: Figure, *, errors: Numbers, noise: Numbers) -> Figure:
    """The interval of an error that chance makes too large, moved to where the error itself is.

    A redraw adds chance to chance, so plain ends lie too high: for a calibrated model they never cover 0 (measured). What
    redraws add on average is taken off once at the upper end, which keeps the value inside, and twice at the lower, where
    the value's own share goes too. The lower end is 0 where the value is within the 95% of what redraws differ from
    the sample by, for then chance alone would explain it. In simulations of 200 to 5,000 pairs and 10 bins it covered 89% to
    97% of the time; less with 30 bins, whose own chance is larger.
    """
    if figure.value is None or figure.low is None or figure.high is None:
        return figure
    added = float(errors.mean()) - figure.value
    by_chance = figure.value <= float(np.quantile(noise, 0.95))
    low = 0.0 if by_chance else max(figure.low - 2 * added, 0.0)
    return figure._replace(low=low, high=figure.high - added)


def _sigma(margins: Numbers) -> Numbers:
    return np.exp(-np.logaddexp(0.0, -margins))  # 1 / (1 + exp(-margin)) without overflow


def _confidence(margins: Numbers) -> tuple[Numbers, Numbers]:
    """How sure the model is of the side it prefers, and whether that is the chosen one: 1, 0, or 0.5 for a tie."""
    return _sigma(np.abs(margins)), (np.sign(margins) + 1) / 2


def _bin(confidence: Numbers, bins: int) -> NDArray[np.int64]:
    if bins < 1:
        raise ValueError(f"bins is {bins}, expected at least 1")
    return np.minimum(((confidence - 0.5) * 2 * bins).astype(np.int64), bins - 1)
