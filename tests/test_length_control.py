"""Accuracy at equal length: statsmodels, copied prompts, models that like length and one that does not, reasons."""

import numpy as np
import pytest
from scipy.special import expit
from statsmodels.api import GLM, Logit, families

from curation.stats.figures import Figure
from curation.stats.length_control import by_length_difference, length_controlled
from curation.stats.preference_accuracy import accuracy
from tests.redraws import by_copying

nan = np.nan


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def made(seed: int, *, pairs=240, quality=0.5, length=1.0, ties=0.0) -> tuple[np.ndarray, np.ndarray]:
    """Margins and length differences: chosen is longer on average, and the model likes length so much."""
    draw = rng(seed)
    differences = np.round(draw.normal(60, 100, pairs))
    margins = quality + length * np.tanh(differences / differences.std()) + draw.logistic(size=pairs)
    margins[draw.random(pairs) < ties] = 0.0
    return margins, differences


def by_statsmodels(margins: np.ndarray, differences: np.ndarray) -> float:
    """A tie is a pair won and a pair lost, each of weight one half."""
    tied = margins == 0
    won = np.concatenate([margins > 0, np.zeros(tied.sum())]) + np.concatenate([tied, np.zeros(tied.sum())])
    bent = np.tanh(np.concatenate([differences, differences[tied]]) / differences.std())
    weights = np.concatenate([np.where(tied, 0.5, 1.0), np.full(tied.sum(), 0.5)])
    design = np.column_stack([np.ones(len(bent)), bent])
    return float(expit(GLM(won, design, families.Binomial(), freq_weights=weights).fit(tol=1e-14).params[0]))


# The fit


@pytest.mark.parametrize("seed", range(5))
def test_the_accuracy_at_equal_length_is_that_of_statsmodels_logit(seed):
    margins, differences = made(seed, quality=seed - 1.0)
    design = np.column_stack([np.ones(240), np.tanh(differences / differences.std())])
    expected = expit(Logit(margins > 0, design).fit(disp=False, method="newton", tol=1e-12).params[0])
    figure = length_controlled(margins, differences, rng(), resamples=1)
    assert figure.value == pytest.approx(expected, abs=1e-9)
    assert (figure.n, figure.of) == (240, "pairs")


def test_a_tie_is_half_a_pair_won_and_half_a_pair_lost():
    margins, differences = made(6, ties=0.2)
    assert length_controlled(margins, differences, rng(), resamples=1).value == pytest.approx(
        by_statsmodels(margins, differences), abs=1e-9
    )


def test_very_accurate_models_are_fitted_too():
    margins, differences = made(7, pairs=3000, quality=6.0, length=2.0)
    assert accuracy(margins).strict.value > 0.99
    expected = by_statsmodels(margins, differences)
    assert length_controlled(margins, differences, rng(), resamples=1).value == pytest.approx(expected, abs=1e-9)


def test_the_interval_is_that_of_whole_prompts_copied_and_fitted_anew():
    margins, differences = made(8, ties=0.1)
    groups = np.repeat(np.arange(80), 3) * 2
    expected = by_copying(lambda rows, _: by_statsmodels(margins[rows], differences[rows]), groups, "pairs")
    found = length_controlled(margins, differences, rng(3), groups=groups, resamples=40)
    assert found[:3] == pytest.approx(expected[:3], abs=1e-9)
    assert found[3:] == expected[3:]


# What it tells


def test_a_model_that_likes_nothing_but_length_is_no_better_than_chance_at_equal_length():
    margins, differences = made(9, pairs=2000, quality=0.0, length=2.0)
    assert accuracy(margins).strict.low > 0.6
    figure = length_controlled(margins, differences, rng())
    assert figure.low < 0.5 < figure.high
    assert figure.high - figure.low < 0.08


def test_a_model_that_does_not_see_length_keeps_its_accuracy():
    margins, differences = made(13, pairs=4000, quality=1.0, length=0.0)
    figure = length_controlled(margins, differences, rng())
    assert figure.value == pytest.approx(accuracy(margins).strict.value, abs=0.01)
    assert figure.low < expit(1.0) < figure.high


def test_the_sides_swapped_mirror_it_and_no_unit_of_length_matters():
    margins, differences = made(11, ties=0.1)
    figure = length_controlled(margins, differences, rng())
    swapped = length_controlled(-margins, -differences, rng())
    assert (swapped.value, swapped.low, swapped.high) == pytest.approx((1 - figure.value, 1 - figure.high, 1 - figure.low))
    assert length_controlled(margins * 7, differences / 6.5, rng())[:3] == pytest.approx(figure[:3])


