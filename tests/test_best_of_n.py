"""Best-of-n from one set of samples: all subsets by brute force, all outcomes enumerated, Monte Carlo."""

from itertools import combinations, product

import numpy as np
import pytest
from scipy.special import gammaln

from curation.stats.best_of_n import (
    chances,
    curve,
    expected_best,
    grid,
    kl_bound,
    kl_exact,
    kl_sampled,
    means,
    picks,
    win_rate_bound,
)
from tests.redraws import by_copying

nan = np.nan


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def by_brute_force(proxy: np.ndarray, gold: np.ndarray, n: int) -> float:
    """The mean over all subsets of n samples of the gold of the one with the highest proxy; of several such, their mean."""
    best = []
    for subset in combinations(range(len(proxy)), n):
        some = np.array(subset)
        best.append(gold[some][proxy[some] == proxy[some].max()].mean())
    return float(np.mean(best))


# What the best of n is worth


@pytest.mark.parametrize("ties", [False, True])
def test_the_estimate_is_the_mean_over_all_subsets(ties):
    draw = rng(1)
    proxy = draw.integers(0, 4, (3, 9)).astype(float) if ties else draw.normal(size=(3, 9))
    gold, ns = draw.normal(size=(3, 9)), np.arange(1, 10)
    expected = [[by_brute_force(*rows, n) for n in ns] for rows in zip(proxy, gold, strict=True)]
    assert expected_best(proxy, gold, ns) == pytest.approx(np.array(expected), abs=1e-12)


def test_prompts_may_have_different_numbers_of_samples_and_a_sample_wants_both_scores():
    proxy = np.array([[3.0, 1, 2, nan, 9], [nan, 5, nan, nan, 4]])
    gold = np.array([[1.0, 2, 3, 4, nan], [7, 8, nan, nan, 9]])
    found = expected_best(proxy, gold, [1, 2, 3])
    assert found[0] == pytest.approx([2.0, by_brute_force(np.array([3.0, 1, 2]), np.array([1.0, 2, 3]), 2), 1.0])
    assert found[1, :2] == pytest.approx([8.5, 8.0])
    assert np.isnan(found[1, 2])


def test_a_prompt_with_too_few_samples_is_left_out_at_that_n_alone():
    proxy = np.array([[3.0, 1, 2], [2, 5, nan], [1, 2, nan], [4, 4, 1]])
    found = curve(proxy, proxy, rng(), ns=[2, 3, 4], resamples=20)
    assert [figure.n for figure in found.gold] == [4, 2, 0]
    assert found.gold[1].value == 3.5
    assert found.gold[2].words() == "undefined, because no prompt has so many samples (n=0 prompts)"


def test_the_chances_are_binomial_coefficients_also_of_thousands_of_samples():
    samples, n = 5000, 700
    i = np.arange(n, samples + 1)
    logs = gammaln(i) - gammaln(n) - gammaln(i - n + 1) - (gammaln(samples + 1) - gammaln(n + 1) - gammaln(samples - n + 1))
    found = chances(samples, n)
    assert found[n - 1 :] == pytest.approx(np.exp(logs), rel=1e-8, abs=1e-300)
    assert (found[: n - 1] == 0).all()
    for of in (1, 2, 700, 4999, 5000):
        assert chances(samples, of).sum() == pytest.approx(1.0, abs=1e-10)


def test_the_estimate_is_unbiased_where_repeating_best_of_n_is_the_truth():
    """Proxy and gold correlate by 0.6: the best of 8 normals is 1.4236 above the mean."""
    draw = rng(2)
    proxy = draw.normal(size=(20_000, 12))
    gold = 0.6 * proxy + 0.8 * draw.normal(size=proxy.shape)
    found = curve(proxy, gold, draw, ns=[1, 8], resamples=200)
    assert found.gold[1].low <= 0.6 * 1.4236 <= found.gold[1].high
    assert found.proxy[1].low <= 1.4236 <= found.proxy[1].high
    assert found.gold[1].high - found.gold[1].low < 0.03


