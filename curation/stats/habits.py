"""What a rater's answers show about the rater: a side preferred, length preferred, one answer for everything."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curation.stats.accuracy import Numbers
from curation.stats.shares import Share


class StraightLine(NamedTuple):
    """How monotonous a row of answers is. To judge it, look at the same of other raters of the same items."""

    run: int  # the most answers in a row that were the same
    most_common: Share  # of the answers, that were the most common one


def first_side(first_won: NDArray[np.bool_]) -> Share:
    """The comparisons won by the side shown first. Ties are for the caller to leave out.

    Half is no preference whoever wrote what, as long as the order was drawn.
    """
    return Share(int(np.count_nonzero(first_won)), len(first_won))


def longer_side(length_left: Numbers, length_right: Numbers, outcome: Numbers) -> Share:
    """The comparisons won by the longer side; those tied or of equal length do not count.

    `outcome` is 1 where left won, 0 where right did and 0.5 for a tie. More than half may be a habit or may be right: longer
    answers can be better, so compare raters. Raises ValueError for any other outcome.
    """
    if not np.isin(outcome, (0.0, 0.5, 1.0)).all():
        raise ValueError(f"an outcome is 1, 0 or 0.5, not {outcome[~np.isin(outcome, (0.0, 0.5, 1.0))][0]:g}")
    decided = (outcome != 0.5) & (length_left != length_right)
    longer_won = (outcome == 1.0) == (length_left > length_right)
    return first_side(longer_won[decided])


def straight_line(values: Numbers) -> StraightLine:
    """The longest run of the same value and the share of the most common one; `values` in order of time, NaN for no answer.

    Values that were not given are passed over: they end no run.
    """
    given = values[~np.isnan(values)]
    if not len(given):
        return StraightLine(0, Share(0, 0))
    starts = np.concatenate([[0], np.flatnonzero(np.diff(given)) + 1, [len(given)]])
    _, counts = np.unique(given, return_counts=True)
    return StraightLine(int(np.diff(starts).max()), Share(int(counts.max()), len(given)))
