"""Agreement of raters: textbook cases, other implementations on made and real data, intervals that cover, reasons."""

from pathlib import Path

import krippendorff as reference
import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

from curation.stats.agreement import cohen, fleiss, krippendorff, leave_one_out, pairwise_cohen, percent, with_others
from curation.stats.figures import Figure, estimated, replicates

LEVELS = ("nominal", "ordinal", "interval")
WEIGHTS = (None, "linear", "quadratic")
nan = np.nan

# Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section C: 4 observers (rows), 12 units
OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
        [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan],
    ]
).T

# 14 raters, 10 subjects (rows), 5 categories: the worked example of Wikipedia, "Fleiss' kappa"
FOURTEEN_RATERS = np.array(
    [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]
)  # fmt: skip

# Cohen (1960): 200 subjects, 3 categories, observed agreement .70, by chance .41, so kappa is .29 / .59
COHEN_1960 = np.array([[88, 14, 18], [10, 40, 10], [2, 6, 12]])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def made(seed: int, *, items=40, raters=4, categories=5, missing=0.3, knowing=0.6) -> np.ndarray:
    """Ratings of items by raters who see the item's value so often, else say anything; some are missing.

    Two raters agree beyond chance only where both see, so kappa and alpha are knowing^2 in the population, at every level.
    """
    draw = rng(seed)
    true = draw.integers(categories, size=(items, 1))
    values = np.where(draw.random((items, raters)) < knowing, true, draw.integers(categories, size=(items, raters))).astype(
        float
    )
    values[draw.random(values.shape) < missing] = nan
    return values


def table(frame: pd.DataFrame, *item: str) -> np.ndarray:
    """Items by raters; where a rater judged an item twice the last judgement stands."""
    last = frame.drop_duplicates([*item, "rater"], keep="last")
    return last.pivot(index=list(item), columns="rater", values="value").to_numpy(float)


@pytest.fixture(scope="module")
def squality(data: Path) -> np.ndarray:
    ratings = pd.read_csv(data / "ratings" / "squality.csv.gz")
    return table(ratings[ratings["aspect"] == "overall"], "item_id", "generator")


@pytest.fixture(scope="module")
def dices(data: Path) -> np.ndarray:
    ratings = pd.read_csv(data / "ratings" / "dices350.csv.gz")
    return table(ratings.assign(value=ratings["value"].map({"No": 0, "Unsure": 1, "Yes": 2})), "item_id")


def by_copying(values: np.ndarray, statistic, *, resamples=40, seed=3) -> Figure:
    """The Figure that comes of copying the items drawn, one redraw after the other."""
    drawn = rng(seed).multinomial(len(values), np.full(len(values), 1 / len(values)), resamples)
    results = [statistic(values), *(statistic(np.repeat(values, times, axis=0)) for times in drawn)]
    return estimated(np.array(results), len(values), "items", "")


def same(one: Figure, other: Figure, tolerance=1e-9) -> None:
    assert one[:3] == pytest.approx(other[:3], abs=tolerance)
    assert one[3:] == other[3:]


def paired(values: np.ndarray) -> np.ndarray:
    return values[(~np.isnan(values)).sum(axis=1) >= 2]


def gwet(values: np.ndarray) -> float:
    """Fleiss' kappa for unequal numbers of ratings, item by item, as Gwet writes it."""
    agreeing, shares = [], []
    for row in values:
        given = row[~np.isnan(row)]
        shares.append([np.mean(given == category) for category in range(5)])
        if len(given) > 1:
            agreeing.append(np.mean([given[i] == given[j] for i in range(len(given)) for j in range(len(given)) if i != j]))
    chance = (np.mean(shares, axis=0) ** 2).sum()
    return (np.mean(agreeing) - chance) / (1 - chance)


# Known answers


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_krippendorffs_own_example(level, alpha):
    figure = krippendorff(OBSERVERS, level, rng())
    assert (round(figure.value, 3), figure.n, figure.of) == (alpha, 11, "items")  # the twelfth unit has one value


def test_fleiss_kappa_of_fourteen_raters():
    values = np.array([np.repeat(np.arange(5), counts) for counts in FOURTEEN_RATERS]).astype(float)
    assert round(fleiss(values, rng()).value, 3) == 0.210
    assert round(percent(values, rng()).value, 3) == 0.378


def test_cohens_kappa_of_his_own_example():
    a, b = (np.repeat(index.ravel(), COHEN_1960.ravel()).astype(float) for index in np.indices((3, 3)))
    assert cohen(a, b, rng()).value == pytest.approx(0.29 / 0.59)
    assert percent(np.stack([a, b], axis=1), rng()).value == pytest.approx(0.70)


