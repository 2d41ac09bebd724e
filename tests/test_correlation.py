"""Correlations of scores and ratings: scipy, plain loops over copied prompts, what must not matter, intervals that cover."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import kendalltau, pearsonr, rankdata, spearmanr

from curation.stats.correlation import correlation, difference, partial, within
from curation.stats.figures import Figure
from tests.redraws import by_copying

KNOWN = {"pearson": pearsonr, "spearman": spearmanr, "kendall": kendalltau}
METHODS = list(KNOWN)
nan = np.nan


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def made(seed: int, *, prompts=30, each=4, missing=0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, ratings in whole points with ties, and prompts; both have a part of the prompt and one of the response."""
    draw = rng(seed)
    prompt, own = np.repeat(draw.normal(size=prompts), each), draw.normal(size=prompts * each)
    x = prompt + own + draw.normal(size=len(own))
    y = np.round(prompt - own / 2 + draw.normal(size=len(own)))
    x[draw.random(len(x)) < missing], y[draw.random(len(y)) < missing] = nan, nan
    return x, y, np.repeat(np.arange(prompts), each) * 3


def same(one: Figure, other: Figure, tolerance=1e-9) -> None:
    assert one[:3] == pytest.approx(other[:3], abs=tolerance)
    assert one[3:] == other[3:]


