"""A number with its 95% interval and its n, or the reason why there is none; and the bootstrap that makes the intervals."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curation.stats.accuracy import Numbers, wilson_band

Groups = NDArray[np.int64]
FEWEST = 3  # units that a bootstrap needs; of two there are only three redraws
MOST_UNDEFINED = 0.05  # of the redraws; beyond that the rest no longer stand for all
AT_ONCE = 4_000_000  # weights held in memory at a time


class Figure(NamedTuple):
    """A number with its 95% interval. Where there is no value, or no interval, `undefined` says why. Never NaN."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    of: str  # what n counts: "items"
    undefined: str = ""  # goes on from "because": "every rater gave the same value everywhere"

    def short(self) -> str:
        """The number alone: "0.61"."""
        return "undefined" if self.value is None else f"{self.value:z.2f}"

    def words(self) -> str:
        """For people: "0.61 [0.55, 0.67], n=300 items", or why not."""
        n = f"n={self.n:,} {self.of}"
        if self.value is None:
            return f"undefined, because {self.undefined} ({n})"
        if self.low is None or self.high is None:
            return f"{self.value:z.2f} (no interval, because {self.undefined}), {n}"
        return f"{self.value:z.2f} [{self.low:z.2f}, {self.high:z.2f}], {n}"

    def record(self) -> dict[str, Any]:
        """For JSON, without what there is not; value, n and of always."""
        return {
            name: value
            for name, value in self._asdict().items()
            if name in ("value", "n", "of") or (value is not None and value != "")
        }


def replicates(
    statistic: Callable[[Numbers], Numbers], units: int, rng: np.random.Generator, *,
    groups: Groups | None = None, resamples: int = 1000,
) -> Numbers:  # fmt: skip
    """A statistic of the sample itself (first) and of so many redraws of it, with whole units drawn with replacement.

    `statistic` is given weights (draws, units), how often each unit was drawn, and returns (draws,) or (draws, figures),
    NaN where it is undefined. Weights in place of copied data are what makes it quick: most statistics are sums over
    units, so all redraws are one matrix product. `groups` (units,) names what goes together, such as the responses to one
    prompt: then whole groups are drawn.
    """
    of_unit = np.arange(units) if groups is None else np.unique(groups, return_inverse=True)[1]
    drawn = int(of_unit.max()) + 1 if units else 0
    results, left = [statistic(np.ones((1, units)))], resamples if units else 0
    while left > 0:
        draws = min(left, max(1, AT_ONCE // max(units, 1)))
        weights = rng.multinomial(drawn, np.full(drawn, 1 / drawn), draws).astype(np.float64)
        results.append(statistic(weights if groups is None else weights[:, of_unit]))
        left -= draws
    return np.concatenate(results)


def estimated(replicas: Numbers, n: int, of: str, undefined: str, *, units: int | None = None) -> Figure:
    """The Figure of one column of `replicates`: the value, and an expanded percentile interval.

    The plain percentile interval is too narrow for few units: it divides by n where it should by n-1, and takes the normal
    for Student's t. Drawing its ends apart by just that much is Hesterberg's expanded percentile interval (The American
    Statistician 69 (2015) 371). `units` is how many were redrawn, where that is not n. `undefined` is the reason when the
    sample itself has no value; there is no interval for fewer than 3 units, when more than 5% of the redraws are
    undefined, or when all are equal: no spread seen is not certainty.
    """
    value, redrawn = float(replicas[0]), replicas[1:]
    if not math.isfinite(value):
        return Figure(None, None, None, n, of, undefined)
    drawn = n if units is None else units
    if drawn < FEWEST:
        return Figure(value, None, None, n, of, f"an interval needs at least {FEWEST} {of if drawn == n else 'prompts'}")
    usable = redrawn[np.isfinite(redrawn)]
    lost = 1 - len(usable) / max(len(redrawn), 1)
    if lost > MOST_UNDEFINED:
        return Figure(value, None, None, n, of, f"it is undefined in {lost:.0%} of the redraws")
    if np.ptp(usable) <= 1e-12 * max(1.0, abs(value)):
        return Figure(value, None, None, n, of, "every redraw gives the same value")
    low, high = np.quantile(usable, _ends(drawn))
    return Figure(value, float(low), float(high), n, of)


def drawn_units(n: int, groups: Groups | None) -> int:
    """How many units are redrawn, of n in these groups."""
    return n if groups is None else len(np.unique(groups))


def with_certain_ends(share: Figure, *, units: int | None = None) -> Figure:
    """A mean of numbers from 0 to 1 that were all 0, or all 1, with the Wilson interval of n such units for an interval.

    `units` is how many were redrawn, where that is not n.

    A bootstrap sees no spread there. Wilson's is that of the share of units that are not all 0 (or 1), which bounds the mean.
    """
    if share.value not in (0.0, 1.0) or share.n < 1:
        return share
    n = share.n if units is None else units
    low, high = wilson_band([share.value * n], [n])
    return share._replace(low=float(low[0]), high=float(high[0]), undefined="")


def _ends(units: int) -> tuple[float, float]:
    """The quantiles of the redraws at which a 95% interval ends: 0.025 and 0.975 for many units, further out for few."""
    from scipy.stats import norm, t  # a second to import, wanted only here

    low = float(norm.cdf(-math.sqrt(units / (units - 1)) * t.ppf(0.975, units - 1)))
    return low, 1 - low
