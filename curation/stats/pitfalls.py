"""How often a reward model prefers a spoilt response to the original, and by how much."""

from typing import NamedTuple

import numpy as np

from curation.stats.accuracy import Numbers, wilson_band
from curation.stats.figures import Figure, Groups, drawn_units, estimated, replicates, with_certain_ends

NOTHING = "no original was scored together with its spoilt response"
NO_SPREAD = "all originals score the same"


class Pitfall(NamedTuple):
    """What spoiling does to the scores of one reward model."""

    share: Figure  # of the originals, that score lower than their spoilt response; a tie counts one half
    ties: int  # the same score for both
    shift: Figure  # the mean of spoilt minus original, in standard deviations of the originals' scores


def share_preferred(
    original: Numbers, spoilt: Numbers, rng: np.random.Generator, *, groups: Groups | None = None, resamples: int = 1000
) -> Pitfall:
    """Scores of originals and of the same responses spoilt, (n,) each, as a share and a shift with 95% intervals.

    The share's interval is Wilson's where every prompt has one original, n counting prompts; with ties it is a little wider
    than needed. Where `groups` (n,), the prompts, hold several, n counts responses and whole prompts are redrawn. The shift's
    interval is always of redraws, its standard deviation (divided by n) redrawn along. Where one of the two scores is missing
    (not finite) both are left out. Raises ValueError for unequal lengths.
    """
    lengths = {len(original), len(spoilt), len(original if groups is None else groups)}
    if len(lengths) > 1:
        raise ValueError(f"originals, spoilt responses and groups of lengths {sorted(lengths)}: expected as many of each")
    known = np.isfinite(original) & np.isfinite(spoilt)
    before, change = original[known], spoilt[known] - original[known]
    points = np.where(change > 0, 1.0, np.where(change == 0, 0.5, 0.0))
    of_prompt = None if groups is None or len(np.unique(groups[known])) == known.sum() else groups[known]
    share = _wilson(points) if of_prompt is None else _redrawn(points, rng, of_prompt, resamples)
    return Pitfall(share, int((change == 0).sum()), _shift(before, change, rng, of_prompt, resamples))


def _wilson(points: Numbers) -> Figure:
    n = len(points)
    if not n:
        return Figure(None, None, None, 0, "prompts", NOTHING)
    low, high = wilson_band([points.sum()], [n])
    return Figure(float(points.mean()), float(low[0]), float(high[0]), n, "prompts")


def _redrawn(points: Numbers, rng: np.random.Generator, groups: Groups, resamples: int) -> Figure:
    n, units = len(points), drawn_units(len(points), groups)
    means = replicates(
        lambda weights: np.asarray(weights @ points / weights.sum(axis=1)), n, rng, groups=groups, resamples=resamples
    )
    return with_certain_ends(estimated(means, n, "responses", NOTHING, units=units), units=units)


def _shift(before: Numbers, change: Numbers, rng: np.random.Generator, groups: Groups | None, resamples: int) -> Figure:
    n, of = len(before), "prompts" if groups is None else "responses"
    if not n:
        return Figure(None, None, None, 0, of, NOTHING)
    centred = before - before.mean()  # so that squares of large scores do not swallow their differences

    def shifts(weights: Numbers) -> Numbers:
        total = weights.sum(axis=1)
        variance = weights @ centred**2 / total - (weights @ centred / total) ** 2
        spread = np.sqrt(np.where(variance > 1e-18 * max(1.0, float(np.abs(before).max())) ** 2, variance, np.nan))
        return np.asarray(weights @ change / total / spread)

    redrawn = replicates(shifts, n, rng, groups=groups, resamples=resamples)
    return estimated(redrawn, n, of, NO_SPREAD, units=drawn_units(n, groups))
