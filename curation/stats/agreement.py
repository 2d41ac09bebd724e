"""How far raters agree, each measure with an interval from whole items redrawn.

`values` is everywhere (items, raters), NaN where a rater did not rate an item. Categories are numbers, in their order.
`groups` (items,), where given, names what goes together, such as several responses to one prompt: whole groups are redrawn.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curation.stats.accuracy import Numbers
from curation.stats.correlation import midranks, pearson
from curation.stats.figures import FEWEST, Figure, Groups, drawn_units, estimated, replicates, with_certain_ends

Level = Literal["nominal", "ordinal", "interval"]
Weights = Literal["linear", "quadratic"] | None

NO_OVERLAP = "no item was rated by two raters"
ONE_VALUE = "every rater gave the same value everywhere"


def percent(values: Numbers, rng: np.random.Generator, *, groups: Groups | None = None, resamples: int = 1000) -> Figure:
    """The share of agreeing pairs of raters, by item and averaged over the items with two or more ratings.

    P-bar of Fleiss, Psychological Bulletin 76 (1971) 378, eq. 3. Not corrected for chance, and defined for one value too.
    Where everybody agreed about everything the redraws show no spread; the interval is then Wilson's over items.
    """
    counts, _ = _counts(values)
    several = counts.sum(axis=1) >= 2
    agreeing, groups = _agreeing(counts[several]), _some(groups, _ratings(values) >= 2)
    return _mean(agreeing, rng, groups, resamples, NO_OVERLAP)


def with_others(
    own: Numbers, others: Numbers, rng: np.random.Generator, *, groups: Groups | None = None, resamples: int = 1000
) -> Figure:
    """The share of the other raters who said what this one did, by item and averaged over the items both have.

    `own` is (items,), `others` (items, other raters). Not corrected for chance.
    """
    known = ~np.isnan(others)
    both = ~np.isnan(own) & known.any(axis=1)
    same = (others == own[:, None]).sum(axis=1)[both] / known.sum(axis=1)[both]
    return _mean(same, rng, _some(groups, both), resamples, "no item was rated by this rater and another one")


def _mean(shares: Numbers, rng: np.random.Generator, groups: Groups | None, resamples: int, reason: str) -> Figure:
    """The mean of the items' shares."""
    n, units = len(shares), drawn_units(len(shares), groups)
    redrawn = replicates(
        lambda weights: _ratio(weights @ shares, weights.sum(axis=1)), n, rng, groups=groups, resamples=resamples
    )
    return with_certain_ends(estimated(redrawn, n, "items", reason, units=units), units=units)


def _some(groups: Groups | None, keep: NDArray[np.bool_]) -> Groups | None:
    return None if groups is None else groups[keep]


def cohen(
    a: Numbers, b: Numbers, rng: np.random.Generator, *,
    weights: Weights = None, categories: Numbers | None = None, groups: Groups | None = None, resamples: int = 1000,
) -> Figure:  # fmt: skip
    """Cohen's kappa of two raters, on the items that both rated; `a` and `b` are (items,).

    Cohen, Educational and Psychological Measurement 20 (1960) 37; weighted: Psychological Bulletin 70 (1968) 213.
    A weight counts categories apart, not the difference of their values: linearly or squared, as in scikit-learn.
    What lies between two categories depends on which there are, so give the full scale in `categories` where not every
    category was used. Raises ValueError for a value that is not among them.
    """
    values = np.stack([a, b], axis=1)
    return pairwise_cohen(values, rng, weights=weights, categories=categories, groups=groups, resamples=resamples)


def pairwise_cohen(
    values: Numbers, rng: np.random.Generator, *,
    weights: Weights = None, categories: Numbers | None = None, groups: Groups | None = None, resamples: int = 1000,
) -> Figure:  # fmt: skip
    """The mean of Cohen's kappa over the pairs of raters that share items (Light, Psychological Bulletin 76 (1971) 365).

    Pairs for which kappa is undefined (both gave one and the same value) are left out. `categories` as for `cohen`; by
    default all values that occur, one scale for all pairs. n counts the items with two or more ratings.
    """
    shared = values[_ratings(values) >= 2]
    scale = _scale(shared, categories)
    given = np.searchsorted(scale, np.nan_to_num(shared, nan=scale[0] if len(scale) else 0.0))
    chosen = ((given[:, :, None] == np.arange(len(scale))) & ~np.isnan(shared)[:, :, None]).astype(np.float64)
    apart = np.abs(np.subtract.outer(np.arange(len(scale)), np.arange(len(scale)))).astype(np.float64)
    cost = (apart > 0).astype(np.float64) if weights is None else apart if weights == "linear" else apart**2

    def kappas(drawn: Numbers) -> Numbers:
        total, pairs = np.zeros(len(drawn)), np.zeros(len(drawn))
        for rater in range(values.shape[1] - 1):
            kappa = _kappas_with(rater, chosen, cost, drawn)
            total += np.nansum(kappa, axis=1)
            pairs += np.isfinite(kappa).sum(axis=1)
        return _ratio(total, pairs)

    groups = _some(groups, _ratings(values) >= 2)
    redrawn = replicates(kappas, len(shared), rng, groups=groups, resamples=resamples)
    reason = "no pair of raters used two different values" if len(shared) else NO_OVERLAP
    return estimated(redrawn, len(shared), "items", reason, units=drawn_units(len(shared), groups))


