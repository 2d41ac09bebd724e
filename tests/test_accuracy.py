"""Accuracy of reward models: worked cases, statsmodels, loops, intervals that cover, reasons."""

from itertools import product

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar as known_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from curation.stats.figures import Figure
from curation.stats.preference_accuracy import (
    McNemar,
    accuracy,
    agreement_matrix,
    best_of,
    clustered_accuracy,
    committee,
    holm,
    mcnemar,
)
from tests.redraws import by_copying

nan = np.nan


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def made(seed: int, *, shape=200, ties=0.1, missing=0.1) -> np.ndarray:
    """Margins that favour the chosen response; some are ties and some missing."""
    draw = rng(seed)
    margins = draw.normal(0.4, 1, shape)
    margins[draw.random(shape) < ties] = 0.0
    margins[draw.random(shape) < missing] = nan
    return margins


# One model


def test_a_tie_is_no_success_strictly_and_half_a_one_otherwise_and_what_was_not_scored_is_left_out():
    strict, half_ties, ties = accuracy(np.array([2.0, -1.0, 0.0, nan, 3.0, 0.0]))
    assert (strict.value, half_ties.value, ties) == (2 / 5, 3 / 5, 2)
    assert (strict.n, half_ties.n, strict.of) == (5, 5, "pairs")


@pytest.mark.parametrize("seed", range(5))
def test_the_intervals_are_wilsons_as_statsmodels_has_them(seed):
    margins = made(seed, shape=61)
    known = margins[~np.isnan(margins)]
    won, tied = (known > 0).sum(), (known == 0).sum()
    strict, half_ties, ties = accuracy(margins)
    assert ties == tied
    assert strict[1:3] == pytest.approx(proportion_confint(won, len(known), method="wilson"), abs=1e-12)
    assert half_ties[1:3] == pytest.approx(proportion_confint(won + tied / 2, len(known), method="wilson"), abs=1e-12)


def test_the_sides_swapped_mirror_half_tie_accuracy_about_one_half_and_no_scale_matters():
    margins = made(6)
    one, other = accuracy(margins).half_ties, accuracy(-margins).half_ties
    assert (other.value, other.low, other.high) == pytest.approx((1 - one.value, 1 - one.high, 1 - one.low))
    assert accuracy(margins * 1e-9) == accuracy(margins)


@pytest.mark.parametrize("margins", [np.empty(0), np.full(3, nan)])
def test_without_a_scored_pair_accuracy_is_undefined(margins):
    nothing = Figure(None, None, None, 0, "pairs", "no pair was scored")
    assert accuracy(margins) == (nothing, nothing, 0)
    assert clustered_accuracy(margins, np.zeros(len(margins), int), rng()) == (nothing, nothing, 0)


# Several pairs a prompt


def test_the_clustered_interval_is_that_of_whole_prompts_copied():
    margins, groups = made(7, missing=0), np.repeat(np.arange(80), 3)[:200] * 7
    found = clustered_accuracy(margins, groups, rng(3), resamples=40)
    strict = by_copying(lambda rows, _: (margins[rows] > 0).mean(), groups, "pairs")
    half_ties = by_copying(lambda rows, _: (margins[rows] > 0).mean() + (margins[rows] == 0).mean() / 2, groups, "pairs")
    assert found.strict[:3] == pytest.approx(strict[:3], abs=1e-12)
    assert found.half_ties[:3] == pytest.approx(half_ties[:3], abs=1e-12)
    assert found.strict[3:] == strict[3:]
    assert found.strict.value == accuracy(margins).strict.value


def test_all_right_has_the_wilson_interval_of_the_prompts_not_of_the_pairs():
    found = clustered_accuracy(np.ones(40), np.repeat(np.arange(10), 4), rng())
    assert found.strict[1:3] == pytest.approx(proportion_confint(10, 10, method="wilson"))
    assert found.strict.n == 40


def test_clustered_intervals_cover_where_pairs_of_a_prompt_go_together_and_wilsons_do_not():
    covered = np.zeros(2)
    groups = np.repeat(np.arange(60), 4)
    for study in range(300):
        draw = rng(study)  # margin = the prompt's own part + the rest, sd 1 each: right with chance 1/2 over all prompts
        margins = np.repeat(draw.normal(size=60), 4) + draw.normal(size=240)
        found = clustered_accuracy(margins, groups, draw, resamples=250).strict, accuracy(margins).strict
        covered += [figure.low <= 0.5 <= figure.high for figure in found]
    assert 0.91 <= covered[0] / 300 <= 0.98
    assert covered[1] / 300 < 0.87


def test_groups_that_do_not_fit_the_pairs_are_refused():
    with pytest.raises(ValueError, match="there are 2 groups for 3 pairs, expected one for each pair"):
        clustered_accuracy(np.ones(3), np.zeros(2, int), rng())


# Two models


