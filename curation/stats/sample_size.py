"""How many items and raters a study needs for a wanted 95% interval of value +- half_width.

All rest on one variance. A rating is the item's own part and the rest, a rater's or chance's; `icc` is the item's part of the
variance, the correlation of two ratings of one item (the intraclass correlation ICC(1,1) of Shrout and Fleiss, Psychological
Bulletin 86 (1979) 420; Krippendorff's alpha for intervals estimates it from a pilot). The mean of `raters` ratings of
each of `items` items then has

    variance = sd^2 (icc + (1 - icc) / raters) / items = sd^2 / (items raters) * (1 + (raters - 1) icc)

whose last bracket is the design effect of Kish, Survey Sampling (1965), section 5.4. Different raters for each item: what one
rater has in common over items is not in it. The normal distribution is used, so results below some 30 items are too small.
"""

import math
from statistics import NormalDist
from typing import NamedTuple

Z = NormalDist().inv_cdf(0.975)


class Plan(NamedTuple):
    """A study that reaches the wanted precision."""

    raters: int  # of each item
    items: int
    answers: int  # raters x items: what it costs


def items_for_mean(half_width: float, sd: float, raters: int, icc: float) -> int:
    """The items needed for the mean of a rating.

    `sd` is that of single ratings, over items and raters, in the unit of `half_width`. Raises ValueError for a half width
    that is not above 0, fewer than 1 rater, a negative sd, or an icc outside 0 to 1.
    """
    if not half_width > 0:
        raise ValueError(f"half_width is {half_width}, expected more than 0")
    return max(1, math.ceil((half_width_for_mean(1, sd, raters, icc) / half_width) ** 2 - 1e-9))


def half_width_for_mean(items: int, sd: float, raters: int, icc: float) -> float:
    """What so many items reach: the inverse of `items_for_mean`. Raises ValueError as it does."""
    if items < 1 or raters < 1 or sd < 0 or not 0 <= icc <= 1:
        raise ValueError(
            f"items {items}, raters {raters}, sd {sd}, icc {icc}: expected at least 1 item and rater, sd at least 0, icc 0 to 1"
        )
    return Z * sd * math.sqrt((icc + (1 - icc) / raters) / items)


def items_for_share(half_width: float, share: float = 0.5, raters: int = 1, icc: float = 0.0) -> int:
    """The prompts needed for a win rate or another share that is about `share`, with 0.5 the worst case.

    There are `raters` answers a prompt, which correlate by `icc`. Raises ValueError as `items_for_mean` does.
    """
    return items_for_mean(half_width, _sd(share), raters, icc)


def half_width_for_share(items: int, share: float = 0.5, raters: int = 1, icc: float = 0.0) -> float:
    """What so many prompts reach: the inverse of `items_for_share`. Raises ValueError as it does."""
    return half_width_for_mean(items, _sd(share), raters, icc)


def plans(half_width: float, sd: float, icc: float, *, most_raters: int = 5) -> list[Plan]:
    """What one to `most_raters` raters an item ask for. For a share the sd is sqrt(share (1 - share)).

    One rater an item needs the fewest answers; more raters need fewer items, and only with them is agreement measured.
    """
    items = [(raters, items_for_mean(half_width, sd, raters, icc)) for raters in range(1, most_raters + 1)]
    return [Plan(raters, count, raters * count) for raters, count in items]


def plans_for_share(half_width: float, share: float, icc: float, *, most_raters: int = 5) -> list[Plan]:
    """The same for a win rate or another share that is about `share`. Raises ValueError as `items_for_mean` does."""
    return plans(half_width, _sd(share), icc, most_raters=most_raters)


def _sd(share: float) -> float:
    """The standard deviation of a yes or no."""
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}, expected 0 to 1")
    return math.sqrt(share * (1 - share))