# Other implementations


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("level", LEVELS)
def test_alpha_is_that_of_the_krippendorff_package_with_values_missing(level, seed):
    values = made(seed, missing=0.5) * 3.7 - 1e4
    expected = reference.alpha(values.T, level_of_measurement=level)
    assert krippendorff(values, level, rng(), resamples=1).value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["squality", "dices"])
def test_alpha_of_real_ratings_is_that_of_the_krippendorff_package(name, level, request):
    values = request.getfixturevalue(name)
    expected = reference.alpha(values.T, level_of_measurement=level)
    assert krippendorff(values, level, rng(), resamples=1).value == pytest.approx(expected, abs=1e-9)


def test_fleiss_kappa_of_equal_numbers_is_that_of_statsmodels(dices, squality):
    three = np.array([row[~np.isnan(row)] for row in squality])
    for values in (made(1, missing=0), dices, three):
        expected = fleiss_kappa(aggregate_raters(values)[0])
        assert fleiss(values, rng(), resamples=1).value == pytest.approx(expected, abs=1e-9)


def test_fleiss_kappa_of_unequal_numbers_is_gwets():
    values = made(2, missing=0.6)
    rated = values[~np.isnan(values).all(axis=1)]
    assert len(paired(values)) < len(rated) < len(values)
    assert fleiss(values, rng(), resamples=1).value == pytest.approx(gwet(rated), abs=1e-9)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_cohens_kappa_is_that_of_scikit_learn_on_the_items_both_rated(weights, squality):
    for values in (made(4), squality):
        a, b = values[:, 0], values[:, 1]
        both = ~np.isnan(a) & ~np.isnan(b)
        figure = cohen(a, b, rng(), weights=weights, resamples=1)
        assert figure.value == pytest.approx(cohen_kappa_score(a[both], b[both], weights=weights), abs=1e-9)
        assert figure.n == both.sum()


def test_the_full_scale_moves_a_weighted_kappa_and_not_a_plain_one():
    a, b = np.array([1.0, 1, 2, 5, 5, 2]), np.array([1.0, 2, 2, 5, 2, 1])
    scale = np.arange(1.0, 6.0)
    for weights in WEIGHTS:
        expected = cohen_kappa_score(a, b, labels=scale, weights=weights)
        assert cohen(a, b, rng(), weights=weights, categories=scale, resamples=1).value == pytest.approx(expected)
    used, full = (cohen(a, b, rng(), weights="quadratic", categories=given).value for given in (None, scale))
    assert abs(used - full) > 0.05
    with pytest.raises(ValueError, match="5 was given, expected one of the categories 1, 2, 3"):
        cohen(a, b, rng(), categories=np.array([1.0, 2.0, 3.0]))


@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_mean_of_cohens_kappas_is_over_the_pairs_that_share_items(weights, squality):
    apart = made(5)
    apart[:20, 0] = nan
    apart[20:, 3] = nan  # the first and the last rater share nothing
    for values in (apart, squality):
        scale, expected = np.unique(values[~np.isnan(values)]), []
        for i in range(4):
            for j in range(i + 1, 4):
                both = ~np.isnan(values[:, i]) & ~np.isnan(values[:, j])
                if both.any():
                    expected.append(cohen_kappa_score(values[both, i], values[both, j], labels=scale, weights=weights))
        assert pairwise_cohen(values, rng(), weights=weights, resamples=1).value == pytest.approx(np.mean(expected), abs=1e-9)


@pytest.mark.parametrize(("method", "known"), [("pearson", pearsonr), ("spearman", spearmanr)])
def test_each_rater_against_the_mean_of_the_others_is_that_of_scipy(method, known, squality):
    for values in (made(6), squality):
        values = paired(values)
        expected = []
        for rater in range(values.shape[1]):
            rows = values[~np.isnan(values[:, rater])]
            expected.append(known(rows[:, rater], np.nanmean(np.delete(rows, rater, axis=1), axis=1)).statistic)
        ceiling = leave_one_out(values, rng(), method=method, resamples=1)
        assert [figure.value for figure in ceiling.raters] == pytest.approx(expected, abs=1e-9)
        assert ceiling.mean.value == pytest.approx(np.mean(expected), abs=1e-9)
        assert [figure.n for figure in ceiling.raters] == (~np.isnan(values)).sum(axis=0).tolist()


# Intervals


@pytest.mark.parametrize("level", LEVELS)
def test_alphas_interval_is_that_of_items_really_copied(level):
    values = paired(made(7))
    expected = by_copying(values, lambda drawn: reference.alpha(drawn.T, level_of_measurement=level))
    same(krippendorff(values, level, rng(3), resamples=40), expected)


def test_the_intervals_of_kappas_are_those_of_items_really_copied():
    values = paired(made(8, missing=0.2))
    same(fleiss(values, rng(3), resamples=40), by_copying(values, gwet))
    full = made(9, missing=0)[:, :2]

    def kappa(drawn: np.ndarray) -> float:
        return cohen_kappa_score(*drawn.T, labels=np.arange(5), weights="quadratic")

    same(cohen(*full.T, rng(3), weights="quadratic", resamples=40), by_copying(full, kappa))