def test_mcnemars_test_of_one_against_five():
    one = np.array([1.0, 1, 1, 0, -1, -1, -1, -1])
    other = np.array([1.0, 1, -1, 1, 1, 2, 1, 1])
    assert mcnemar(one, other) == McNemar(1, 5, 8, pytest.approx(2 * (1 + 6) / 64))  # 6 pairs split 1 to 5 or worse


@pytest.mark.parametrize("seed", range(5))
def test_mcnemars_test_is_that_of_statsmodels_on_the_pairs_both_scored(seed):
    one, other = made(seed), made(seed + 50) + 0.2
    both = ~np.isnan(one) & ~np.isnan(other)
    right, other_right = one[both] > 0, other[both] > 0
    table = [[(right & other_right).sum(), (right & ~other_right).sum()], [(~right & other_right).sum(), 0]]
    found = mcnemar(one, other)
    assert found.p == pytest.approx(known_mcnemar(table, exact=True).pvalue, abs=1e-12)
    assert (found.only_first, found.only_second, found.n) == (table[0][1], table[1][0], both.sum())
    assert mcnemar(right, other_right) == found
    assert mcnemar(other, one) == (found.only_second, found.only_first, found.n, pytest.approx(found.p))


def test_models_right_on_the_same_pairs_have_p_1_and_models_that_share_none_have_none():
    assert mcnemar(np.array([1.0, -1.0]), np.array([3.0, 0.0])) == McNemar(0, 0, 2, 1.0)
    assert mcnemar(np.array([1.0, nan]), np.array([nan, 1.0])) == McNemar(0, 0, 0, None)
    with pytest.raises(ValueError, match="one model has 2 pairs and the other 3, expected the same pairs"):
        mcnemar(np.ones(2), np.ones(3))


def test_holms_adjustment_of_four_tests():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("seed", range(5))
def test_holms_adjustment_is_that_of_statsmodels(seed):
    p = rng(seed).random(12) ** 3
    p[3] = p[7]
    assert holm(p.tolist()) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-12)


def test_a_test_that_was_not_made_stays_none_and_does_not_count():
    assert holm([0.02, None, 0.01, nan]) == pytest.approx([0.02, None, 0.02, None])
    with pytest.raises(ValueError, match=r"a p-value is 1\.5, expected 0 to 1"):
        holm([0.1, 1.5])


# Several responses


def test_best_of_four_with_a_tie_at_the_top_earns_a_share():
    scores = np.array([[3.0, 1, 1, 0], [2, 2, 1, 0], [5, 5, 5, 5], [1, 2, 0, 0]]).ravel()
    is_best = np.tile([True, False, False, False], 4)
    figure = best_of(scores, is_best, np.repeat(np.arange(4), 4), rng())
    assert (figure.value, figure.n, figure.of) == ((1 + 1 / 2 + 1 / 4 + 0) / 4, 4, "prompts")


def test_of_three_tied_with_two_best_two_thirds_are_earned():
    figure = best_of(np.array([1.0, 1, 1, 0]), np.array([True, True, False, False]), np.zeros(4, int), rng())
    assert figure.words() == "0.67 (no interval, because an interval needs at least 3 prompts), n=1 prompts"


def test_prompts_of_one_kind_and_prompts_not_wholly_scored_are_left_out():
    scores = np.array([1.0, 2, 1, 2, 1, nan, 2, 1])
    is_best = np.array([True, True, False, False, True, False, True, False])
    figure = best_of(scores, is_best, np.repeat(np.arange(4), 2), rng())
    assert (figure.value, figure.n) == (1.0, 1)
    nothing = best_of(scores[:6], is_best[:6], np.repeat(np.arange(3), 2), rng())
    assert nothing == Figure(None, None, None, 0, "prompts", "no prompt has a best response and another, all scored")
    assert best_of(np.empty(0), np.empty(0, bool), np.empty(0, int), rng()) == nothing


def test_best_of_k_and_its_interval_are_those_of_a_loop_over_copied_prompts():
    draw = rng(8)
    groups = np.sort(draw.integers(60, size=300))
    scores, is_best = draw.integers(4, size=300).astype(float), draw.random(300) < 0.4
    mixed = [prompt for prompt in np.unique(groups) if 0 < is_best[groups == prompt].sum() < (groups == prompt).sum()]
    used = np.isin(groups, mixed)
    scores_used, best_used = scores[used], is_best[used]

    def earned(rows: np.ndarray, copies: np.ndarray) -> float:
        shares = []
        for copy in np.unique(copies):
            own, good = scores_used[rows[copies == copy]], best_used[rows[copies == copy]]
            shares.append(good[own == own.max()].mean())
        return float(np.mean(shares))

    expected = by_copying(earned, groups[used], "prompts", n=len(mixed))
    found = best_of(scores, is_best, groups, rng(3), resamples=40)
    assert found[:3] == pytest.approx(expected[:3], abs=1e-12)
    assert found[3:] == expected[3:]
    assert len(mixed) < 60


