"""How much of a reward model's accuracy is a liking for length.

`margins` is score(chosen) - score(rejected), (pairs,), NaN where a pair was not scored; such pairs are left out.
`length_differences` is the length of the chosen response less that of the rejected one, in any unit: characters, words, tokens.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curation.stats.accuracy import Numbers
from curation.stats.figures import Figure, Groups, drawn_units, estimated, replicates
from curation.stats.preference_accuracy import NOTHING_SCORED, Accuracy, accuracy, scored

NEWTON_STEPS = 50


def length_controlled(
    margins: Numbers, length_differences: Numbers, rng: np.random.Generator, *,
    groups: Groups | None = None, resamples: int = 200,
) -> Figure:  # fmt: skip
    """The accuracy that a logistic regression tells for two responses of equal length.

    logit P(the model prefers chosen) = a + b tanh(difference / its standard deviation), read at difference 0: sigma(a).
    The form is that of AlpacaEval's length-controlled win rate (Dubois et al., arXiv 2404.04475), without the difficulty of
    the instruction. A tie counts half for each side. The published standard error is too small, so whole prompts (`groups`)
    are redrawn and fitted anew. Undefined where all differences are equal, and where the differences part the pairs won from
    those lost: the fit is infinite then. Raises ValueError for arrays of different lengths.
    """
    differences = _differences(margins, length_differences)
    margins, groups = scored(margins, groups)
    outcome = (np.sign(margins) + 1) / 2
    redrawn = replicates(
        lambda weights: at_equal_length(outcome, differences, weights), len(margins), rng, groups=groups, resamples=resamples
    )
    reason = _why_not(differences)
    return estimated(redrawn, len(margins), "pairs", reason, units=drawn_units(len(margins), groups))


def at_equal_length(outcome: Numbers, differences: Numbers, weights: Numbers) -> Numbers:
    """sigma(a) of each row of weights (draws, n), NaN where the fit is infinite. `outcome` (n,) is 0 to 1."""
    from scipy.special import expit  # a moment to import, wanted only here

    spread = _deviation(differences, weights)[:, None]
    bent = np.tanh(np.divide(differences, spread, out=np.zeros_like(weights), where=spread > 0))
    intercepts = np.full(len(weights), np.nan)
    fits = _overlap(outcome, differences, weights) & (spread[:, 0] > 0)
    intercepts[fits] = _intercepts(outcome, bent[fits], weights[fits])
    return np.asarray(expit(intercepts))


class LengthBin(NamedTuple):
    """The pairs with a length difference from `low` to `high`, both among them."""

    low: float
    high: float
    accuracy: Accuracy


def by_length_difference(margins: Numbers, length_differences: Numbers, *, bins: int = 5) -> list[LengthBin]:
    """Accuracy by length difference, from chosen much shorter to chosen much longer, in bins of about as many pairs each.

    The bins are those of all pairs given, scored or not, so that models which scored different ones can be set side by side.
    Pairs of one difference stay in one bin, so bins may be uneven, or fewer. Raises ValueError for arrays of different lengths.
    """
    if bins < 1:
        raise ValueError(f"bins is {bins}, expected at least 1")
    differences = _differences(np.zeros(len(margins)), length_differences)
    if np.isnan(margins).all():
        return []
    edges = np.quantile(differences, np.linspace(0, 1, bins + 1)[1:-1], method="inverted_cdf")
    place = np.searchsorted(np.unique(edges), differences, side="left")  # an edge belongs to the bin below
    inside = [place == one for one in np.unique(place)]
    return [LengthBin(float(differences[b].min()), float(differences[b].max()), accuracy(margins[b])) for b in inside]


def _differences(margins: Numbers, length_differences: Numbers) -> Numbers:
    """Those of the pairs scored."""
    if len(margins) != len(length_differences):
        raise ValueError(f"there are {len(length_differences)} length differences for {len(margins)} pairs, expected one each")
    differences = np.asarray(length_differences, np.float64)[~np.isnan(margins)]
    if not np.isfinite(differences).all():
        raise ValueError(f"a length difference is {differences[~np.isfinite(differences)][0]}, expected a finite number")
    return differences


def _deviation(values: Numbers, weights: Numbers) -> Numbers:
    """The standard deviation in each draw, divided by n."""
    total = np.maximum(weights.sum(axis=1), 1.0)
    away = values - (weights @ values / total)[:, None]
    variance = (weights * away**2).sum(axis=1) / total
    return np.sqrt(np.where(variance > (1e-12 * np.abs(values).max(initial=0.0)) ** 2, variance, 0.0))


def _overlap(outcome: Numbers, values: Numbers, weights: Numbers) -> NDArray[np.bool_]:
    """Whether, in each draw, no value parts the pairs won from those lost, so that the fit is finite; a tie is both.

    Albert and Anderson, Biometrika 71 (1984) 1, for one variable: both must reach beyond the other's far end.
    """

    def reach(counts: NDArray[np.bool_]) -> tuple[Numbers, Numbers]:
        there = (weights > 0) & counts
        return (
            np.where(there, values, np.inf).min(axis=1, initial=np.inf),
            np.where(there, values, -np.inf).max(axis=1, initial=-np.inf),
        )

    (lowest_won, highest_won), (lowest_lost, highest_lost) = reach(outcome > 0), reach(outcome < 1)
    return np.asarray((highest_won > lowest_lost) & (highest_lost > lowest_won))


def _intercepts(outcome: Numbers, bent: Numbers, weights: Numbers) -> Numbers:
    """The intercept of the regression in each draw, by Newton's method on all draws at once; `bent` is (draws, pairs).

    NaN where it has not come to rest: the pairs overlap by so little that the fit is as good as infinite.
    """
    from scipy.special import expit  # a moment to import, wanted only here

    a, b, step = np.zeros((3, len(weights)))
    for _ in range(NEWTON_STEPS):
        with np.errstate(invalid="ignore"):  # a draw that has run off to infinity stays there
            p = expit(a[:, None] + b[:, None] * bent)
        rest, curve = weights * (outcome - p), weights * p * (1 - p)
        slope_a, slope_b = rest.sum(axis=1), (rest * bent).sum(axis=1)
        aa, ab, bb = curve.sum(axis=1), (curve * bent).sum(axis=1), (curve * bent**2).sum(axis=1)
        determinant = aa * bb - ab**2
        with np.errstate(divide="ignore", invalid="ignore"):
            step_a, step_b = (bb * slope_a - ab * slope_b) / determinant, (aa * slope_b - ab * slope_a) / determinant
            a, b = a + step_a, b + step_b
        step = np.maximum(np.abs(step_a), np.abs(step_b))
        if not (step > 1e-10).any():  # NaN counts as at rest
            break
    return np.where(step <= 1e-8, a, np.nan)


def _why_not(differences: Numbers) -> str:
    if not len(differences):
        return NOTHING_SCORED
    if np.ptp(differences) == 0:
        return "all pairs differ in length by the same"
    return "the length difference alone parts the pairs won from those lost, or all were won, or lost"