def fleiss(values: Numbers, rng: np.random.Generator, *, groups: Groups | None = None, resamples: int = 1000) -> Figure:
    """Fleiss' kappa (Psychological Bulletin 76 (1971) 378) for any number of raters, who need not be the same for each item.

    Fleiss has as many ratings for every item. For unequal numbers this is the generalisation of Gwet (Handbook of Inter-Rater
    Reliability, 4th ed., 2014, section 2.6; irrCAC): agreement over the items with two or more ratings, and the share of
    a category as the mean over all rated items of its share in the item, so an item with many ratings weighs no more than
    others. n counts the items with two or more ratings.
    """
    counts, _ = _counts(values)
    ratings = counts.sum(axis=1)
    several = (ratings >= 2).astype(np.float64)
    agreeing, shares = np.where(several > 0, _agreeing(counts), 0.0), counts / ratings[:, None]

    def kappas(weights: Numbers) -> Numbers:
        observed = _ratio(weights @ agreeing, weights @ several)
        expected = (_ratio(weights @ shares, weights.sum(axis=1, keepdims=True)) ** 2).sum(axis=1)
        return _ratio(observed - expected, np.where(expected > 1 - 1e-12, 0.0, 1 - expected))

    n, groups = int(several.sum()), _some(groups, _ratings(values) >= 1)
    redrawn = replicates(kappas, len(counts), rng, groups=groups, resamples=resamples)
    units = n if groups is None else drawn_units(len(counts), groups)
    return estimated(redrawn, n, "items", ONE_VALUE if n else NO_OVERLAP, units=units)


def krippendorff(
    values: Numbers, level: Level, rng: np.random.Generator, *, groups: Groups | None = None, resamples: int = 1000
) -> Figure:
    """Krippendorff's alpha: 1 - observed / expected disagreement, for any number of raters and any values missing.

    Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section C and D. Items with one rating are left out, as
    there. The ordinal difference of two categories is the squared distance of their midranks among all pairable values,
    (sum from c to k of n_g - (n_c + n_k) / 2)^2, so it moves with each redraw.
    """
    counts, scale = _counts(values)
    counts = counts[counts.sum(axis=1) >= 2]
    ratings = counts.sum(axis=1)
    within = (ratings**2 - (counts**2).sum(axis=1)) / (ratings - 1)  # nominal disagreements in an item

    def alphas(weights: Numbers) -> Numbers:
        used: Numbers = weights @ counts  # n_c, of each draw
        n = used.sum(axis=1)
        if level == "nominal":
            observed, expected = weights @ within, n**2 - (used**2).sum(axis=1)
        else:
            if level == "ordinal":
                place = used.cumsum(axis=1) - used / 2 - n[:, None] / 2
            else:
                place = np.broadcast_to(scale - scale[:1], used.shape)  # from 0, for small squares
            spread = 2 * (ratings * (place**2 @ counts.T) - (place @ counts.T) ** 2) / (ratings - 1)
            observed = (weights * spread).sum(axis=1)
            expected = 2 * (n * (used * place**2).sum(axis=1) - (used * place).sum(axis=1) ** 2)
        disagreement = (n - 1) * _ratio(observed, np.where((used > 0).sum(axis=1) > 1, expected, 0.0))
        return np.asarray(1 - disagreement)

    groups = _some(groups, _ratings(values) >= 2)
    redrawn = replicates(alphas, len(counts), rng, groups=groups, resamples=resamples)
    units = drawn_units(len(counts), groups)
    return estimated(redrawn, len(counts), "items", ONE_VALUE if len(counts) else NO_OVERLAP, units=units)


class Ceiling(NamedTuple):
    """How well each rater is told by the others, in the order of the columns, and the mean: what a model can hope for."""

    raters: list[Figure]
    mean: Figure