def test_always_right_has_wilsons_interval_and_of_two_it_is_pairwise_accuracy_with_half_ties():
    margins = made(9, missing=0)
    scores, is_best = np.column_stack([margins, np.zeros(200)]).ravel(), np.tile([True, False], 200)
    groups = np.repeat(np.arange(200), 2)
    assert best_of(scores, is_best, groups, rng()).value == pytest.approx(accuracy(margins).half_ties.value)
    certain = best_of(np.where(is_best, 1.0, 0.0), is_best, groups, rng())
    assert certain[1:3] == pytest.approx(proportion_confint(200, 200, method="wilson"))


# Several models


def test_a_committee_votes_on_each_pair_and_who_did_not_score_has_no_vote():
    votes = committee(np.array([[1.0, 2.0, -1.0], [0.0, nan, -3.0], [nan, nan, nan]]))
    assert [side.tolist() for side in votes] == [[2, 0, 0], [1, 1, 0], [0, 1, 0]]


def test_agreement_of_three_models_on_four_pairs():
    margins = np.array([[1.0, 3.0, 0.0], [1.0, -1.0, 0.0], [-2.0, -1.0, nan], [0.5, 0.1, 1.0]])
    matrix = agreement_matrix(margins)
    assert matrix.n.tolist() == [[4, 4, 3], [4, 4, 3], [3, 3, 3]]
    # the third ties on two pairs: half agreement with a preference each, whole agreement with itself
    assert matrix.share == pytest.approx(np.array([[1, 3 / 4, 2 / 3], [3 / 4, 1, 2 / 3], [2 / 3, 2 / 3, 1]]))
    assert (matrix.low[0, 1], matrix.high[0, 1]) == pytest.approx(proportion_confint(3, 4, method="wilson"))


def test_the_agreement_matrix_is_that_of_a_loop_and_stays_when_all_pairs_are_swapped():
    margins = made(10, shape=(80, 4), missing=0.3)
    matrix = agreement_matrix(margins)
    for one in range(4):
        for other in range(4):
            shared = [(a, b) for a, b in margins[:, [one, other]] if not np.isnan(a) and not np.isnan(b)]
            agreed = [1.0 if a * b > 0 or a == b == 0 else 0.0 if a * b < 0 else 0.5 for a, b in shared]
            assert matrix.share[one, other] == pytest.approx(np.mean(agreed))
            assert matrix.n[one, other] == len(shared)
    for left, right in zip(agreement_matrix(-margins), matrix, strict=True):
        np.testing.assert_array_equal(left, right)


def test_models_that_share_no_pair_have_no_agreement():
    matrix = agreement_matrix(np.array([[1.0, nan], [nan, 1.0]]))
    assert matrix.n.tolist() == [[1, 0], [0, 1]]
    assert np.isnan([matrix.share[0, 1], matrix.low[0, 1], matrix.high[0, 1]]).all()


# ---- McNemar where several pairs have one prompt


def test_with_a_prompt_a_pair_the_sign_flip_is_mcnemars_test():
    draw = np.random.default_rng(3)
    for n in (1, 2, 9, 40, 400):
        one, other = draw.normal(size=n), draw.normal(size=n)
        assert mcnemar(one, other, groups=np.arange(n)).p == pytest.approx(mcnemar(one, other).p, abs=1e-12)


def test_signs_are_flipped_by_prompt_and_every_way_of_flipping_counts():
    """All 2^6 flips, by hand, of prompts with 1 to 3 pairs."""
    draw = np.random.default_rng(4)
    groups = np.repeat(np.arange(6), [1, 2, 3, 3, 2, 1])
    for _ in range(20):
        one, other = draw.normal(size=12) + 0.4, draw.normal(size=12)
        ahead = np.array([((one > 0).astype(int) - (other > 0))[groups == g].sum() for g in range(6)])
        sums = [abs(sum(sign * d for sign, d in zip(signs, ahead, strict=True))) for signs in product((1, -1), repeat=6)]
        expected = np.mean([total >= abs(ahead.sum()) for total in sums])
        assert mcnemar(one, other, groups=groups).p == pytest.approx(expected)


def test_two_equally_good_models_differ_by_chance_as_often_as_they_should():
    """60 prompts of 9 pairs that go together: taken as independent, every other comparison would call one the better."""
    draw = np.random.default_rng(5)
    groups, below = np.repeat(np.arange(60), 9), {True: 0, False: 0}
    for _ in range(200):
        one, other = (np.repeat(draw.normal(size=60), 9) + 0.3 * draw.normal(size=540) for _ in range(2))
        for by_prompt in below:
            p = mcnemar(one, other, groups=groups if by_prompt else None).p
            below[by_prompt] += p < 0.05
    assert below[True] <= 20  # 10 are expected
    assert below[False] > 60
