"""A reward model in a rater's place: every figure beside scipy on copied rows, and intervals that cover the truth."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from scipy.stats import kendalltau, pearsonr, spearmanr
from statsmodels.stats.proportion import proportion_confint

from curation.stats import agreement, beside_people
from tests.redraws import by_copying

DRAWS = 40
NOT_SAID = np.nan
BY_HAND = {"pearson": pearsonr, "spearman": spearmanr}


def seeded() -> np.random.Generator:
    """As `by_copying` draws."""
    return np.random.default_rng(3)


def close(figure, other) -> None:
    assert figure[:3] == pytest.approx(other[:3], abs=1e-9)
    assert figure[3:5] == other[3:5]


def ratings(seed: int = 0, *, prompts: int = 12, each: int = 3, raters: int = 4):
    """Scores, values with gaps and ties, and the prompt of each unit, in no order."""
    draw = np.random.default_rng(seed)
    groups = draw.permutation(np.repeat(np.arange(prompts), each))
    quality = draw.normal(size=len(groups)) + draw.normal(size=prompts)[groups]
    values = np.rint(quality[:, None] + draw.normal(size=(len(groups), raters)))
    values[draw.random(values.shape) < 0.25] = np.nan
    scores = quality + draw.normal(size=len(groups))
    scores[draw.random(len(scores)) < 0.1] = np.nan
    return scores, values, groups


# ---- ratings


def stands_in(scores, values, which: str) -> tuple[float, float]:
    """Means over raters of model's and rater's correlation with the mean of the others, one rater after another."""
    found = []
    for rater in range(values.shape[1]):
        units = [
            (scores[unit], row[rater], np.nanmean(np.delete(row, rater)))
            for unit, row in enumerate(values)
            if not np.isnan([scores[unit], row[rater]]).any() and np.isfinite(np.delete(row, rater)).any()
        ]
        model, own, others = np.array(units).T
        if min(map(np.ptp, (model, own, others))) > 0:
            found.append((BY_HAND[which](model, others)[0], BY_HAND[which](own, others)[0]))
    return tuple(np.mean(found, axis=0))


@pytest.mark.parametrize("which", ["pearson", "spearman"])
def test_model_and_rater_are_scipys_correlations_with_the_other_raters_on_the_rows_drawn(which):
    scores, values, groups = ratings()
    keep = ~np.isnan(scores) & ((~np.isnan(values)).sum(axis=1) >= 2)
    found = beside_people.correlations(scores, values, seeded(), method=which, groups=groups, resamples=DRAWS)
    x, y = scores[keep], values[keep]

    def by_hand(figure: Callable[..., float]):
        return by_copying(lambda rows, _: figure(*stands_in(x[rows], y[rows], which)), groups[keep], "responses")

    close(found.model, by_hand(lambda model, rater: model))
    close(found.rater, by_hand(lambda model, rater: rater))
    close(found.difference, by_hand(lambda model, rater: model - rater))
    assert found.difference.value == pytest.approx(found.model.value - found.rater.value, abs=1e-12)


@pytest.mark.parametrize("which", ["pearson", "spearman"])
def test_the_rater_is_the_human_ceiling_where_the_model_has_scored_everything(which):
    scores, values, groups = ratings(1)
    scores = np.nan_to_num(scores)
    found = beside_people.correlations(scores, values, seeded(), method=which, groups=groups, resamples=DRAWS)
    ceiling = agreement.leave_one_out(values, seeded(), method=which, groups=groups, resamples=DRAWS).mean
    assert found.rater[:4] == pytest.approx(ceiling[:4], abs=1e-12)


def test_a_rater_who_is_the_model_stands_beside_the_others_as_the_model_does():
    """With two raters each is the other's others, so the model's figure is known from the two raters alone."""
    _, values, _ = ratings(2, raters=2)
    both = ~np.isnan(values).any(axis=1)
    one, other = values[both].T
    found = beside_people.correlations(one, values[both], seeded(), resamples=DRAWS)
    rho = spearmanr(one, other).statistic
    assert found.rater.value == pytest.approx(rho)
    assert found.model.value == pytest.approx((rho + 1) / 2)  # with the second rater rho, with itself 1


def test_ranks_alone_count_for_spearman_and_turning_scores_round_turns_the_figure():
    scores, values, groups = ratings(3)
    found, bent, turned = (
        beside_people.correlations(one, values, seeded(), groups=groups, resamples=DRAWS).model
        for one in (scores, np.exp(3 * scores) - 7, -scores)
    )
    assert bent[:4] == pytest.approx(found[:4])
    assert turned.value == pytest.approx(-found.value)


@pytest.mark.parametrize(
    ("scores", "values", "reason"),
    [
        ([np.nan] * 6, [[1, 2]] * 6, "no unit that the model scored was rated by two raters"),
        ([1, 2, 3, 4, 5, 6], [[1, np.nan]] * 6, "no unit that the model scored was rated by two raters"),
        ([1] * 6, [[1, 2], [2, 1], [3, 3]] * 2, "give one value to all of them"),
        ([1, 2, 3, 4, 5, 6], [[1, 2], [1, 1], [1, 3]] * 2, "give one value to all of them"),
        ([1, 2, *[np.nan] * 4], [[1, 2], [2, 1], [3, 3]] * 2, "no rater shares 3 scored units"),
    ],
)
def test_where_there_is_no_correlation_it_says_why(scores, values, reason):
    found = beside_people.correlations(np.array(scores, float), np.array(values, float), seeded(), resamples=DRAWS)
    assert all(one.value is None and reason in one.undefined for one in found)


# ---- comparisons


def comparisons(seed: int = 0, *, pairs: int = 30, raters: int = 4):
    draw = np.random.default_rng(seed)
    better = draw.normal(size=pairs)
    outcomes = (better[:, None] + draw.normal(size=(pairs, raters)) > 0).astype(float)
    outcomes[draw.random(outcomes.shape) < 0.2] = NOT_SAID
    outcomes[draw.random(outcomes.shape) < 0.15] = 0.5
    margins = better + draw.normal(size=pairs)
    margins[:3], margins[3:5] = 0.0, np.nan
    return margins, outcomes, draw.permutation(np.arange(pairs) // 2)


def agreed(said: float, other: float) -> float:
    return 0.5 if said == 0.5 else float(said == other)


def side(margin: float) -> float:
    return 0.5 if margin == 0 else float(margin > 0)


def answers(margins, outcomes):
    """(model's side, answer) of each decided answer on a pair that the model scored."""
    return [
        (side(margin), one)
        for margin, row in zip(margins, outcomes, strict=True)
        if not np.isnan(margin)
        for one in row
        if one in (0.0, 1.0)
    ]


def beside_by_hand(margins, outcomes) -> tuple[float, float]:
    """Of model and rater: over every decided answer, the share of the other decided raters who say the same."""
    model, rater = [], []
    for margin, row in zip(margins, outcomes, strict=True):
        decided = [one for one in row if one in (0.0, 1.0)]
        if np.isnan(margin) or len(decided) < 2:
            continue
        for place, one in enumerate(decided):
            rest = decided[:place] + decided[place + 1 :]
            model.append(np.mean([agreed(side(margin), other) for other in rest]))
            rater.append(np.mean([agreed(one, other) for other in rest]))
    return float(np.mean(model)), float(np.mean(rater))


def with_decided(least: int, margins, outcomes, groups):
    """The pairs that the model scored and so many raters decided."""
    keep = ~np.isnan(margins) & (np.isin(outcomes, (0.0, 1.0)).sum(axis=1) >= least)
    return margins[keep], outcomes[keep], groups[keep]


def test_shares_of_comparisons_are_those_counted_answer_by_answer_on_the_rows_drawn():
    margins, outcomes, groups = comparisons()
    found = beside_people.preferences(margins, outcomes, seeded(), groups=groups, resamples=DRAWS)
    x, y, of = with_decided(2, margins, outcomes, groups)

    def by_hand(figure: Callable[..., float]):
        return by_copying(lambda rows, _: figure(*beside_by_hand(x[rows], y[rows])), of, "pairs of responses")

    close(found.model, by_hand(lambda model, rater: model))
    close(found.rater, by_hand(lambda model, rater: rater))
    close(found.difference, by_hand(lambda model, rater: model - rater))


def test_the_share_of_answers_agreed_with_is_that_counted_answer_by_answer_on_the_rows_drawn():
    margins, outcomes, groups = comparisons()
    x, y, of = with_decided(1, margins, outcomes, groups)
    share = beside_people.with_preferences(margins, outcomes, seeded(), groups=groups, resamples=DRAWS)
    n = len(answers(x, y))
    close(share, by_copying(lambda rows, _: np.mean([agreed(*one) for one in answers(x[rows], y[rows])]), of, "answers", n=n))


def test_the_lead_is_the_difference_of_both_shares_on_what_both_scored():
    margins, outcomes, groups = comparisons(1)
    other = comparisons(2)[0]
    other[10:14] = np.nan
    both = ~np.isnan(margins) & ~np.isnan(other)
    found = beside_people.lead(margins, other, outcomes, seeded(), groups=groups, resamples=DRAWS)
    shares = [
        np.mean([agreed(*answer) for answer in answers(np.where(both, one, np.nan), outcomes)]) for one in (margins, other)
    ]
    assert found.value == pytest.approx(shares[0] - shares[1])
    assert found.n == len(answers(np.where(both, margins, np.nan), outcomes))
    assert found.low < found.value < found.high
    turned = beside_people.lead(other, margins, outcomes, seeded(), groups=groups, resamples=DRAWS)
    assert turned[:3] == pytest.approx((-found.value, -found.high, -found.low), abs=0.02)


def test_a_model_that_agrees_with_every_answer_has_an_interval_of_so_many_prompts():
    outcomes = np.array([[1.0, 1.0], [0.0, NOT_SAID], [0.0, 0.0], [1.0, 0.5]] * 5)
    groups = np.repeat(np.arange(10), 2)
    found = beside_people.with_preferences(np.array([1.0, -1, -1, 1] * 5), outcomes, seeded(), groups=groups)
    assert (found.value, found.n) == (1.0, 30)
    assert (found.low, found.high) == pytest.approx(proportion_confint(10, 10, method="wilson"))


@pytest.mark.parametrize("margins", [[np.nan, np.nan], [1.0, -1.0]])
def test_without_a_decided_answer_on_a_scored_pair_there_is_no_share(margins):
    outcomes = np.array([[0.5, NOT_SAID], [0.5, 0.5]])
    found = beside_people.with_preferences(np.array(margins), outcomes, seeded())
    assert (found.value, found.n) == (None, 0)
    assert beside_people.lead(np.array(margins), np.array([1.0, 1.0]), outcomes, seeded()).value is None
    assert beside_people.preferences(np.array(margins), outcomes, seeded()).difference.value is None


# ---- generators


def test_generators_are_compared_by_the_means_of_what_was_scored_and_rated():
    draw = np.random.default_rng(5)
    groups, names = np.repeat(np.arange(15), 5), np.array(["a", "b", "c", "d", "e"] * 15, dtype=object)
    level = {"a": -1.0, "b": 0.0, "c": 0.4, "d": 1.5, "e": 0.9}
    y = np.array([level[one] for one in names]) + draw.normal(size=75)
    x = np.array([level[one] for one in names]) + draw.normal(size=75)
    x[4] = y[9] = np.nan
    known = ~np.isnan(x) & ~np.isnan(y)

    def by_hand(rows, _, how):
        means = [[side[rows][names[known][rows] == one].mean() for side in (x[known], y[known])] for one in "abcde"]
        return how(*np.array(means).T).statistic

    for method, how in {"pearson": pearsonr, "spearman": spearmanr, "kendall": kendalltau}.items():
        found = beside_people.of_means(x, y, names, seeded(), groups=groups, method=method, resamples=DRAWS)
        close(found, by_copying(partial(by_hand, how=how), groups[known], "generators", n=5))


def test_a_generator_that_some_redraws_miss_costs_only_those_redraws():
    """It wrote for 4 of 40 prompts: about 1 redraw in 70 has none of it."""
    groups = np.repeat(np.arange(40), 4)
    names = np.array(["a", "b", "c", "d"] * 40, dtype=object)
    names[[3, 43, 83, 123]] = "rare"
    x = np.random.default_rng(6).normal(size=160)
    found = beside_people.of_means(x, x + np.random.default_rng(7).normal(size=160), names, seeded(), groups=groups)
    assert found.low <= found.value <= found.high
    assert found.n == 5
    four = np.where(names == "rare", "d", names)
    found = beside_people.of_means(x, x + np.random.default_rng(7).normal(size=160), four, seeded(), groups=groups)
    assert (found.value is not None, found.low, found.undefined) == (True, None, "an interval needs at least 5 generators")


def test_two_generators_have_no_correlation():
    found = beside_people.of_means(
        np.arange(6.0), np.arange(6.0), np.array(["a", "b"] * 3, dtype=object), seeded(), groups=np.arange(6)
    )
    assert (found.value, found.n, found.undefined) == (None, 2, "it needs at least 3 generators")


# ---- many studies


def study(seed: int, prompts: int, *, noise: float, raters: int = 4, each: int = 3):
    """Ratings by raters alike, with noise that is in part one for a prompt; the model is a rater with noise of its own."""
    draw = np.random.default_rng(seed)
    shape = (prompts, each)
    quality = draw.normal(size=shape)

    def said(of: float):
        return quality + draw.normal(0, of, (prompts, 1)) + draw.normal(0, of / 2, shape)

    values = np.stack([said(0.8) for _ in range(raters)], axis=-1).reshape(-1, raters)
    return said(noise).ravel(), values, np.repeat(np.arange(prompts), each)


def covered(noise: float, true: float, *, seeds: range, clustered: bool = True) -> float:
    inside = []
    for seed in seeds:
        scores, values, groups = study(seed, 40, noise=noise)
        rng = np.random.default_rng(seed)
        found = beside_people.correlations(
            scores, values, rng, method="pearson", groups=groups if clustered else None, resamples=200
        ).difference
        inside.append(found.low <= true <= found.high)
    return float(np.mean(inside))


def test_intervals_of_the_difference_cover_the_truth_in_about_95_of_100_studies():
    """A model as noisy as a rater: the truth is 0, for nothing tells it from a rater. A noisier one: from very many prompts."""
    assert 0.915 <= covered(0.8, 0.0, seeds=range(200)) <= 0.985
    scores, values, _ = study(999, 200_000, noise=1.6)
    true = np.subtract(*stands_in_at_once(scores, values))
    assert true < -0.1
    assert 0.915 <= covered(1.6, true, seeds=range(200, 400)) <= 0.985


def stands_in_at_once(scores, values) -> tuple[float, float]:
    """`stands_in` of ratings without gaps."""
    others = (values.sum(axis=1, keepdims=True) - values) / (values.shape[1] - 1)
    pairs = [
        (np.corrcoef(scores, rest)[0, 1], np.corrcoef(own, rest)[0, 1]) for own, rest in zip(values.T, others.T, strict=True)
    ]
    return tuple(np.mean(pairs, axis=0))


def test_taking_responses_to_one_prompt_for_strangers_would_not_cover():
    """The test above can fail."""
    assert covered(0.8, 0.0, seeds=range(100), clustered=False) < 0.9
