"""Where gold peaks: hand-worked fits, planted over-optimisation by both forms, none planted, coverage of the interval."""

import numpy as np
import pytest

from curation.stats.best_of_n import expected_best, kl_bound
from curation.stats.overoptimisation import overoptimisation

FORMS = {"best-of-n": lambda d, a, b: d * (a - b * d), "rl": lambda d, a, b: d * (a - b * np.log(np.where(d > 0, d, 1)))}
D = np.array([0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8, 2.1, 2.5])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def exact(form: str, a: float, b: float, prompts: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """KL and gold without noise, (points, prompts); prompts differ by a constant."""
    return np.repeat(D[:, None] ** 2, prompts, axis=1), FORMS[form](D, a, b)[:, None] + np.arange(prompts)


def noisy(form: str, a: float, b: float, seed: int, prompts: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """The same where prompts have curves of their own, and every answer its noise."""
    draw = rng(seed)
    own_a, own_b = a + draw.normal(0, 0.6, prompts), b + draw.normal(0, 0.2, prompts)
    gold = FORMS[form](D[:, None], own_a, own_b) + draw.normal(0, 0.3, (len(D), prompts)) + draw.normal(0, 2, prompts)
    return np.repeat(D[:, None] ** 2, prompts, axis=1), gold


def latent(seed: int, *, prompts: int, samples: int, hacked: float) -> tuple[np.ndarray, np.ndarray]:
    """Responses have a quality q and a hack h; the proxy likes both, gold minds the hack: q + h and q - hacked h^2."""
    quality, hack = rng(seed).normal(size=(2, prompts, samples))
    return quality + hack, quality - hacked * hack**2


NS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256])


