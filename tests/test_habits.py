"""What answers show about the rater."""

import numpy as np
import pytest

from curation.stats.habits import StraightLine, first_side, longer_side, straight_line
from curation.stats.shares import Share


def test_the_side_shown_first_won_so_often():
    assert first_side(np.array([True, True, False, True])) == Share(3, 4)
    assert first_side(np.array([], dtype=bool)) == Share(0, 0)


def test_the_longer_side_wins_only_where_one_is_longer_and_one_won():
    left, right = np.array([9, 1, 5, 9, 1, 9.0]), np.array([1, 9, 5, 1, 9, 1.0])
    outcome = np.array([1, 0, 1, 0.5, 1, 0.0])  # longer, longer, equal, tie, shorter, shorter
    assert longer_side(left, right, outcome) == Share(2, 4)
    assert longer_side(right, left, 1 - outcome) == Share(2, 4)
    with pytest.raises(ValueError, match=r"an outcome is 1, 0 or 0\.5, not 2"):
        longer_side(left, right, outcome * 2)


def test_a_straight_line_is_the_longest_run_and_the_most_common_value():
    values = np.array([3, 3, 1, np.nan, 1, 1, 2, 3, 3.0])
    assert straight_line(values) == StraightLine(3, Share(4, 8))
    assert straight_line(np.full(6, 4.0)) == StraightLine(6, Share(6, 6))
    assert straight_line(np.array([np.nan])) == StraightLine(0, Share(0, 0))


def test_a_rater_who_answers_by_side_stands_out_from_one_who_does_not():
    draw = np.random.default_rng(0)
    by_side, fair = first_side(draw.random(200) < 0.8), first_side(draw.random(200) < 0.5)
    assert by_side.limits()[0] > 0.5
    assert fair.limits()[0] < 0.5 < fair.limits()[1]
