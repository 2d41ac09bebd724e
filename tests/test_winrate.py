"""Policies compared: counting by hand, statsmodels, prompts really copied, simulated seeds, scipy's Fisher interval."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.formula.api import ols

from curation.stats.accuracy import wilson
from curation.stats.winrate import (
    from_preferences,
    interaction,
    length_controlled,
    over_seeds,
    p_of_even,
    p_of_no_effect,
    preferred,
    quality_against_outcome,
    win_rate,
)
from tests.redraws import by_copying

nan = np.nan


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def scored(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of two policies, 3 responses to each of 30 prompts, rounded so that some tie; by what one is better depends on
    the prompt."""
    draw, names = rng(seed), np.repeat(np.arange(30), 3)
    theirs = draw.normal(size=90)
    ours = theirs + 0.4 + draw.normal(0, 1, 30)[names] + draw.normal(0, 0.5, 90)
    return np.round(ours, 1), np.round(theirs, 1), names


# Win rates


def test_a_tie_counts_one_half_and_strictly_not_at_all():
    found = win_rate(np.array([1.0, 2, 3, nan, 0]), np.array([0.0, 2, 4, 1, -1]), np.arange(5), rng(), resamples=50)
    assert (found.rate.value, found.strict.value, found.ties) == (2.5 / 4, 2 / 4, 1)
    assert (found.rate.n, found.rate.of) == (4, "comparisons")


def test_the_interval_redraws_whole_prompts():
    ours, theirs, prompts = scored(1)
    found = win_rate(ours, theirs, prompts, rng(3), resamples=40)
    copied = by_copying(lambda rows, _: float(preferred(ours, theirs)[rows].mean()), prompts, "comparisons")
    assert found.rate[:3] == pytest.approx(copied[:3])
    alone = win_rate(ours, theirs, np.arange(len(ours)), rng(3), resamples=400).rate
    clustered = win_rate(ours, theirs, prompts, rng(3), resamples=400).rate
    assert clustered.high - clustered.low > 1.2 * (alone.high - alone.low)


def test_turning_sides_turns_the_rate():
    ours, theirs, prompts = scored(2)
    one, other = (win_rate(*sides, prompts, rng(), resamples=100) for sides in ((ours, theirs), (theirs, ours)))
    assert (other.rate.value, other.rate.low) == pytest.approx((1 - one.rate.value, 1 - one.rate.high), abs=0.01)
    assert one.strict.value + other.strict.value + one.ties / len(ours) == pytest.approx(1.0)


def test_a_policy_that_always_wins_has_wilsons_interval_over_prompts():
    prompts = np.repeat(np.arange(20), 2)
    found = win_rate(np.ones(40), np.zeros(40), prompts, rng()).rate
    assert (found.value, found.low, found.high) == pytest.approx((1.0, *wilson(20, 20)))


def test_preferences_of_a_judge_are_averaged_and_none_is_undefined():
    found = from_preferences(np.array([0.9, 0.2, 0.5, nan]), np.arange(4), rng(), resamples=50)
    assert (found.rate.value, found.strict.value, found.ties) == (pytest.approx(1.6 / 3), 1 / 3, 1)
    none = from_preferences(np.array([nan]), np.arange(1), rng())
    assert none.rate.words() == "undefined, because no prompt has a response of both (n=0 comparisons)"
    with pytest.raises(ValueError, match=r"a preference is 1\.5, expected 0 \(theirs\) to 1 \(ours\)"):
        from_preferences(np.array([0.5, 1.5]), np.arange(2), rng())
    with pytest.raises(ValueError, match="2 scores of ours and 3 of theirs"):
        win_rate(np.zeros(2), np.zeros(3), np.arange(2), rng())


# Whether two are even