def test_intervals_redraw_prompts_and_the_gain_is_paired_by_prompt():
    draw = rng(3)
    proxy, gold = draw.normal(size=(2, 25, 6))
    gold += 10 * draw.normal(size=(25, 1))  # what prompts differ by, all n share
    of_prompt = expected_best(proxy, gold, [1, 4])
    plain, gain = (curve(proxy, gold, rng(3), ns=[4], gain=one, resamples=40).gold[0] for one in (False, True))
    copied = by_copying(lambda rows, _: float(of_prompt[rows, 1].mean()), np.arange(25), "prompts")
    assert plain[:3] == pytest.approx(copied[:3])
    rise = of_prompt[:, 1] - of_prompt[:, 0]
    assert gain[:3] == pytest.approx(by_copying(lambda rows, _: float(rise[rows].mean()), np.arange(25), "prompts")[:3])
    assert gain.high - gain.low < (plain.high - plain.low) / 5


def test_the_grid_has_every_small_n_and_the_last():
    assert grid(5).tolist() == [1, 2, 3, 4, 5]
    many = grid(4000)
    assert many[:9].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 10]
    assert many[-1] == 4000
    assert (np.diff(many) > 0).all()
    assert len(many) < 50


def test_a_pick_is_the_best_of_the_first_n_and_of_equals_the_first():
    proxy = np.array([[1.0, 3, 3, 5], [2, nan, 2, 1]])
    assert [picks(proxy, n).tolist() for n in (1, 2, 3, 4)] == [[0, 0], [1, 0], [1, 0], [3, 0]]
    with pytest.raises(ValueError, match="prompt 1 has no scored sample among the first 1, expected one"):
        picks(np.array([[1.0, 2], [nan, 2]]), 1)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"proxy is \(2, 3\) and gold \(3, 2\), expected"):
        expected_best(np.zeros((2, 3)), np.zeros((3, 2)), [1])
    with pytest.raises(ValueError, match="n is 0, expected at least 1"):
        expected_best(np.zeros((2, 3)), np.zeros((2, 3)), [2, 0])


# How far it goes