@pytest.mark.parametrize(("method", "known"), [("pearson", pearsonr), ("spearman", spearmanr)])
def test_the_interval_of_the_ceiling_is_that_of_items_really_copied(method, known):
    values = made(10, missing=0)

    def ceiling(drawn: np.ndarray) -> float:
        return np.mean([known(drawn[:, r], np.delete(drawn, r, axis=1).mean(axis=1)).statistic for r in range(4)])

    same(leave_one_out(values, rng(3), method=method, resamples=40).mean, by_copying(values, ceiling))


@pytest.mark.parametrize(
    ("measure", "known"),
    [
        (lambda *given, **rest: krippendorff(given[0], "ordinal", given[1], **rest), lambda drawn: alpha_of(drawn)),
        (percent, lambda drawn: np.mean([agreeing(row) for row in drawn])),
    ],
)
def test_the_interval_of_grouped_items_is_that_of_whole_groups_copied(measure, known):
    values = paired(made(10, items=30))
    groups = np.repeat(np.arange(len(values)), 3)[: len(values)] * 7  # any numbers will do
    names = np.unique(groups)
    drawn = rng(3).multinomial(len(names), np.full(len(names), 1 / len(names)), 40)
    copies = [
        np.concatenate([np.repeat(values[groups == name], n, axis=0) for name, n in zip(names, row, strict=True)])
        for row in drawn
    ]
    expected = estimated(np.array([known(values), *map(known, copies)]), len(values), "items", "", units=len(names))
    same(measure(values, rng(3), groups=groups, resamples=40), expected)


def alpha_of(drawn: np.ndarray) -> float:
    return float(reference.alpha(drawn.T, level_of_measurement="ordinal"))


def agreeing(row: np.ndarray) -> float:
    given = row[~np.isnan(row)]
    return float(np.mean([one == other for place, one in enumerate(given) for other in given[:place]]))


def test_responses_that_go_together_make_the_interval_wider():
    values = np.repeat(made(11, items=40, missing=0), 5, axis=0)  # five copies of each item are one item's worth
    apart, together = (krippendorff(values, "nominal", rng(), groups=one) for one in (None, np.repeat(np.arange(40), 5)))
    assert (apart.value, apart.n) == (together.value, together.n)
    assert together.high - together.low > 1.9 * (apart.high - apart.low)  # the square root of 5 is 2.24


def test_a_rater_beside_the_others_is_the_share_of_them_who_said_the_same():
    others = np.array([[1, 1, 2], [1, nan, nan], [nan, nan, nan], [3, 3, 3], [2, 2, nan]], dtype=float)
    own = np.array([1, 2, 1, nan, 2], dtype=float)
    figure = with_others(own, others, rng())
    assert (figure.value, figure.n) == (pytest.approx((2 / 3 + 0 + 1) / 3), 3)
    assert with_others(np.full(5, nan), others, rng()).undefined == "no item was rated by this rater and another one"


@pytest.mark.parametrize(("level", "items", "knowing"), [("nominal", 100, 0.8), ("interval", 100, 0.6), ("ordinal", 25, 0.7)])
def test_alphas_interval_covers_the_truth_in_95_of_100_studies(level, items, knowing):
    covered, studies = 0, 400
    for study in range(studies):
        values = made(1000 + study, items=items, raters=3, categories=4, missing=0.15, knowing=knowing)
        figure = krippendorff(values, level, rng(study), resamples=500)
        covered += figure.low <= knowing**2 <= figure.high
    assert 0.92 <= covered / studies <= 0.98


def test_many_items_are_redrawn_in_parts_with_the_same_result():
    values = made(11, items=20_000, missing=0)
    figure = krippendorff(values, "nominal", rng(), resamples=400)  # 8 million weights: two parts
    assert figure.low < 0.36 < figure.high
    assert figure.high - figure.low < 0.03


# What must not matter, and what must


@pytest.mark.parametrize("measure", [percent, fleiss, pairwise_cohen])
def test_the_order_of_raters_and_the_names_of_categories_do_not_matter(measure):
    values = made(13)
    names = np.array([30.0, -1.0, 7.0, 0.5, 2.0])
    renamed = np.where(np.isnan(values), nan, names[np.nan_to_num(values).astype(int)])
    same(measure(values[:, [2, 0, 3, 1]], rng()), measure(values, rng()))
    same(measure(renamed, rng()), measure(values, rng()))
    same(krippendorff(renamed, "nominal", rng()), krippendorff(values, "nominal", rng()))