def leave_one_out(
    values: Numbers, rng: np.random.Generator, *,
    method: Literal["pearson", "spearman"] = "pearson", groups: Groups | None = None, resamples: int = 1000,
) -> Ceiling:  # fmt: skip
    """The correlation of each rater with the mean of the others, on the items they share, and the mean over raters.

    The human ceiling: a model that correlates with the mean of people as one person does with the mean of the rest is as
    good as a person. The mean is over raters for whom it is defined; its n counts the items with two or more ratings.
    """
    shared = values[_ratings(values) >= 2]
    known = ~np.isnan(shared)
    filled = np.where(known, shared, 0.0)
    others = (filled.sum(axis=1, keepdims=True) - filled) / np.maximum(known.sum(axis=1, keepdims=True) - 1, 1)

    def correlations(weights: Numbers) -> Numbers:
        each = np.stack(
            [
                _correlation(shared[rows, rater], others[rows, rater], weights[:, rows], method)
                for rater, rows in enumerate(known.T)
            ],
            axis=1,
        )
        mean = _ratio(np.nansum(each, axis=1), np.isfinite(each).sum(axis=1))
        return np.column_stack([each, mean])

    groups = _some(groups, _ratings(values) >= 2)
    redrawn = replicates(correlations, len(shared), rng, groups=groups, resamples=resamples)
    reason = f"no rater shares {FEWEST} items with others, or none has two different values there"
    raters = [
        _of_rater(redrawn[:, rater], shared[rows, rater], drawn_units(int(rows.sum()), _some(groups, rows)))
        for rater, rows in enumerate(known.T)
    ]
    units = drawn_units(len(shared), groups)
    return Ceiling(raters, estimated(redrawn[:, -1], len(shared), "items", reason if len(shared) else NO_OVERLAP, units=units))


def _ratings(values: Numbers) -> Numbers:
    """How many ratings each item has."""
    return np.asarray(np.isfinite(values).sum(axis=1, dtype=np.float64))


def _counts(values: Numbers) -> tuple[Numbers, Numbers]:
    """How often each value was given to each rated item, (items, categories), and the values, ascending."""
    items, raters = np.nonzero(~np.isnan(values))
    scale, category = np.unique(values[items, raters], return_inverse=True)
    counts = np.zeros((len(values), len(scale)))
    np.add.at(counts, (items, category), 1.0)
    return counts[counts.any(axis=1)], scale


def _agreeing(counts: Numbers) -> Numbers:
    """The share of agreeing pairs of ratings in each item; NaN for one rating."""
    ratings = counts.sum(axis=1)
    return _ratio((counts * (counts - 1)).sum(axis=1), ratings * (ratings - 1))


def _ratio(above: Numbers, below: Numbers) -> Numbers:
    """Divided; NaN by 0."""
    undefined = np.full(np.broadcast_shapes(above.shape, below.shape), np.nan)
    return np.asarray(np.divide(above, below, out=undefined, where=below != 0))


def _scale(values: Numbers, categories: Numbers | None) -> Numbers:
    """The categories, ascending: those given, or all that occur."""
    found = np.unique(values[~np.isnan(values)])
    if categories is None:
        return found
    strange = np.setdiff1d(found, categories)
    if len(strange):
        raise ValueError(f"{strange[0]:g} was given, expected one of the categories {', '.join(f'{c:g}' for c in categories)}")
    return np.unique(categories)


def _kappas_with(rater: int, chosen: Numbers, cost: Numbers, drawn: Numbers) -> Numbers:
    """Kappa of one rater with each later one, (draws, later raters): 1 - observed / expected cost of disagreement.

    `chosen` is (items, raters, categories): 1 for what was chosen, and all 0 where nothing was.
    """
    items, _, categories = chosen.shape
    first, rest = chosen[:, rater], chosen[:, rater + 1 :]
    both = first.sum(axis=1)[:, None] * rest.sum(axis=2)
    costs = (first @ cost)[:, None, :] * both[:, :, None]  # of each category that a later rater might choose

    def drawn_sum(of: Numbers) -> Numbers:
        flat = drawn @ of.reshape(items, of.shape[1] * categories)
        return flat.reshape(len(drawn), of.shape[1], categories)

    observed = drawn @ (costs * rest).sum(axis=2)
    expected = np.einsum("doc,doc->do", drawn_sum(costs), drawn_sum(rest * both[:, :, None]))
    return np.asarray(1 - (drawn @ both) * _ratio(observed, expected))


def _correlation(x: Numbers, y: Numbers, weights: Numbers, method: str) -> Numbers:
    """The correlation in each draw; NaN where one side is constant. x and y are (items,), weights (draws, items)."""
    if len(x) < FEWEST:
        return np.full(len(weights), np.nan)
    one, other = (midranks(v, weights) if method == "spearman" else v for v in (x, y))
    return pearson(one, other, weights)


def _of_rater(replicas: Numbers, own: Numbers, units: int) -> Figure:
    """The Figure of one rater, from that column of the replicates and the rater's own values."""
    if len(own) < FEWEST:
        reason = f"a correlation needs at least {FEWEST} items that others rated too"
    else:
        reason = f"{'the rater gave' if np.ptp(own) == 0 else 'the others gave on average'} the same value everywhere"
    return estimated(replicas, len(own), "items", reason, units=units)