def by_scipy(p: np.ndarray, prompts: np.ndarray) -> float:
    """scipy's test, every sign pattern: of what one is ahead by on each prompt."""
    ahead = np.array([(p[prompts == one] - 0.5).sum() for one in np.unique(prompts)])
    return stats.permutation_test((ahead,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("values", [(0.0, 0.5, 1.0), (0.1, 0.35, 0.5, 0.65, 0.9, 1.0)])
def test_p_of_few_prompts_is_that_of_scipys_permutation_test(values, seed):
    prompts = np.sort(rng(seed).integers(0, 10, 25))  # of some prompts more comparisons than of others
    p = rng(seed + 100).choice(values, 25, p=np.arange(1, len(values) + 1) / np.arange(1, len(values) + 1).sum())
    found = p_of_even(np.append(p, nan), np.append(prompts, 99), rng())
    assert found.n == len(np.unique(prompts))
    assert found.p == pytest.approx(by_scipy(p, prompts), abs=1e-12)
    assert p_of_even(1 - p, prompts, rng()).p == pytest.approx(found.p, abs=1e-12)


def test_one_comparison_a_prompt_is_the_sign_test_without_its_ties():
    p = np.repeat([1.0, 0.0, 0.5], [40, 22, 30])
    found = p_of_even(p, np.arange(92), rng())
    assert (found.p, found.n) == (pytest.approx(stats.binomtest(40, 62).pvalue), 92)


def test_of_many_prompts_signs_are_drawn_and_p_is_near_the_exact_one_and_never_0():
    p = np.where(rng(3).random(16) < 0.7, 0.81, 0.17)
    exact = p_of_even(p, np.arange(16), rng(), flips=2**16).p
    assert exact == pytest.approx(by_scipy(p, np.arange(16)), abs=1e-12)
    drawn = p_of_even(p, np.arange(16), rng(1)).p
    assert drawn == pytest.approx(exact, abs=4 * np.sqrt(exact / 9_999))
    assert drawn == p_of_even(p, np.arange(16), rng(1)).p
    assert p_of_even(np.full(60, 0.9), np.arange(60), rng(), flips=999).p == 1 / 1_000


def test_where_nothing_can_be_turned_there_is_no_p_and_it_says_why():
    prompts = np.array([0, 0, 1, 2])
    assert p_of_even(np.array([0.8, 0.2, 0.5, 0.5]), prompts, rng()) == (None, 3, "the two are even on every prompt")
    assert p_of_even(np.array([1.0, 0.0, 0.5, 0.5]), prompts, rng()) == (None, 3, "the two are even on every prompt")
    assert p_of_even(np.full(4, nan), prompts, rng()) == (None, 0, "no prompt has a response of both")
    assert p_of_even(np.array([1.0]), np.arange(1), rng()) == (1.0, 1, "")
    with pytest.raises(ValueError, match=r"a preference is -1, expected 0 \(theirs\) to 1 \(ours\)"):
        p_of_even(np.array([-1.0]), np.arange(1), rng())


@pytest.mark.parametrize(
    ("prompts", "each", "soft"), [(8, 1, False), (12, 4, False), (40, 4, False), (10, 2, True), (40, 2, True)]
)
def test_of_policies_that_are_even_with_ties_no_more_than_5_in_100_come_out_apart(prompts, each, soft):
    """On every prompt one of them is better, by a coin, so comparisons of one prompt go together; three in ten are ties."""
    draw, names, studies, apart = rng(8), np.repeat(np.arange(prompts), each), 600, 0
    for _ in range(studies):
        better = np.where(draw.random(prompts) < 0.5, 0.75, 0.25)[names]
        p = draw.beta(4 * better, 4 * (1 - better)) if soft else (draw.random(len(names)) < better).astype(float)
        p[draw.random(len(names)) < 0.3] = 0.5
        found = p_of_even(p, names, draw, flips=499 if prompts > 10 else 9_999)
        apart += found.p is not None and found.p <= 0.05
    assert apart / studies <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / studies)


# Equal length


def test_the_rate_at_equal_length_is_that_of_statsmodels_on_soft_preferences():
    draw = rng(4)
    differences = np.round(draw.normal(40, 80, 200))
    p = 1 / (1 + np.exp(-(0.3 + 1.2 * np.tanh(differences / differences.std()) + draw.normal(size=200))))
    design = np.column_stack([np.ones(200), np.tanh(differences / differences.std())])
    fitted = sm.GLM(p, design, sm.families.Binomial()).fit(tol=1e-14).params
    found = length_controlled(p, differences, np.arange(200), rng(), resamples=1)
    assert found.value == pytest.approx(1 / (1 + np.exp(-fitted[0])), abs=1e-9)
    assert found.value < p.mean()  # ours is longer, and length is liked


def test_a_policy_that_wins_by_length_alone_is_no_better_at_equal_length():
    draw = rng(5)
    differences, prompts = draw.normal(60, 60, 600), np.repeat(np.arange(200), 3)
    won = (draw.random(600) < 1 / (1 + np.exp(-2 * np.tanh(differences / differences.std())))).astype(float)
    assert from_preferences(won, prompts, rng(), resamples=100).rate.low > 0.6
    equal = length_controlled(won, differences, prompts, rng(), resamples=100)
    assert equal.low < 0.5 < equal.high


def test_lengths_that_are_all_equal_tell_nothing():
    found = length_controlled(np.array([1.0, 0, 1, nan]), np.array([5.0, 5, 5, nan]), np.arange(4), rng(), resamples=5)
    assert found.words().startswith("undefined, because the length difference is the same everywhere")
    with pytest.raises(ValueError, match="a length difference is nan, expected a finite number"):
        length_controlled(np.array([1.0, 0]), np.array([5.0, nan]), np.arange(2), rng())


# Seeds


def test_with_one_number_a_seed_the_interval_is_students():
    values = np.array([[0.1], [0.5], [0.3], [0.8]])
    expected = stats.t.interval(0.95, 3, values.mean(), stats.sem(values[:, 0]))
    assert over_seeds(values)[1:3] == pytest.approx(expected)


def test_where_seeds_do_not_differ_the_interval_is_that_of_prompts():
    of_prompt = rng(6).normal(size=50)
    found = over_seeds(np.tile(of_prompt, (3, 1)))
    assert found[1:3] == pytest.approx(stats.t.interval(0.95, 49, of_prompt.mean(), stats.sem(of_prompt)))
    assert (found.n, found.of) == (3, "seeds")


@pytest.mark.parametrize(("of_seeds", "of_prompts"), [(0.0, 1.0), (0.5, 1.0), (0.3, 0.2), (1.0, 0.0)])
def test_the_interval_over_three_seeds_and_their_prompts_covers_the_truth(of_seeds, of_prompts):
    draw, covered, studies = rng(7), 0, 1000
    for _ in range(studies):
        values = of_seeds * draw.normal(size=(3, 1)) + of_prompts * draw.normal(size=20) + draw.normal(size=(3, 20))
        found = over_seeds(values)
        covered += found.low <= 0 <= found.high
    assert 0.93 <= covered / studies <= 0.995


def test_one_seed_has_no_interval_and_prompts_that_a_seed_lacks_are_left_out():
    values = np.array([[1.0, 2, nan], [3, 4, 9]])
    assert over_seeds(values).value == 2.5
    assert over_seeds(values[:1]).words() == "1.50 (no interval, because an interval needs at least 2 seeds), n=1 seeds"
    assert over_seeds(np.full((2, 2), nan)).value is None
    assert over_seeds(np.ones((3, 4))).words() == "1.00 (no interval, because every seed gives the same), n=3 seeds"


def test_the_p_of_no_effect_is_students_and_agrees_with_the_interval():
    values = np.array([[0.1], [0.5], [0.3], [0.8]])
    assert p_of_no_effect(values) == pytest.approx(stats.ttest_1samp(values[:, 0], 0).pvalue)
    for shift in (0.0, 0.4, 0.8, 1.6):
        table = shift + rng(9).normal(size=(3, 1)) / 4 + rng(10).normal(size=(3, 20))
        found, p = over_seeds(table), p_of_no_effect(table)
        assert (p < 0.05) == (not found.low <= 0 <= found.high)
        edge = p_of_no_effect(table - found.low)
        assert edge == pytest.approx(0.05)
    assert p_of_no_effect(values[:1]) is None
    assert p_of_no_effect(np.ones((3, 4))) is None
    assert p_of_no_effect(np.zeros((2, 0))) is None


# Algorithm x reward model


def grid_of_runs(seed: int, *, extra: float, prompts: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """3 algorithms x 4 reward models x 3 seeds; ppo gains `extra` from reward model m3 alone."""
    draw = rng(seed)
    cells = [(a, m, s) for a in ("dpo", "ppo", "best-of-n") for m in ("m0", "m1", "m2", "m3") for s in range(3)]
    algorithm, reward_model, seeds = (np.array(one) for one in zip(*cells, strict=True))
    plain = (algorithm == "ppo") * 0.5 + np.array([float(name[1]) for name in reward_model]) * 0.3
    mean = plain + extra * ((algorithm == "ppo") & (reward_model == "m3")) + draw.normal(0, 0.1, len(cells))
    outcomes = mean[:, None] + draw.normal(size=prompts) + draw.normal(0, 0.3, (len(cells), prompts))
    return outcomes, algorithm, reward_model, seeds


@pytest.mark.parametrize("extra", [0.0, 0.8])
def test_the_test_of_interaction_is_statsmodels_two_way_analysis_of_variance(extra):
    outcomes, algorithm, reward_model, seeds = grid_of_runs(9, extra=extra)
    frame = pd.DataFrame({"y": outcomes.mean(axis=1), "a": algorithm, "m": reward_model})
    row = sm.stats.anova_lm(ols("y ~ C(a) * C(m)", frame).fit()).loc["C(a):C(m)"]
    found = interaction(outcomes, algorithm, reward_model, seeds)
    assert (found.f, found.p) == pytest.approx((row["F"], row["PR(>F)"]))
    assert (found.p < 0.001) == (extra > 0)


def test_the_cell_that_does_not_add_up_is_the_one_that_stands_out():
    found = interaction(*grid_of_runs(10, extra=0.8))
    beyond = {cell: one.beyond_additive for cell, one in found.cells.items()}
    assert max(beyond, key=lambda cell: beyond[cell].value) == ("ppo", "m3")
    assert beyond["ppo", "m3"].low > 0
    assert beyond["ppo", "m3"].value == pytest.approx(0.8 * (2 / 3) * (3 / 4), abs=0.15)
    assert sum(one.value for one in beyond.values()) == pytest.approx(0.0, abs=1e-9)
    assert found.cells["ppo", "m3"].mean.n == 3


def test_a_grid_with_a_hole_or_one_seed_says_why_there_is_no_test():
    outcomes, algorithm, reward_model, seeds = grid_of_runs(11, extra=0.0)
    hole = ~((algorithm == "dpo") & (reward_model == "m1"))
    found = interaction(outcomes[hole], algorithm[hole], reward_model[hole], seeds[hole])
    assert (found.f, found.p, found.undefined) == (None, None, "no run has dpo with m1")
    assert len(found.cells) == 11
    assert found.cells["ppo", "m0"].beyond_additive.value is None
    first = seeds == 0
    alone = interaction(outcomes[first], algorithm[first], reward_model[first], seeds[first])
    assert (alone.p, alone.undefined) == (None, "a cell has one seed")
    one = algorithm == "dpo"
    assert interaction(outcomes[one], algorithm[one], reward_model[one], seeds[one]).undefined.startswith("there are not two")
    with pytest.raises(ValueError, match="dpo with m0 has two runs of seed 0, expected one"):
        interaction(outcomes, algorithm, reward_model, np.zeros(len(seeds), int))


# Quality and outcome


def test_the_interval_of_few_reward_models_is_fishers():
    quality, outcome = rng(12).normal(size=(2, 7))
    outcome += quality
    found = quality_against_outcome(quality, outcome)
    expected = stats.pearsonr(quality, outcome)
    assert found.pearson[:3] == pytest.approx((expected.statistic, *expected.confidence_interval()))
    rho = stats.spearmanr(quality, outcome).statistic
    half = 1.959964 * np.sqrt((1 + rho**2 / 2) / 4)
    assert found.spearman[:3] == pytest.approx((rho, np.tanh(np.arctanh(rho) - half), np.tanh(np.arctanh(rho) + half)))
    assert (found.pearson.n, found.pearson.of) == (7, "reward models")


def test_few_reward_models_in_one_order_have_no_interval_and_it_says_why():
    found = quality_against_outcome(np.array([0.5, 0.6, 0.7, 0.8]), np.array([0.1, 0.2, 0.3, 0.9]))
    why = "both put them in one order, or in its reverse, which so few can do by chance"
    assert (found.spearman.value, found.spearman.low, found.spearman.undefined) == (pytest.approx(1.0), None, why)
    assert found.pearson.low is not None


def test_three_reward_models_or_models_all_alike_say_nothing():
    few = quality_against_outcome(np.array([1.0, 2, 3, nan]), np.array([1.0, 2, 3, 4])).pearson
    assert few.words() == "undefined, because a correlation of fewer than 4 reward models says nothing (n=3 reward models)"
    alike = quality_against_outcome(np.ones(5), np.arange(5.0)).spearman
    assert alike.undefined == "the quality or the outcome is the same of all"
    line = quality_against_outcome(np.arange(5.0), np.arange(5.0)).pearson
    assert (line.value, line.low) == (pytest.approx(1.0), None)
    with pytest.raises(ValueError, match="arrays of different lengths"):
        quality_against_outcome(np.zeros(5), np.zeros(6))