def test_a_shift_and_a_stretch_do_not_matter_to_intervals_nor_any_rising_change_to_ranks():
    values = made(14)
    same(krippendorff(values * 12 + 1e5, "interval", rng()), krippendorff(values, "interval", rng()))
    same(krippendorff(np.exp(values), "ordinal", rng()), krippendorff(values, "ordinal", rng()))
    assert krippendorff(np.exp(values), "interval", rng()).value != pytest.approx(krippendorff(values, "interval", rng()).value)
    same(leave_one_out(values + 1e5, rng()).mean, leave_one_out(values, rng()).mean, 1e-6)


def test_the_same_seed_gives_the_same_interval_and_another_another():
    values = made(15)
    assert krippendorff(values, "nominal", rng(1)) == krippendorff(values, "nominal", rng(1))
    assert krippendorff(values, "nominal", rng(1)).low != krippendorff(values, "nominal", rng(2)).low


# Undefined


MEASURES = [percent, fleiss, pairwise_cohen, lambda v, r: krippendorff(v, "ordinal", r), lambda v, r: leave_one_out(v, r).mean]


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("values", [np.full((0, 3), nan), np.full((4, 3), nan), np.array([[1, nan], [nan, 2]])])
def test_without_an_item_that_two_rated_nothing_is_defined(measure, values):
    assert measure(values, rng()) == Figure(None, None, None, 0, "items", "no item was rated by two raters")


def test_one_value_everywhere_leaves_agreement_beyond_chance_undefined():
    values = np.full((30, 2), 3.0)
    same_value = "undefined, because every rater gave the same value everywhere (n=30 items)"
    assert krippendorff(values, "interval", rng()).words() == fleiss(values, rng()).words() == same_value
    assert pairwise_cohen(values, rng()).undefined == "no pair of raters used two different values"
    assert leave_one_out(values, rng()).raters[0].undefined == "the rater gave the same value everywhere"
    assert percent(values, rng()).words() == "1.00 [0.89, 1.00], n=30 items"  # defined, and Wilson's: 30 of 30


def test_full_agreement_on_several_values_is_alpha_1_without_an_interval():
    values = np.repeat(np.arange(30.0)[:, None] % 3, 2, axis=1)
    figure = krippendorff(values, "nominal", rng())
    assert figure.words() == "1.00 (no interval, because every redraw gives the same value), n=30 items"


def test_two_items_have_an_alpha_and_no_interval():
    figure = krippendorff(np.array([[1.0, 1.0], [2.0, 3.0]]), "nominal", rng())
    assert figure.value == pytest.approx(1 - 3 * 2 / 10)  # n=4: observed 2, expected 16 - (4 + 1 + 1) = 10
    assert figure.words() == "0.40 (no interval, because an interval needs at least 3 items), n=2 items"


def test_a_value_that_many_redraws_lack_leaves_no_interval():
    values = np.ones((40, 2))
    values[0] = [1.0, 2.0]  # a redraw without the first item has one value: (39/40)^40 is 36%
    figure = krippendorff(values, "nominal", rng(), resamples=2000)
    assert (figure.value, figure.low) == (pytest.approx(0.0, abs=1e-9), None)
    assert figure.undefined in {f"it is undefined in {share}% of the redraws" for share in range(33, 40)}


def test_a_rater_who_shares_two_items_has_no_correlation_and_is_left_out_of_the_mean():
    values = made(16, missing=0)
    values[2:, 3] = nan
    ceiling = leave_one_out(values, rng())
    assert ceiling.raters[3].undefined == "a correlation needs at least 3 items that others rated too"
    assert ceiling.mean.value == pytest.approx(np.mean([figure.value for figure in ceiling.raters[:3]]))


def test_a_figure_says_what_it_is_in_words_and_as_a_record():
    figure = Figure(0.614, 0.55, 0.67, 1300, "items")
    assert (figure.words(), figure.short()) == ("0.61 [0.55, 0.67], n=1,300 items", "0.61")
    assert figure.record() == {"value": 0.614, "low": 0.55, "high": 0.67, "n": 1300, "of": "items"}
    nothing = estimated(np.array([nan, nan]), 3, "items", "nobody came")
    assert nothing.record() == {"value": None, "n": 3, "of": "items", "undefined": "nobody came"}
    assert (nothing.words(), nothing.short()) == ("undefined, because nobody came (n=3 items)", "undefined")


def test_the_interval_of_a_mean_of_few_is_about_as_wide_as_students():
    values = rng(17).normal(size=8)
    redrawn = replicates(lambda weights: weights @ values / 8, 8, rng(), resamples=20_000)
    figure = estimated(redrawn, 8, "values", "")
    students = 2.3646 * values.std(ddof=1) / np.sqrt(8)
    assert (figure.high - figure.low) / 2 == pytest.approx(students, rel=0.1)
    plain = np.diff(np.quantile(redrawn[1:], [0.025, 0.975]))[0] / 2
    assert plain < 0.85 * students