def test_the_interval_covers_the_truth_where_pairs_of_a_prompt_go_together():
    covered, groups = 0, np.repeat(np.arange(60), 4)
    for study in range(300):
        draw = rng(study)  # a prompt's four pairs are two, each twice
        margins, differences = (np.repeat(values, 2) for values in made(study, pairs=120, quality=0.8))
        figure = length_controlled(margins, differences, draw, groups=groups, resamples=150)
        covered += figure.low <= expit(0.8) <= figure.high
    assert 0.91 <= covered / 300 <= 0.98


# By length


def test_accuracy_in_bins_of_length_difference():
    margins = np.array([-1.0, -1, 0, 1, -1, 1, 1, nan])
    differences = np.array([-30.0, -20, -10, 0, 10, 20, 30, 99])
    bins = by_length_difference(margins, differences, bins=3)
    assert [(one.low, one.high, one.accuracy.half_ties.n) for one in bins] == [(-30, -10, 3), (0, 20, 3), (30, 99, 1)]
    assert [one.accuracy.half_ties.value for one in bins] == pytest.approx([0.5 / 3, 2 / 3, 1])
    assert bins[0].accuracy == accuracy(margins[:3])


def test_pairs_of_one_difference_stay_together_even_if_bins_are_fewer_then():
    differences = np.array([0.0] * 8 + [5, 9])
    bins = by_length_difference(np.ones(10), differences, bins=5)
    assert [(one.low, one.high, one.accuracy.strict.n) for one in bins] == [(0, 0, 8), (5, 9, 2)]
    assert len(by_length_difference(np.ones(3), np.zeros(3))) == 1
    assert by_length_difference(np.full(3, nan), np.zeros(3)) == []


def test_bins_hold_about_as_many_pairs_each_and_show_a_liking_for_length():
    bins = by_length_difference(*made(12, pairs=3000, quality=0.0, length=2.0))
    shares = [one.accuracy.strict.value for one in bins]
    assert all(abs(one.accuracy.strict.n - 600) < 20 for one in bins)
    assert shares == sorted(shares)
    assert bins[0].accuracy.strict.high < 0.5 < bins[-1].accuracy.strict.low


# Undefined


def test_lengths_that_part_the_pairs_won_from_those_lost_have_no_finite_fit():
    differences = np.arange(-10.0, 10.0)
    parted = "the length difference alone parts the pairs won from those lost, or all were won, or lost"
    everywhere = Figure(None, None, None, 20, "pairs", parted)
    for margins in (differences + 0.5, -differences - 0.5, np.ones(20), -np.ones(20), differences):  # the last with a tie
        assert length_controlled(margins, differences, rng()) == everywhere
    overlapping = np.where(np.arange(20) == 3, 1.0, differences + 0.5)
    assert length_controlled(overlapping, differences, rng()).value is not None


def test_one_length_difference_everywhere_or_no_pair_tell_nothing():
    figure = length_controlled(np.tile([1.0, -1.0], 10), np.full(20, 0.1), rng())
    assert (figure.value, figure.undefined) == (None, "all pairs differ in length by the same")
    nothing = Figure(None, None, None, 0, "pairs", "no pair was scored")
    assert length_controlled(np.full(3, nan), np.arange(3.0), rng()) == nothing


def test_few_pairs_lost_leave_a_value_and_no_interval():
    margins, differences = np.ones(60), np.arange(60.0)
    margins[[20, 40]] = -1.0  # a redraw lacks both with a chance of (58/60)^60, 13%
    figure = length_controlled(margins, differences, rng(), resamples=2000)
    assert figure.value is not None
    assert figure.undefined in {f"it is undefined in {share}% of the redraws" for share in range(11, 16)}


def test_lengths_that_do_not_fit_the_pairs_are_refused():
    with pytest.raises(ValueError, match="there are 2 length differences for 3 pairs, expected one each"):
        length_controlled(np.ones(3), np.ones(2), rng())
    with pytest.raises(ValueError, match="a length difference is nan, expected a finite number"):
        by_length_difference(np.ones(2), np.array([1.0, nan]))
    with pytest.raises(ValueError, match="bins is 0, expected at least 1"):
        by_length_difference(np.ones(2), np.ones(2), bins=0)