def pairs_within(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> float:
    """tau-b over pairs of one group, pair by pair."""
    together = x_untied = y_untied = 0
    for i in range(len(x)):
        for j in range(i):
            if groups[i] == groups[j]:
                one, other = np.sign(x[i] - x[j]), np.sign(y[i] - y[j])
                together, x_untied, y_untied = together + one * other, x_untied + one**2, y_untied + other**2
    return together / np.sqrt(x_untied * y_untied)


def deviations(values: np.ndarray, groups: np.ndarray, of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    away = np.empty(len(values))
    for group in np.unique(groups):
        own = of(values[groups == group])
        away[groups == group] = own - own.mean()
    return away


def within_by_loop(x: np.ndarray, y: np.ndarray, groups: np.ndarray, method: str) -> float:
    if method == "kendall":
        return pairs_within(x, y, groups)
    of = rankdata if method == "spearman" else np.asarray
    return pearsonr(deviations(x, groups, of), deviations(y, groups, of)).statistic


def residuals(values: np.ndarray, control: np.ndarray) -> np.ndarray:
    design = np.column_stack([np.ones(len(control)), control])
    return values - design @ np.linalg.lstsq(design, values, rcond=None)[0]


# Over all responses


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(3))
def test_a_correlation_is_that_of_scipy_on_the_responses_that_have_both(method, seed):
    x, y, _ = made(seed, missing=0.2)
    x = np.where(np.abs(x) < 0.3, 0.0, x)  # ties on both sides
    both = ~np.isnan(x) & ~np.isnan(y)
    figure = correlation(x * 1e3 + 1e6, y, rng(), method=method, resamples=1)
    assert figure.value == pytest.approx(KNOWN[method](x[both], y[both]).statistic, abs=1e-9)
    assert (figure.n, figure.of) == (both.sum(), "responses")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("grouped", [False, True])
def test_the_interval_is_that_of_responses_or_whole_prompts_copied(method, grouped):
    x, y, prompts = made(4)
    groups = prompts if grouped else np.arange(len(x))
    expected = by_copying(lambda rows, _: KNOWN[method](x[rows], y[rows]).statistic, groups, "responses")
    same(correlation(x, y, rng(3), method=method, groups=prompts if grouped else None, resamples=40), expected)


def test_kendalls_tau_of_many_responses_is_counted_without_a_matrix_of_pairs_and_the_same():
    x, y, prompts = made(5, prompts=1000)
    expected = by_copying(lambda rows, _: kendalltau(x[rows], y[rows]).statistic, prompts, "responses", resamples=20)
    same(correlation(x, y, rng(3), method="kendall", groups=prompts, resamples=20), expected)
    few, many = (correlation(x, y, rng(3), method="kendall", groups=prompts, resamples=n) for n in (200, 1000))
    assert few == many  # 200 at most


# Within prompts


def test_within_a_prompt_the_order_can_be_the_opposite_of_the_order_over_all():
    x, y = np.array([1.0, 2, 11, 12, 21, 22]), np.array([2.0, 1, 12, 11, 22, 21])
    for method in METHODS:
        assert within(x, y, np.repeat([0, 1, 2], 2), rng(), method=method).value == pytest.approx(-1)
        assert correlation(x, y, rng(), method=method).value > 0.5


@pytest.mark.parametrize("method", METHODS)
def test_within_prompts_it_is_that_of_a_loop_over_prompts_and_its_interval_that_of_prompts_copied(method):
    x, y, prompts = made(6)
    expected = by_copying(lambda rows, copies: within_by_loop(x[rows], y[rows], copies, method), prompts, "responses")
    same(within(x, y, prompts, rng(3), method=method, resamples=40), expected)


@pytest.mark.parametrize("method", METHODS)
def test_prompts_with_one_response_that_has_both_are_left_out_of_within(method):
    x, y, prompts = made(7, each=3, missing=0.3)
    both = ~np.isnan(x) & ~np.isnan(y)
    kept = [row for row in np.flatnonzero(both) if (prompts[both] == prompts[row]).sum() > 1]
    figure = within(x, y, prompts, rng(), method=method)
    assert len(kept) < both.sum()
    assert figure == within(x[kept], y[kept], prompts[kept], rng(), method=method)
    assert figure.n == len(kept)
    assert figure.value == pytest.approx(within_by_loop(x[kept], y[kept], prompts[kept], method), abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_common_to_a_prompt_does_not_matter_within_nor_does_the_order_of_rows(method):
    x, y, prompts = made(8)
    order = rng(9).permutation(len(x))
    moved = within((x + prompts * 10)[order], (y - prompts)[order], prompts[order], rng(), method=method)
    same(moved, within(x, y, prompts, rng(), method=method), 1e-8)


# With a control


@pytest.mark.parametrize(("method", "of"), [("pearson", np.asarray), ("spearman", rankdata)])
def test_a_partial_correlation_is_that_of_what_a_line_leaves_and_its_interval_that_of_prompts_copied(method, of):
    x, y, prompts = made(10)
    length = np.round(x + y + rng(11).normal(size=len(x)), 1)

    def left(rows: np.ndarray, _: np.ndarray) -> float:
        one, other, control = of(x[rows]), of(y[rows]), of(length[rows])
        return pearsonr(residuals(one, control), residuals(other, control)).statistic

    same(partial(x, y, length, rng(3), method=method, groups=prompts, resamples=40), by_copying(left, prompts, "responses"))


def test_two_sides_that_only_share_length_have_no_partial_correlation():
    length = rng(12).normal(size=2000)
    x, y = length + rng(13).normal(size=2000), length + rng(14).normal(size=2000)
    for method in ("pearson", "spearman"):
        assert correlation(x, y, rng(), method=method, resamples=200).low > 0.4
        figure = partial(x, y, length, rng(), method=method, resamples=200)
        assert figure.low < 0 < figure.high
        assert abs(figure.value) < 0.06


# Two models


@pytest.mark.parametrize("method", METHODS)
def test_a_difference_is_that_of_both_correlations_in_the_same_copied_prompts(method):
    x, y, prompts = made(15)
    other_x, known = y + rng(16).normal(size=len(x)), KNOWN[method]

    def apart(rows: np.ndarray, _: np.ndarray) -> float:
        return known(x[rows], y[rows]).statistic - known(other_x[rows], y[rows]).statistic

    expected = by_copying(apart, prompts, "responses")
    same(difference(x, other_x, y, rng(3), method=method, groups=prompts, resamples=40), expected)


def test_a_difference_is_surer_than_two_separate_intervals_where_models_err_alike():
    x, y, prompts = made(17)
    other_x = x + rng(18).normal(size=len(x)) / 4
    one, other = (correlation(scores, y, rng(), groups=prompts) for scores in (x, other_x))
    figure = difference(x, other_x, y, rng(), groups=prompts)
    assert figure.value == pytest.approx(one.value - other.value)
    assert figure.high - figure.low < 0.4 * np.hypot(one.high - one.low, other.high - other.low)


def test_a_model_beside_itself_differs_by_nothing_and_only_responses_with_all_three_count():
    x, y, _ = made(19, missing=0.2)
    figure = difference(x, x, y, rng())
    assert figure.words().startswith("0.00 (no interval, because every redraw gives the same value), n=")
    other_x = np.where(np.arange(len(x)) < 20, nan, x)
    assert difference(x, other_x, y, rng()).n == (~np.isnan(x) & ~np.isnan(y) & ~np.isnan(other_x)).sum()


# What must not matter


@pytest.mark.parametrize("method", ["spearman", "kendall"])
def test_no_rising_change_matters_to_ranks_and_every_one_that_bends_matters_to_pearson(method):
    x, y, prompts = made(20)
    bent, cubed = np.exp(x), y**3
    assert correlation(bent, cubed, rng(), method=method, groups=prompts) == correlation(
        x, y, rng(), method=method, groups=prompts
    )
    assert within(bent, cubed, prompts, rng(), method=method) == within(x, y, prompts, rng(), method=method)
    assert abs(correlation(bent, cubed, rng()).value - correlation(x, y, rng()).value) > 0.01


@pytest.mark.parametrize("method", METHODS)
def test_sides_exchanged_change_nothing_and_one_reversed_changes_the_sign(method):
    x, y, prompts = made(21)
    figure = correlation(x, y, rng(), method=method, groups=prompts)
    same(correlation(y, x, rng(), method=method, groups=prompts), figure)
    turned = correlation(-x, y, rng(), method=method, groups=prompts)
    assert (turned.value, turned.low, turned.high) == pytest.approx((-figure.value, -figure.high, -figure.low))


@pytest.mark.parametrize("method", METHODS)
def test_copies_of_every_response_add_nothing_where_prompts_are_redrawn(method):
    x, y, prompts = made(22, each=1, prompts=60)
    alone = correlation(x, y, rng(), method=method)
    copied = correlation(np.repeat(x, 5), np.repeat(y, 5), rng(), method=method, groups=np.repeat(prompts, 5))
    same(copied._replace(n=60), alone)
    careless = correlation(np.repeat(x, 5), np.repeat(y, 5), rng(), method=method)
    assert careless.high - careless.low < 0.6 * (alone.high - alone.low)


# Coverage


@pytest.mark.parametrize(
    ("method", "truth"), [("pearson", 0.5), ("spearman", 6 / np.pi * np.arcsin(0.25))]
)  # of two normal variables that correlate by 0.5
def test_clustered_intervals_cover_the_truth_and_those_that_ignore_prompts_do_not(method, truth):
    covered, studies, groups = np.zeros(2), 300, np.repeat(np.arange(60), 4)
    for study in range(studies):
        draw = rng(study)
        shared, other = draw.normal(size=(2, 60)) * np.sqrt(0.7), draw.normal(size=(2, 240)) * np.sqrt(0.3)  # of the variance
        x, y = (np.repeat(shared, 4, axis=1) + other) * [[1.0], [np.sqrt(0.75)]]
        y += 0.5 * x
        figures = [correlation(x, y, draw, method=method, groups=one, resamples=250) for one in (groups, None)]
        covered += [figure.low <= truth <= figure.high for figure in figures]
    assert 0.91 <= covered[0] / studies <= 0.98
    assert covered[1] / studies < 0.85


@pytest.mark.parametrize("method", ["pearson", "kendall"])
def test_intervals_within_prompts_cover_the_truth(method):
    truth = 0.5 if method == "pearson" else 2 / np.pi * np.arcsin(0.5)  # of two normal variables that correlate by 0.5
    covered, groups = 0, np.repeat(np.arange(60), 4)
    for study in range(300):
        draw = rng(study)
        own, y = draw.normal(size=(2, 240))
        x = own * np.sqrt(0.75) + y / 2 + np.repeat(draw.normal(size=60), 4) * 5
        figure = within(x, y, groups, draw, method=method, resamples=250)
        covered += figure.low <= truth <= figure.high
    assert 0.91 <= covered / 300 <= 0.98


# Undefined


@pytest.mark.parametrize("method", METHODS)
def test_a_side_that_is_the_same_everywhere_has_no_correlation(method):
    x, y, prompts = made(23)
    constant = np.full(len(x), 0.1)
    scores, ratings = "the scores are all equal", "the ratings are all equal"
    assert correlation(constant, y, rng(), method=method) == Figure(None, None, None, 120, "responses", scores)
    assert correlation(x, constant, rng(), method=method).undefined == ratings
    assert difference(x, constant, y, rng(), method=method).undefined == "the other scores are all equal"
    prompts = np.arange(120) // 3
    apart = prompts / 10.0  # differs, but not within a prompt; the mean of three 0.1 need not be 0.1
    assert within(apart, y, prompts, rng(), method=method).undefined == f"{scores} within every prompt"
    assert within(x, apart, prompts, rng(), method=method).undefined == f"{ratings} within every prompt"


@pytest.mark.parametrize("method", METHODS)
def test_a_correlation_needs_three_responses_and_an_interval_three_prompts(method):
    few = correlation(np.array([1.0, 2, nan]), np.array([2.0, 1, 3]), rng(), method=method)
    assert few.words() == (
        "undefined, because a correlation needs at least 3 responses with both a score and a rating (n=2 responses)"
    )
    x, y, _ = made(24)
    figure = correlation(x, y, rng(), method=method, groups=np.repeat([0, 1], 60))
    assert (figure.low, figure.undefined) == (None, "an interval needs at least 3 prompts")
    assert figure.value == pytest.approx(KNOWN[method](x, y).statistic)


def test_prompts_of_one_response_or_no_response_at_all_have_nothing_within():
    nothing = Figure(None, None, None, 0, "responses", "no prompt has two responses with both a score and a rating")
    assert within(np.arange(5.0), np.arange(5.0), np.arange(5), rng()) == nothing
    assert within(np.empty(0), np.empty(0), np.empty(0, int), rng(), method="kendall") == nothing
    assert correlation(np.empty(0), np.empty(0), rng()).n == 0


def test_a_control_that_is_constant_or_tells_a_side_leaves_nothing():
    x, y, _ = made(25)
    assert partial(x, y, np.ones(len(x)), rng()).undefined == "the values of the control are all equal"
    for method in ("pearson", "spearman"):
        for times in (0.1, 0.7, 3.0):  # of which some leave a rounding error of the correlation beside 1
            figure = partial(x, y, times * x + 0.3, rng(), method=method, resamples=10)
            assert (figure.value, figure.undefined) == (None, "the control alone tells the scores or the ratings")


def test_one_response_that_differs_leaves_no_interval():
    y = np.zeros(40)
    y[0] = 1.0  # a third of the redraws lack it
    figure = correlation(np.arange(40.0) + 0.1, y, rng(), resamples=2000)
    assert figure.value is not None
    assert figure.undefined in {f"it is undefined in {share}% of the redraws" for share in range(33, 40)}


def test_arrays_that_do_not_fit_and_infinite_scores_are_refused():
    with pytest.raises(ValueError, match="arrays of different lengths: x 3, y 3, groups 2"):
        correlation(np.ones(3), np.ones(3), rng(), groups=np.zeros(2, int))
    with pytest.raises(ValueError, match="x has -inf, expected finite numbers, or NaN where there is none"):
        correlation(np.array([1.0, -np.inf]), np.ones(2), rng())
    with pytest.raises(ValueError, match="method is 'rank', expected pearson, spearman or kendall"):
        correlation(np.arange(3.0), np.arange(3.0), rng(), method="rank")
    with pytest.raises(ValueError, match="method is 'rank', expected pearson, spearman or kendall"):
        partial(np.arange(3.0), np.arange(3.0), np.ones(3), rng(), method="rank")


def test_the_partial_tau_is_kendalls():
    """Kendall, Biometrika 32 (1942) 277, from scipy's three taus."""
    draw = np.random.default_rng(11)
    control = draw.integers(0, 9, 60).astype(float)
    x, y = control + draw.normal(size=60), control - 2 * draw.normal(size=60)
    both, with_x, with_y = (kendalltau(*two).statistic for two in ((x, y), (x, control), (y, control)))
    expected = (both - with_x * with_y) / np.sqrt((1 - with_x**2) * (1 - with_y**2))
    found = partial(x, y, control, rng(), method="kendall")
    assert found.value == pytest.approx(expected)
    assert found.low < found.value < found.high
