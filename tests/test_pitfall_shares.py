"""The share of spoilt responses preferred and the shift of scores: by hand, by scipy, by copying, and coverage."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from curation.stats.figures import Figure, estimated
from curation.stats.pitfalls import Pitfall, share_preferred

nan = np.nan


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def made(seed: int = 4, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Scores of originals, and of spoilt responses that are half a standard deviation worse."""
    original = rng(seed).normal(size=n)
    return original, original - 0.5 + 0.8 * rng(seed + 1).normal(size=n)


def test_a_tie_counts_one_half_and_the_shift_is_in_deviations_of_the_originals():
    found = share_preferred(np.array([0.0, 1, 2, 3]), np.array([1.0, 1, 1, 4]), rng())
    assert (found.share.value, found.ties, found.share.n, found.share.of) == (2.5 / 4, 1, 4, "prompts")
    assert found.shift.value == pytest.approx(0.25 / np.sqrt(1.25))  # mean of 1, 0, -1, 1; the variance of 0 to 3 is 5 / 4


def test_the_interval_of_the_share_is_wilsons_where_a_prompt_has_one_original():
    original, spoilt = made()
    hits = int((spoilt > original).sum())
    assert 0 < hits < 30
    known = binomtest(hits, 60).proportion_ci(method="wilson")
    for groups in (None, rng(9).permutation(60) * 3):
        share = share_preferred(original, spoilt, rng(), groups=groups).share
        assert (share.value, share.n, share.of) == (hits / 60, 60, "prompts")
        assert (share.low, share.high) == pytest.approx((known.low, known.high))


def test_without_a_single_success_the_upper_limit_is_still_above_0():
    share = share_preferred(np.arange(30.0), np.arange(30.0) - 1, rng()).share
    assert share.words() == "0.00 [0.00, 0.11], n=30 prompts"
    grouped = share_preferred(np.arange(30.0), np.arange(30.0) + 1, rng(), groups=np.arange(30) // 3).share
    assert grouped.words() == "1.00 [0.72, 1.00], n=30 responses"  # Wilson's of ten prompts


def test_the_intervals_of_several_originals_a_prompt_are_those_of_whole_prompts_copied():
    original, spoilt = made()
    groups = np.array([0] * 5 + [1] * 2 + [2] * 13 + list(range(3, 23)) * 2) * 7
    names, draw = np.unique(groups), rng(3)

    def by_copying(statistic) -> Figure:
        drawn = draw.multinomial(len(names), np.full(len(names), 1 / len(names)), 50)
        copies = [np.concatenate([np.flatnonzero(groups == name) for name in np.repeat(names, row)]) for row in drawn]
        return estimated(np.array([statistic(row) for row in [np.arange(60), *copies]]), 60, "responses", "", units=len(names))

    share = by_copying(lambda rows: np.mean(spoilt[rows] > original[rows]))
    shift = by_copying(lambda rows: (spoilt[rows] - original[rows]).mean() / original[rows].std())
    found = share_preferred(original, spoilt, rng(3), groups=groups, resamples=50)
    same(found.share, share)
    same(found.shift, shift)


def same(figure: Figure, known: Figure) -> None:
    assert figure[:4] == pytest.approx(known[:4], rel=1e-9)
    assert figure[4:] == known[4:]


def test_the_intervals_cover_the_truth_in_95_of_100_studies():
    studies, covered = 400, np.zeros(2)
    truth = norm.cdf(-0.5 / 0.8), -0.5
    for study in range(studies):
        figures = share_preferred(*made(1000 + 2 * study), rng(study), resamples=400)
        covered += [f.low <= true <= f.high for f, true in zip((figures.share, figures.shift), truth, strict=True)]
    assert ((covered / studies > 0.92) & (covered / studies < 0.98)).all()


def test_originals_that_go_together_make_both_intervals_wider():
    original, spoilt = (np.repeat(scores, 5) for scores in made())  # five copies are one original's worth
    apart, together = (share_preferred(original, spoilt, rng(), groups=one) for one in (None, np.repeat(np.arange(60), 5)))
    for one, other in ((apart.share, together.share), (apart.shift, together.shift)):
        assert (one.value, one.n) == (pytest.approx(other.value), other.n)
        assert other.high - other.low > 1.9 * (one.high - one.low)  # the square root of 5 is 2.24


def test_a_reward_model_on_another_scale_has_the_same_pitfall():
    original, spoilt = made()
    plain, other = (share_preferred(original * k + shift, spoilt * k + shift, rng()) for k, shift in ((1, 0), (1e-3, 1e3)))
    assert other.share == plain.share
    assert other.shift[:4] == pytest.approx(plain.shift[:4], rel=1e-6)


def test_missing_scores_leave_out_both_and_their_prompt():
    original, spoilt = made()
    groups = np.arange(60) // 2
    kept = np.ones(60, bool)
    kept[[3, 8, 9, 20, 41]] = False
    holed, holed_spoilt = original.copy(), spoilt.copy()
    holed[[3, 8]], holed_spoilt[[9, 20, 41]] = nan, [nan, np.inf, -np.inf]
    assert share_preferred(holed, holed_spoilt, rng(), groups=groups) == share_preferred(
        original[kept], spoilt[kept], rng(), groups=groups[kept]
    )
    singles = np.where(np.arange(60) % 2, nan, original)  # one original is left of each prompt: it is Wilson's again
    assert share_preferred(singles, spoilt, rng(), groups=groups).share.of == "prompts"


@pytest.mark.parametrize("original", [np.array([]), np.array([nan, 1.0])])
@pytest.mark.parametrize("groups", [None, np.array([7, 7])])
def test_of_nothing_both_figures_are_undefined(original, groups):
    nothing = Figure(None, None, None, 0, "prompts", "no original was scored together with its spoilt response")
    found = share_preferred(
        original, np.full(len(original), nan), rng(), groups=None if groups is None else groups[: len(original)]
    )
    assert found == Pitfall(nothing, 0, nothing)


def test_where_all_originals_score_the_same_there_is_a_share_and_no_shift():
    found = share_preferred(np.full(40, 0.1), np.array([0.1, 0.2] * 20), rng())
    assert (found.share.value, found.ties) == (0.75, 20)
    assert found.shift.words() == "undefined, because all originals score the same (n=40 prompts)"


def test_unequal_numbers_of_scores_are_refused():
    with pytest.raises(ValueError, match=r"of lengths \[2, 3\]: expected as many of each"):
        share_preferred(np.zeros(3), np.zeros(2), rng())
    with pytest.raises(ValueError, match=r"of lengths \[1, 3\]: expected as many of each"):
        share_preferred(np.zeros(3), np.zeros(3), rng(), groups=np.array([1]))
