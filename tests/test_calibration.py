"""Calibration of margins: worked cases, scikit-learn, a loop, calibrated and over-confident models, intervals that cover."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import brier_score_loss
from statsmodels.stats.proportion import proportion_confint

from curation.stats.calibration import brier, calibration, expected_calibration_error
from curation.stats.figures import Figure
from tests.redraws import by_copying, redraws

LOG_3 = np.log(3)  # a margin that says 3 to 1
nan = np.nan


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def made(seed: int, *, pairs=500, over_confident=1.0) -> np.ndarray:
    """Margins of a model that is calibrated, or whose margins are so many times too large."""
    draw = rng(seed)
    size = np.abs(draw.normal(0, 1.5, pairs))
    return np.where(draw.random(pairs) < expit(size), size, -size) * over_confident


def error_by_loop(margins: np.ndarray, bins: int = 10) -> float:
    """The expected calibration error, bin by bin."""
    total = 0.0
    for b in range(bins):
        low, high = 0.5 + b * 0.5 / bins, 0.5 + (b + 1) * 0.5 / bins
        inside = []
        for margin in margins:
            p = 1 / (1 + np.exp(-margin))
            confidence = max(p, 1 - p)
            if low <= confidence < high:
                inside.append((confidence, 1.0 if p > 0.5 else 0.5 if p == 0.5 else 0.0))
        if inside:
            total += len(inside) / len(margins) * abs(np.mean([c for c, _ in inside]) - np.mean([r for _, r in inside]))
    return total


# Known answers


def test_the_brier_score_of_three_margins():
    figure = brier(np.array([LOG_3, -LOG_3, 0.0, nan]), rng())
    assert figure.value == pytest.approx((0.25**2 + 0.75**2 + 0.5**2) / 3)
    assert (figure.n, figure.of) == (3, "pairs")


def test_the_curve_of_five_margins():
    curve = calibration(np.array([LOG_3, LOG_3, LOG_3, -LOG_3, 0.0, nan]), bins=2)
    assert [(one.low, one.high) for one in curve] == [(0.5, 0.75), (0.75, 1.0)]
    assert [one.confidence for one in curve] == pytest.approx([0.5, 0.75])
    assert [one.right.value for one in curve] == [0.5, 0.75]  # a tie is half right; 3 of 4 at 3 to 1
    assert curve[1].right[1:3] == pytest.approx(proportion_confint(3, 4, method="wilson"))
    assert expected_calibration_error(np.array([LOG_3, LOG_3, LOG_3, -LOG_3, 0.0]), rng(), bins=2).value == pytest.approx(0)


def test_with_one_bin_the_error_is_that_of_the_means():
    margins = made(1)
    expected = abs(expit(np.abs(margins)).mean() - (margins > 0).mean())
    assert expected_calibration_error(margins, rng(), bins=1).value == pytest.approx(expected, abs=1e-12)


# Other implementations


def test_the_brier_score_is_that_of_scikit_learn_whichever_side_comes_first():
    margins = made(2)
    shown_first = rng(3).random(500) < 0.5  # the chosen response is first
    p = expit(np.where(shown_first, margins, -margins))
    assert brier(margins, rng()).value == pytest.approx(brier_score_loss(shown_first, p), abs=1e-9)


@pytest.mark.parametrize("bins", [5, 10, 15])
def test_the_error_is_that_of_a_loop_and_of_the_curve(bins):
    margins = np.concatenate([made(4, over_confident=2), np.zeros(7)])
    figure = expected_calibration_error(margins, rng(), bins=bins)
    assert figure.value == pytest.approx(error_by_loop(margins, bins), abs=1e-9)
    curve = [one for one in calibration(margins, bins=bins) if one.right.n]
    assert sum(one.right.n for one in curve) == 507
    assert figure.value == pytest.approx(sum(one.right.n * abs(one.right.value - one.confidence) for one in curve) / 507)


def test_the_interval_of_the_brier_score_is_that_of_whole_prompts_copied():
    margins, groups = made(5, pairs=120), np.repeat(np.arange(40), 3) * 5
    expected = by_copying(lambda rows, _: ((1 - expit(margins[rows])) ** 2).mean(), groups, "pairs")
    found = brier(margins, rng(3), groups=groups, resamples=40)
    assert found[:3] == pytest.approx(expected[:3], abs=1e-9)
    assert found[3:] == expected[3:]


def test_the_interval_of_the_error_is_that_of_copied_prompts_less_what_copying_adds():
    margins, groups = made(5, pairs=120, over_confident=3), np.repeat(np.arange(40), 3)
    errors = np.array([error_by_loop(margins[rows]) for rows, _ in redraws(groups)])
    plain = by_copying(lambda rows, _: error_by_loop(margins[rows]), groups, "pairs")
    added = errors[1:].mean() - errors[0]
    found = expected_calibration_error(margins, rng(3), groups=groups, resamples=40)
    assert found[:3] == pytest.approx((plain.value, plain.low - 2 * added, plain.high - added), abs=1e-9)
    assert 0 < found.low < found.value < found.high
    assert added > 0.005


# What they tell


def test_a_calibrated_model_is_right_as_often_as_it_says_and_an_over_confident_one_less():
    curve, bold = (calibration(made(6, pairs=20_000, over_confident=times)) for times in (1.0, 3.0))
    assert sum(one.right.low <= one.confidence <= one.right.high for one in curve) >= 8
    assert all(one.confidence > one.right.high for one in bold if one.low >= 0.6)
    calm = expected_calibration_error(made(6, pairs=2000), rng())
    assert calm.low == 0.0 < calm.value < calm.high < 0.05
    assert expected_calibration_error(made(6, pairs=2000, over_confident=3.0), rng()).low > 0.05


def test_the_sides_swapped_leave_confidence_and_mirror_what_is_right():
    margins = np.append(made(7), 0.0)
    for one, other in zip(calibration(margins), calibration(-margins), strict=True):
        assert one.confidence == other.confidence
        assert one.right.value == pytest.approx(1 - other.right.value)


def test_a_model_that_ties_everything_is_calibrated_and_knows_nothing():
    assert brier(np.zeros(50), rng()).value == 0.25
    assert expected_calibration_error(np.zeros(50), rng()).value == 0.0


@pytest.mark.filterwarnings("error")
def test_margins_of_thousands_overflow_nothing():
    margins = np.array([1e4, -1e4, np.inf, 5e3])
    assert brier(margins, rng()).value == 0.25
    assert calibration(margins)[-1].right.value == 0.75
    assert expected_calibration_error(margins, rng()).value == pytest.approx(0.25)


@pytest.mark.parametrize(("over_confident", "pairs", "together"), [(1.0, 300, 1), (1.5, 600, 1), (2.5, 600, 3)])
def test_the_interval_of_the_error_covers_the_truth(over_confident, pairs, together):
    margins = np.linspace(1e-4, 9, 200_000)  # the truth by numerical integration over the sizes of margins
    density = np.exp(-((margins / 1.5) ** 2) / 2)
    gap = (expit(over_confident * margins) - expit(margins)) * density
    place = np.minimum(((expit(over_confident * margins) - 0.5) * 20).astype(int), 9)
    truth = np.abs(np.bincount(place, gap)).sum() / density.sum()
    groups, covered = np.repeat(np.arange(pairs // together), together), 0
    for study in range(250):
        drawn = np.repeat(made(study, pairs=pairs // together, over_confident=over_confident), together)
        figure = expected_calibration_error(drawn, rng(study), groups=groups, resamples=250)
        covered += figure.low <= truth <= figure.high
    assert 0.91 <= covered / 250 <= 0.98


# Undefined


@pytest.mark.parametrize("margins", [np.empty(0), np.full(3, nan)])
def test_without_a_scored_pair_nothing_is_defined(margins):
    nothing = Figure(None, None, None, 0, "pairs", "no pair was scored")
    assert brier(margins, rng()) == expected_calibration_error(margins, rng()) == nothing
    assert {one.confidence for one in calibration(margins)} == {None}
    assert calibration(margins)[0].right == Figure(None, None, None, 0, "pairs", "no pair has such a confidence")


def test_bins_and_groups_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="bins is 0, expected at least 1"):
        calibration(np.ones(3), bins=0)
    with pytest.raises(ValueError, match="there are 2 groups for 3 pairs, expected one for each pair"):
        brier(np.ones(3), rng(), groups=np.zeros(2, int))


def test_two_prompts_have_an_error_and_no_interval():
    figure = expected_calibration_error(made(8, pairs=20), rng(), groups=np.repeat([0, 1], 10))
    assert figure.value is not None
    assert (figure.low, figure.undefined) == (None, "an interval needs at least 3 prompts")