def enumerated(probabilities: np.ndarray, scores: np.ndarray, n: int) -> np.ndarray:
    """The probability of each outcome to be best-of-n's, over all ways to draw n; of equally good draws the first."""
    found = np.zeros(len(probabilities))
    for drawn in product(range(len(probabilities)), repeat=n):
        found[drawn[int(scores[list(drawn)].argmax())]] += probabilities[list(drawn)].prod()
    return found


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    return float((p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum())


@pytest.mark.parametrize("scores", [[0.3, -1.0, 2.0, 0.5], [1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_exact_kl_is_that_of_all_draws_enumerated(scores, n):
    p, scores = np.array([0.4, 0.3, 0.2, 0.1]), np.array(scores)
    assert kl_exact(p, scores, n) == pytest.approx(divergence(enumerated(p, scores, n), p), abs=1e-12)
    assert kl_exact(p, scores, n) <= kl_bound(n) + 1e-12


def test_the_exact_kl_is_that_of_monte_carlo():
    draw = rng(4)
    p, scores, n = draw.dirichlet(np.ones(12)), np.round(draw.normal(size=12), 1), 16
    drawn = draw.choice(12, size=(200_000, n), p=p)
    best = drawn[np.arange(len(drawn)), scores[drawn].argmax(axis=1)]
    sampled = divergence(np.bincount(best, minlength=12) / len(best), p)
    assert kl_exact(p, scores, n) == pytest.approx(sampled, abs=0.01)


def test_the_bounds_are_reached_where_nothing_ties_and_nothing_has_a_mass():
    many = 200_000
    p, scores = np.full(many, 1 / many), np.arange(many, dtype=float)
    for n in (2, 16, 256):
        assert kl_exact(p, scores, n) == pytest.approx(float(kl_bound(n)), abs=1e-4)
    uniform = rng(5).random((100_000, 8))
    assert (uniform[:, :7].max(axis=1) > uniform[:, 7]).mean() == pytest.approx(float(win_rate_bound(7)), abs=0.01)


def test_best_of_very_many_stays_finite():
    p, scores = np.array([1 - 1e-9, 1e-9]), np.array([0.0, 1.0])
    assert kl_exact(p, scores, 100_000) == pytest.approx(1e-4 * np.log(1e5) - 1e-4, rel=0.01)
    assert kl_exact(p, scores, 10**12) == pytest.approx(np.log(1e9), rel=0.01)


def worlds() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Outcomes with a mass of their own; many of which a few are frequent; many whose scores are whole numbers."""
    draw = rng(6)
    zipf = 1 / np.arange(1, 5001) ** 1.3
    return {
        "atoms": (draw.dirichlet(np.full(30, 0.3)), draw.normal(size=30)),
        "zipf": (zipf / zipf.sum(), draw.normal(size=5000)),
        "ties": (np.full(50_000, 1 / 50_000), np.round(2 * draw.normal(size=50_000))),
    }


@pytest.mark.parametrize("world", ["atoms", "zipf", "ties"])
@pytest.mark.parametrize("n", [2, 8, 32])
def test_the_sampled_kl_is_the_exact_one_on_average(world, n):
    p, scores = worlds()[world]
    draw, found = rng(7), []
    for _ in range(80):
        drawn = draw.choice(len(p), size=256, p=p)
        found.append(kl_sampled(np.log(p[drawn]), scores[drawn], n, texts=drawn))
    exact = kl_exact(p, scores, n)
    assert np.mean(found) == pytest.approx(exact, rel=0.01)
    assert max(found) <= kl_bound(n)
    if world == "atoms":  # where it matters
        assert exact < 0.98 * kl_bound(n)
        assert np.std(found) < 0.02 * exact


def test_scores_that_the_samples_missed_are_made_up_for():
    """40 outcomes of equal mass, of which 20 samples see less than half."""
    p, scores, draw = np.full(40, 1 / 40), np.arange(40.0), rng(11)
    found = []
    for _ in range(400):
        drawn = draw.choice(40, size=20, p=p)
        found.append(kl_sampled(np.log(p[drawn]), scores[drawn], 8, texts=drawn))
    exact, lost = kl_exact(p, scores, 8), float(kl_bound(8)) - kl_exact(p, scores, 8)
    assert np.mean(found) == pytest.approx(exact, abs=0.2 * lost)


def test_the_sampled_kl_is_the_bound_where_every_response_is_improbable_and_nothing_ties():
    draw = rng(8)
    assert kl_sampled(draw.normal(-80, 10, 64), draw.normal(size=64), 16) == pytest.approx(float(kl_bound(16)), abs=1e-12)


def test_without_texts_a_response_is_told_by_its_score_and_log_probability():
    p, scores = worlds()["atoms"]
    drawn = rng(9).choice(len(p), size=100, p=p)
    named, unnamed = (kl_sampled(np.log(p[drawn]), scores[drawn], 8, texts=texts) for texts in (drawn, None))
    assert named == pytest.approx(unnamed, abs=1e-12)


def test_one_certain_response_leaves_the_start_where_it_is():
    assert kl_sampled(np.zeros(20), np.ones(20), 8) == pytest.approx(0.0, abs=1e-12)


def test_log_probabilities_that_are_none_are_refused():
    with pytest.raises(ValueError, match="there are 2 log-probabilities and 3 scores"):
        kl_sampled(np.zeros(2), np.zeros(3), 2)
    with pytest.raises(ValueError, match="a log-probability is above 0"):
        kl_sampled(np.array([-1.0, 0.5]), np.zeros(2), 2)


def test_the_mean_of_no_prompt_is_undefined():
    assert [one.value for one in means(np.full((4, 1), nan), rng(), resamples=5)] == [None]
