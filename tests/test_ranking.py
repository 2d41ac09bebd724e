"""Generators compared, and how large a study must be: published fits, other implementations, simulated studies."""

from itertools import pairwise

import numpy as np
import pytest
import statsmodels.api as sm

from curation.stats.agreement import krippendorff
from curation.stats.figures import Figure
from curation.stats.ranking import bradley_terry, means, win_matrix, win_rate, win_rates
from curation.stats.sample_size import (
    Plan,
    half_width_for_mean,
    half_width_for_share,
    items_for_mean,
    items_for_share,
    plans,
)

# Agresti, Categorical Data Analysis (2nd ed., 2002), section 10.6: the American League's eastern division of 1987
TEAMS = ["Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore"]
WON = np.array(
    [
        [0, 7, 9, 7, 7, 9, 11], [6, 0, 7, 5, 11, 9, 9], [4, 6, 0, 7, 7, 8, 12], [6, 8, 6, 0, 6, 7, 10],
        [6, 2, 6, 7, 0, 7, 12], [4, 4, 5, 6, 6, 0, 6], [2, 4, 1, 3, 1, 7, 0],
    ]
)  # fmt: skip
AGRESTI = [1.58, 1.44, 1.29, 1.25, 1.11, 0.68, 0.0]  # strengths, Baltimore at 0


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def games(won: np.ndarray, names: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The comparisons behind a matrix of wins, every second one with the sides exchanged."""
    winner, loser = (np.repeat(index.ravel(), won.ravel()) for index in np.indices(won.shape))
    turned = np.arange(len(winner)) % 2 == 1
    called = np.array(names)
    return called[np.where(turned, loser, winner)], called[np.where(turned, winner, loser)], np.where(turned, 0.0, 1.0)


def season() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    left, right, outcome = games(WON, TEAMS)
    return left, right, outcome, np.arange(len(left))


def compared(seed: int, *, prompts=60, a_prompt=3, strengths=(0.8, 0.2, -1.0), ties=0.15):
    """Comparisons of a, b and c with known strengths; those of a prompt lean the same way."""
    draw, names = rng(seed), np.array(["a", "b", "c"])
    prompt = np.repeat(np.arange(prompts), a_prompt)
    one = draw.integers(3, size=len(prompt))
    other = (one + draw.integers(1, 3, size=len(prompt))) % 3
    gap = np.array(strengths)[one] - np.array(strengths)[other]
    outcome = (draw.random(len(prompt)) < 1 / (1 + np.exp(-gap))).astype(float)
    outcome[draw.random(len(prompt)) < ties] = 0.5
    return names[one], names[other], outcome, prompt


# Bradley-Terry


def test_strengths_are_those_agresti_prints():
    strengths = bradley_terry(*season(), rng(), resamples=1)
    found = [strengths[team].value - strengths["Baltimore"].value for team in TEAMS]
    assert [round(strength, 2) for strength in found] == AGRESTI
    assert sum(figure.value for figure in strengths.values()) == pytest.approx(0.0)


def test_the_strengths_of_two_are_the_log_odds_of_winning():
    left, right, outcome = games(np.array([[0, 30], [12, 0]]), ["a", "b"])
    outcome[:4] = 0.5  # four of a's wins are ties: 26 + 2 to 12 + 2
    strengths = bradley_terry(left, right, outcome, np.arange(42), rng(), resamples=1)
    assert strengths["a"].value - strengths["b"].value == pytest.approx(np.log(28 / 14), abs=1e-9)


def test_strengths_are_those_of_a_binomial_model_in_statsmodels():
    left, right, outcome, prompts = compared(1)
    names = ["a", "b", "c"]
    contrasts = (left[:, None] == names).astype(float) - (right[:, None] == names)
    fitted = sm.GLM(outcome, contrasts[:, 1:], family=sm.families.Binomial()).fit(tol=1e-14).params
    strengths = bradley_terry(left, right, outcome, prompts, rng(), resamples=1)
    differences = [strengths[name].value - strengths["a"].value for name in names[1:]]
    assert differences == pytest.approx(list(fitted), abs=1e-8)


def test_exchanging_the_sides_or_renaming_changes_no_strength():
    left, right, outcome, prompts = compared(2)
    strengths = bradley_terry(left, right, outcome, prompts, rng(), resamples=20)
    exchanged = bradley_terry(right, left, 1 - outcome, prompts, rng(), resamples=20)
    for name, figure in strengths.items():
        assert exchanged[name][:3] == pytest.approx(figure[:3], abs=1e-6)
    names = {"a": "z", "b": "y", "c": "x"}
    renamed = bradley_terry(
        *(np.array([names[n] for n in side]) for side in (left, right)), outcome, prompts, rng(), resamples=1
    )
    assert renamed["z"].value == pytest.approx(strengths["a"].value, abs=1e-6)


@pytest.mark.slow
def test_the_interval_of_a_strength_covers_the_truth():
    true, covered, studies = np.array([0.8, 0.2, -1.0]), 0, 50
    for study in range(studies):
        strengths = bradley_terry(*compared(100 + study, ties=0.0), rng(study), resamples=100)
        covered += sum(strengths[name].low <= value <= strengths[name].high for name, value in zip("abc", true, strict=True))
    assert 0.90 <= covered / (3 * studies) <= 0.99


def test_the_same_prompt_asked_often_does_not_make_the_interval_narrower():
    left, right, outcome, prompts = compared(3, a_prompt=1, prompts=100)
    once = bradley_terry(left, right, outcome, prompts, rng(), resamples=60)
    often = bradley_terry(*(np.tile(array, 5) for array in (left, right, outcome, prompts)), rng(), resamples=60)
    for name, figure in once.items():
        assert often[name][:3] == pytest.approx(figure[:3], abs=1e-6)
        assert often[name][3:] == figure[3:] == (100, "prompts", "")


@pytest.mark.parametrize(
    ("won", "reason"),
    [
        ([[0, 3, 2], [0, 0, 4], [0, 5, 0]], "a never lost to the others"),
        ([[0, 3, 2], [1, 0, 4], [0, 0, 0]], "c never won against the others"),
    ],
)
def test_a_generator_that_never_won_or_never_lost_has_no_finite_strength(won, reason):
    left, right, outcome = games(np.array(won), ["a", "b", "c"])
    strengths = bradley_terry(left, right, outcome, np.arange(len(left)), rng(), resamples=20)
    assert strengths == dict.fromkeys("abc", Figure(None, None, None, len(left), "prompts", reason))


def test_generators_never_compared_with_one_another_have_no_common_scale():
    won = np.zeros((4, 4), int)
    won[0, 1] = won[1, 0] = won[2, 3] = won[3, 2] = 5
    left, right, outcome = games(won, ["a", "b", "c", "d"])
    strengths = bradley_terry(left, right, outcome, np.arange(20), rng())
    assert strengths["d"].words() == "undefined, because no comparison joins a and b with the others (n=20 prompts)"


def test_a_single_win_that_redraws_lack_leaves_a_strength_without_an_interval():
    left, right, outcome = games(np.array([[0, 30], [1, 0]]), ["a", "b"])
    figure = bradley_terry(left, right, outcome, np.arange(31), rng(), resamples=300)["a"]
    assert figure.value == pytest.approx(np.log(30) / 2, abs=1e-9)
    assert (figure.low, figure.undefined[:18]) == (None, "it is undefined in")


# Wins and means


def test_the_win_matrix_counts_a_tie_half_for_each():
    left, right = np.array(["a", "b", "a", "c"]), np.array(["b", "a", "b", "a"])
    names, wins, counts = win_matrix(left, right, np.array([1.0, 1.0, 0.5, 0.0]))
    assert names == ["a", "b", "c"]
    assert wins.tolist() == [[0, 1.5, 1], [1.5, 0, 0], [0, 0, 0]]
    assert counts.tolist() == [[0, 3, 1], [3, 0, 0], [1, 0, 0]]
    assert win_matrix(*season()[:3]).wins[:1].sum() == WON[6].sum()  # Baltimore is the first by name


def test_win_rates_of_two_add_up_to_one_and_are_the_mean_outcome():
    left, right, outcome, prompts = compared(4)
    two = (left != "c") & (right != "c")
    left, right, outcome, prompts = left[two], right[two], outcome[two], prompts[two]
    rates = win_rates(left, right, outcome, prompts, rng())
    seen_by_a = np.where(left == "a", outcome, 1 - outcome)
    assert rates["a"].value == pytest.approx(seen_by_a.mean())
    assert rates["a"] == win_rate(seen_by_a, prompts, rng())
    assert (rates["b"].low, rates["b"].high) == pytest.approx((1 - rates["a"].high, 1 - rates["a"].low), abs=0.01)


def test_a_generator_that_always_won_has_wilsons_interval_over_prompts():
    figure = win_rate(np.ones(40), np.repeat(np.arange(20), 2), rng())
    assert figure.words() == "1.00 [0.84, 1.00], n=20 prompts"  # Wilson's of 20 of 20 begins at 20 / (20 + 1.96^2) = 0.839
    assert win_rate(np.array([]), np.array([]), rng()).words() == "undefined, because there are no comparisons (n=0 prompts)"


def test_the_interval_of_a_mean_rating_covers_the_truth_where_prompts_differ():
    covered, studies = 0, 300
    for study in range(studies):
        draw = rng(study)
        values = (draw.normal(3, 1, size=(40, 1)) + draw.normal(0, 0.5, size=(40, 6))).ravel()
        prompts = np.repeat(np.arange(40), 6)
        figure = means(values, np.full(240, "a"), prompts, rng(study), resamples=400)["a"]
        covered += figure.low <= 3 <= figure.high
    assert 0.92 <= covered / studies <= 0.98


def test_means_are_by_generator_over_the_ratings_there_are():
    values, generators = np.array([1.0, 2.0, 6.0, np.nan, 5.0]), np.array(["a", "a", "b", "b", "a"])
    found = means(values, generators, np.array(["p", "q", "p", "q", "r"]), rng())
    assert {name: (figure.value, figure.n, figure.of) for name, figure in found.items()} == {
        "a": (pytest.approx(8 / 3), 3, "prompts"), "b": (6.0, 1, "prompts"),
    }  # fmt: skip
    assert found["b"].undefined == "an interval needs at least 3 prompts"


def test_bad_comparisons_are_refused_in_a_sentence():
    one, other = np.array(["a", "b"]), np.array(["b", "b"])
    with pytest.raises(ValueError, match="b is compared with itself"):
        win_matrix(one, other, np.array([1.0, 1.0]))
    with pytest.raises(ValueError, match=r"an outcome is 1 \(left\), 0 \(right\) or 0.5 \(tie\), not 2"):
        win_rate(np.array([2.0]), np.array([1]), rng())
    with pytest.raises(ValueError, match="arrays of different lengths: values 3, generators 2, prompts 2"):
        means(np.zeros(3), one, one, rng())


# How large a study must be


def rated(draw: np.random.Generator, studies: int, items: int, raters: int, *, sd: float, icc: float) -> np.ndarray:
    part = draw.normal(0, sd * np.sqrt(icc), size=(studies, items, 1))
    return part + draw.normal(0, sd * np.sqrt(1 - icc), size=(studies, items, raters))


@pytest.mark.parametrize(("raters", "icc"), [(1, 0.3), (3, 0.3), (5, 0.8)])
def test_so_many_items_reach_the_half_width_of_a_mean(raters, icc):
    items = items_for_mean(0.1, 0.9, raters, icc)
    found = rated(rng(1), 3000, items, raters, sd=0.9, icc=icc).mean(axis=(1, 2))
    assert 1.96 * found.std() == pytest.approx(0.1, rel=0.05)
    assert half_width_for_mean(items, 0.9, raters, icc) <= 0.1 < half_width_for_mean(items - 1, 0.9, raters, icc)


@pytest.mark.parametrize(("share", "raters", "icc"), [(0.5, 1, 0.0), (0.7, 4, 0.25)])
def test_so_many_prompts_reach_the_half_width_of_a_share(share, raters, icc):
    items, draw = items_for_share(0.05, share, raters, icc), rng(2)
    spread = 1 / icc - 1 if icc else 1e9  # the answers of a beta-binomial correlate by 1 / (a + b + 1)
    chance = draw.beta(share * spread, (1 - share) * spread, size=(3000, items))
    found = draw.binomial(raters, chance).sum(axis=1) / (items * raters)
    assert 1.96 * found.std() == pytest.approx(0.05, rel=0.05)
    assert half_width_for_share(items, share, raters, icc) <= 0.05 < half_width_for_share(items - 1, share, raters, icc)


def test_a_win_rate_to_within_five_points_takes_385_prompts():
    assert items_for_share(0.05) == 385  # 1.96^2 / 4 / 0.05^2 = 384.1
    assert items_for_share(0.05, raters=3, icc=1.0) == 385  # raters who say the same add nothing


def test_alpha_of_a_pilot_estimates_the_correlation_that_is_asked_for():
    pilot = rated(rng(3), 1, 4000, 3, sd=2.0, icc=0.4)[0]
    assert krippendorff(pilot, "interval", rng(), resamples=1).value == pytest.approx(0.4, abs=0.03)


def test_more_raters_need_fewer_items_and_more_answers():
    table = plans(0.1, sd=0.9, icc=0.3, most_raters=4)
    assert table[0] == Plan(1, 312, 312)  # (1.96 * 0.9 / 0.1)^2 = 311.2
    assert [plan.raters for plan in table] == [1, 2, 3, 4]
    assert all(a.items > b.items and a.answers < b.answers for a, b in pairwise(table))


@pytest.mark.parametrize("bad", [(0.0, 1.0, 3, 0.3), (0.1, -1.0, 3, 0.3), (0.1, 1.0, 0, 0.3), (0.1, 1.0, 3, 1.5)])
def test_what_cannot_be_is_refused(bad):
    with pytest.raises(ValueError, match="expected"):
        items_for_mean(*bad)