def of_samples(proxy: np.ndarray, gold: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """KL (its bound), gold and proxy of best-of-n, (ns, prompts)."""
    picked, judged = (expected_best(proxy, values, NS).T for values in (proxy, gold))
    return np.repeat(kl_bound(NS)[:, None], len(proxy), axis=1), judged, picked


# The fit


@pytest.mark.parametrize(("form", "peak"), [("best-of-n", 1.2 / 0.8), ("rl", np.exp(1.2 / 0.8 - 1))])
def test_a_curve_of_that_form_is_fitted_to_the_last_digit(form, peak):
    kl, gold = exact(form, 1.2, 0.8 if form == "rl" else 0.4)
    found = overoptimisation(kl, gold, 3 * gold, rng(), form=form, resamples=20)
    assert (found.fit.a.value, found.fit.b.value) == pytest.approx((1.2, 0.8 if form == "rl" else 0.4))
    assert (found.peak.d.value, found.peak.kl.value) == pytest.approx((peak, peak**2))
    assert found.fit.r_squared == pytest.approx(1.0)
    assert found.fit.rmse == pytest.approx(0.0, abs=1e-9)
    assert found.fit.gold(D) == pytest.approx(gold[:, 0])
    assert [one.proxy.value for one in found.points] == pytest.approx(3 * (gold[:, 0] - gold[0, 0]))
    assert [one.d for one in found.points] == pytest.approx(D)


@pytest.mark.parametrize("form", FORMS)
def test_the_fit_is_weighted_least_squares_as_numpy_has_it(form):
    kl, gold = noisy(form, 1.0, 0.3, 1)
    variances = np.linspace(1.0, 3.0, len(D))
    found = overoptimisation(kl, gold, gold, rng(), form=form, variances=variances, resamples=5)
    rise = (gold - gold[0]).mean(axis=1)[1:]
    design = np.column_stack([FORMS[form](D[1:], 1, 0), FORMS[form](D[1:], 0, 1)])
    root = 1 / np.sqrt(variances[1:])
    (a, b), *_ = np.linalg.lstsq(design * root[:, None], rise * root, rcond=None)
    assert (found.fit.a.value, found.fit.b.value) == pytest.approx((a, b))
    rest, weight = rise - design @ [a, b], root**2 / (root**2).sum()
    assert found.fit.rmse == pytest.approx(np.sqrt(weight @ rest**2))
    assert found.fit.r_squared == pytest.approx(1 - weight @ rest**2 / (weight @ (rise - weight @ rise) ** 2))


def test_the_interval_is_that_of_prompts_really_copied_and_fitted_anew():
    kl, gold = noisy("best-of-n", 1.2, 0.4, 2)
    found = overoptimisation(kl, gold, gold, rng(3), form="best-of-n", resamples=300)
    peaks = []
    for _ in range(300):
        rows = rng(len(peaks)).integers(0, kl.shape[1], kl.shape[1])
        rise = (gold - gold[0])[:, rows].mean(axis=1)[1:]
        a, b = np.linalg.lstsq(np.column_stack([D[1:], -(D[1:] ** 2)]), rise, rcond=None)[0]
        peaks.append(a / (2 * b))
    assert (found.peak.d.low, found.peak.d.high) == pytest.approx(np.quantile(peaks, [0.022, 0.978]), rel=0.08)


def test_kl_that_differs_between_prompts_is_redrawn_with_them():
    kl, gold = noisy("rl", 0.8, 0.6, 4)
    kl[1:] *= rng(4).lognormal(0, 0.5, kl.shape[1]) / np.exp(0.125)
    found = overoptimisation(kl, gold, gold, rng(), form="rl", resamples=100)
    last = found.points[-1].kl
    assert last.value == pytest.approx(kl[-1].mean())
    assert last.low < last.value < last.high


# What is planted is found


@pytest.mark.parametrize("hacked", [0.35, 0.5])
def test_a_planted_departure_of_the_proxy_is_found_and_its_peak_lies_inside_the_interval(hacked):
    """The truth is that of 4,000 prompts with 256 samples each."""
    kl, truth, _ = of_samples(*latent(1, prompts=4000, samples=256, hacked=hacked))
    fine = np.polynomial.Polynomial.fit(np.sqrt(kl[1:, 0]), truth[1:].mean(axis=1), 5)
    across = np.linspace(np.sqrt(kl[1, 0]), np.sqrt(kl[-1, 0]), 2000)
    peak = across[fine(across).argmax()]
    assert 1.0 < peak < 1.8  # well inside what is seen
    found = overoptimisation(*of_samples(*latent(2, prompts=200, samples=256, hacked=hacked)), rng(), form="best-of-n")
    assert found.verdict == "over-optimised"
    assert found.peak.d.low <= peak <= found.peak.d.high
    assert found.measured.d.low <= peak <= found.measured.d.high
    assert found.fall.low > 0
    proxy = [one.proxy.value for one in found.points]
    assert proxy == sorted(proxy)  # all the while the proxy rises
    assert found.words.startswith("Gold peaks at KL")


@pytest.mark.parametrize(("form", "a", "b", "peak"), [("best-of-n", 1.2, 0.4, 1.5), ("rl", 0.8, 0.6, np.exp(0.8 / 0.6 - 1))])
def test_the_interval_of_the_peak_covers_the_truth_about_as_often_as_it_says(form, a, b, peak):
    covered, studies = 0, 150
    for seed in range(studies):
        kl, gold = noisy(form, a, b, 1000 + seed)
        found = overoptimisation(kl, gold, gold, rng(seed), form=form, resamples=200)
        covered += found.peak.d.low is not None and found.peak.d.low <= peak <= found.peak.d.high
    assert 0.90 <= covered / studies <= 0.985


def test_where_gold_is_what_is_optimised_none_is_claimed():
    told = of_samples(*latent(3, prompts=60, samples=256, hacked=0.0))
    found = overoptimisation(*told, rng(), form="best-of-n", resamples=300)
    assert found.verdict == "none seen"
    assert (found.peak.d.value, found.measured.d.value) == (None, None)
    rises = "gold still rises at the largest KL seen (4.55 nats), as in 100% of the redraws"
    assert found.words == f"No over-optimisation seen: {rises}."
    assert found.peak.still_rising == 1.0


def test_a_peak_that_prompts_do_not_agree_on_is_told_as_perhaps():
    kl, gold = noisy("best-of-n", 1.2, 0.28, 5, prompts=30)  # the peak is at 2.1, the last point at 2.5
    found = overoptimisation(kl, gold, gold, rng(), form="best-of-n", resamples=400)
    assert found.verdict == "perhaps"
    assert found.peak.d.high == pytest.approx(2.5)
    assert 0.025 < found.peak.still_rising < 0.975
    assert found.words.startswith("Gold perhaps peaks at KL")
    assert f"falls beyond: in {found.peak.still_rising:.0%} of the redraws it still rises" in found.words


@pytest.mark.parametrize("form", ["best-of-n", "rl"])
def test_a_peak_that_one_prompt_makes_is_told_as_perhaps(form):
    """It alone goes far, and falls. A redraw without it ends nearer, and rises to its own end: 29 of 30 do so (29/30)^30."""
    noise, along = rng(1).normal(size=(6, 30)), np.linspace(0, 1, 5)[:, None]
    kl, gold = 2 * along**2 * (1 + 0.2 * noise[5]), along + 0.1 * noise[:5]
    kl[:, 0], gold[:, 0] = 400 * along[:, 0] ** 2, along[:, 0] - 60 * along[:, 0] ** 2
    gold[0] = 0.0
    found = overoptimisation(kl, gold, gold, rng(), form=form)
    assert found.peak.d.high < found.points[-1].d  # as if it were certain
    assert found.peak.still_rising == pytest.approx((29 / 30) ** 30, abs=0.06)
    assert found.verdict == "perhaps"


def test_where_most_redraws_rise_to_the_end_the_words_say_where_a_peak_could_be():
    kl, gold = noisy("best-of-n", 1.2, 0.2, 5)  # the peak would be at 3
    found = overoptimisation(kl, gold, gold, rng(), form="best-of-n", resamples=400)
    assert found.verdict == "none seen"
    assert 0.5 < found.peak.still_rising < 1
    low = float(found.words.removesuffix(".").rpartition(" ")[2])
    assert 2 < low < 6.25


def test_gold_that_falls_from_the_start_never_rises():
    kl, gold = exact("best-of-n", -1.0, 0.2)
    found = overoptimisation(kl, gold, gold, rng(), form="best-of-n", resamples=20)
    assert (found.verdict, found.peak.d.value) == ("never rises", 0.0)


def test_the_upright_beginning_of_the_rl_form_is_no_rise():
    """d (a - b log d) rises at first for any b > 0: of gold that falls all the way its peak lies before the first point."""
    d, noise = np.linspace(0, 3, 6)[:, None], rng(2).normal(size=(6, 30))
    gold = -0.3 * d + 0.3 * noise
    found = overoptimisation(np.repeat(d**2, 30, axis=1), gold, gold, rng(), form="rl", resamples=100)
    assert found.fit.b.value > 0
    assert 0 < found.peak.d.value < 0.6
    assert (found.verdict, found.words) == ("never rises", "Gold never rises: it is highest at the start.")


def test_a_curve_that_bends_upwards_has_no_peak():
    kl, gold = exact("best-of-n", 0.5, -0.2)
    found = overoptimisation(kl, gold, gold, rng(), form="best-of-n", resamples=20)
    assert (found.verdict, found.fit.b.value) == ("none seen", pytest.approx(-0.2))
    kl, gold = exact("best-of-n", -1.0, -0.1)  # falls, ever less steeply
    assert overoptimisation(kl, gold, gold, rng(), form="best-of-n", resamples=20).verdict == "never rises"


# What is missing


def test_prompts_that_lack_a_number_at_a_point_are_left_out():
    kl, gold = noisy("best-of-n", 1.2, 0.4, 6)
    broken = gold.copy()
    broken[3, :10] = np.nan
    some = overoptimisation(kl, broken, gold, rng(), form="best-of-n", resamples=50)
    assert some == overoptimisation(*(one[:, 10:] for one in (kl, gold, gold)), rng(), form="best-of-n", resamples=50)
    assert some.peak.d.n == 30


def test_two_points_are_no_curve_and_no_prompts_none_at_all():
    kl, gold = noisy("best-of-n", 1.2, 0.4, 7)
    few = overoptimisation(kl[:3], gold[:3], gold[:3], rng(), form="best-of-n", resamples=20)
    assert (few.verdict, few.fit.rmse, few.fit.gold([1.0])) == ("unknown", None, None)
    reason = "a fit needs three points at different distances from the start"
    assert few.words == f"Where gold peaks is unknown, because {reason}."
    assert few.points[2].gold.value == pytest.approx((gold[2] - gold[0]).mean())
    none = overoptimisation(*np.full((3, 4, 2), np.nan), rng(), form="rl")
    assert (none.verdict, none.points[1].gold.value) == ("unknown", None)


def test_a_first_point_that_is_not_the_start_is_refused():
    kl, gold = exact("rl", 1.0, 0.5)
    with pytest.raises(ValueError, match=r"the first point is at KL 0\.09, expected the start, at 0"):
        overoptimisation(kl[1:], gold[1:], gold[1:], rng(), form="rl")
    with pytest.raises(ValueError, match=r"KL is \(9, 5\), gold \(8, 5\), proxy \(9, 5\), expected \(points, prompts\)"):
        overoptimisation(kl, gold[1:], gold, rng(), form="rl")
