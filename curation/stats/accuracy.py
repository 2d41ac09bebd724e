"""Shares and ratios, and their 95% intervals."""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Numbers = NDArray[np.float64]


class Ratio(NamedTuple):
    """A ratio with its 95% interval; None where a value or a limit is undefined."""

    value: float | None
    low: float | None
    high: float | None


NO_RATIO = Ratio(None, None, None)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95% Wilson score interval of a share. Raises ValueError when nothing was counted: it is undefined then."""
    from scipy.stats import binomtest  # a second to import, wanted only here

    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n}: expected 0 to n successes, and n at least 1")
    interval = binomtest(successes, n).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


def wilson_band(successes: ArrayLike, n: ArrayLike, *, confidence: float = 0.95) -> tuple[Numbers, Numbers]:
    """Wilson score intervals of many shares at once, lower and upper limits; NaN where n is 0."""
    hits, of = np.asarray(successes, np.float64), np.asarray(n, np.float64)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        middle = (hits + z**2 / 2) / (of + z**2)
        half = z / (of + z**2) * np.sqrt(hits * (of - hits) / of + z**2 / 4)
    low = np.where(hits == 0, np.where(of > 0, 0.0, np.nan), middle - half)
    high = np.where(hits == of, np.where(of > 0, 1.0, np.nan), middle + half)
    return low, high


def ratio_of_shares(hits: int, n: int, other_hits: int, other_n: int) -> Ratio:
    """A share over another, of different pairs, with the 95% interval of the log method.

    Katz, Baptista, Azen and Pike, Biometrics 34 (1978) 469: log(ratio) +- z sqrt(1/a - 1/n + 1/c - 1/m). Where a share
    is 0 or 1 that method takes it for certain, so there the limits are those of the two Wilson intervals, divided, which is
    wider than needed. The ratio to a share of 0 is undefined, and so is its upper limit; without any n all is.
    """
    if not n or not other_n:
        return NO_RATIO
    value = (hits / n) / (other_hits / other_n) if other_hits else None
    if value is not None and 0 < hits < n and other_hits < other_n:
        spread = NormalDist().inv_cdf(0.975) * float(np.sqrt(1 / hits - 1 / n + 1 / other_hits - 1 / other_n))
        return Ratio(value, value * float(np.exp(-spread)), value * float(np.exp(spread)))
    (low, other_low), (high, other_high) = (limits.tolist() for limits in wilson_band([hits, other_hits], [n, other_n]))
    return Ratio(value, low / other_high, high / other_low if other_low else None)


def ratio_of_sums(above: ArrayLike, below: ArrayLike) -> Ratio:
    """The sum of one number over the sum of another, both of the same items, with a 95% interval.

    The variance is that of the linearised ratio (Cochran, Sampling Techniques, section 6.4), on the log scale so that no
    limit is negative. Undefined where the lower sum is 0; the interval also where there is one item or the upper sum is 0.
    """
    one, other = np.asarray(above, np.float64), np.asarray(below, np.float64)
    if not other.sum():
        return NO_RATIO
    value = float(one.sum() / other.sum())
    if len(one) < 2 or not value:
        return Ratio(value, None, None)
    rest = one - value * other
    error = float(np.sqrt(len(one) / (len(one) - 1) * (rest**2).sum()) / other.sum())
    spread = float(np.exp(NormalDist().inv_cdf(0.975) * error / value))
    return Ratio(value, value / spread, value * spread)
