"""How a reward model's scores go with what people gave the same responses.

`x` is what the model says and `y` what people say, both (responses,), NaN where there is nothing: such responses are left out,
and n counts the rest. `groups` (responses,) names the prompt of each response: what was said of one prompt goes together, so
whole prompts are redrawn.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import pandas as pd

from curation.stats.accuracy import Numbers
from curation.stats.figures import FEWEST, Figure, Groups, drawn_units, estimated, replicates

Method = Literal["pearson", "spearman", "kendall"]
METHODS: tuple[Method, ...] = ("pearson", "spearman", "kendall")
Statistic = Callable[[Numbers], Numbers]  # weights (draws, responses) to (draws,), NaN where undefined

FEW = f"a correlation needs at least {FEWEST} responses with both a score and a rating"
PAIRWISE_UP_TO = 3_000  # responses whose pairs are held as one matrix, 36 MB
REDRAWS_BEYOND = 200


def correlation(
    x: Numbers, y: Numbers, rng: np.random.Generator, *,
    method: Method = "pearson", groups: Groups | None = None, resamples: int = 1000,
) -> Figure:  # fmt: skip
    """The correlation over all responses, whatever their prompt.

    Spearman is Pearson's of midranks, which are those of each redraw. Kendall is tau-b (Kendall, Biometrika 33 (1945) 239).
    For more than 3,000 responses tau-b is counted redraw by redraw, each in n log n, and there are 200 redraws at most.
    Raises ValueError for arrays of different lengths, an infinite number or another method.
    """
    _check(method, *METHODS)
    (x, y), groups = _known(groups, x=x, y=y)
    reason = _why_not(scores=x, ratings=y)
    statistic = _unknown if reason else _statistic(x, y, method)
    return _figure(statistic, len(x), rng, groups, _redraws(len(x), method, resamples), reason)


def difference(
    x: Numbers, other_x: Numbers, y: Numbers, rng: np.random.Generator, *,
    method: Method = "pearson", groups: Groups | None = None, resamples: int = 1000,
) -> Figure:  # fmt: skip
    """correlation(x, y) - correlation(other_x, y) on the responses that have all three, both in the same redraws.

    So what the two share, such as prompts that are hard for both, cancels. Raises ValueError as `correlation` does.
    """
    _check(method, *METHODS)
    (x, other_x, y), groups = _known(groups, x=x, other_x=other_x, y=y)
    reason = _why_not(scores=x, other_scores=other_x, ratings=y)
    if reason:
        return _figure(_unknown, len(x), rng, groups, resamples, reason)
    one, other = _statistic(x, y, method), _statistic(other_x, y, method)
    redraws = _redraws(len(x), method, resamples)
    return _figure(lambda weights: one(weights) - other(weights), len(x), rng, groups, redraws, "")


def partial(
    x: Numbers, y: Numbers, control: Numbers, rng: np.random.Generator, *,
    method: Method = "pearson", groups: Groups | None = None, resamples: int = 1000,
) -> Figure:  # fmt: skip
    """The correlation of what a straight line in `control`, such as the length of the response, leaves of both sides.

    (r_xy - r_xc r_yc) / sqrt((1 - r_xc^2) (1 - r_yc^2)) (Yule, Proceedings of the Royal Society A 79 (1907) 182), for
    Spearman of midranks; the same of tau-b is Kendall's partial tau (Biometrika 32 (1942) 277). An influence of the control
    that is no straight line, of values or of ranks, is not taken out. Raises ValueError as `correlation` does.
    """
    _check(method, *METHODS)
    (x, y, control), groups = _known(groups, x=x, y=y, control=control)
    reason = _why_not(scores=x, ratings=y, values_of_the_control=control)
    if reason:
        return _figure(_unknown, len(x), rng, groups, resamples, reason)
    one, with_one, with_other = _statistic(x, y, method), _statistic(x, control, method), _statistic(y, control, method)

    def partials(weights: Numbers) -> Numbers:
        a, b = with_one(weights), with_other(weights)
        left = (1 - a**2) * (1 - b**2)
        return _ratio(one(weights) - a * b, np.sqrt(np.where(left > 1e-12, left, 0.0)))

    alone = "the control alone tells the scores or the ratings"
    return _figure(partials, len(x), rng, groups, _redraws(len(x), method, resamples), alone)


def within(
    x: Numbers, y: Numbers, groups: Groups, rng: np.random.Generator, *, method: Method = "pearson", resamples: int = 1000
) -> Figure:
    """The correlation among responses to the same prompt: what choosing one of them rests on.

    Pearson's of the distances from the prompt's means; Spearman: the same of midranks within the prompt; Kendall: tau-b
    over the pairs of responses to one prompt. In each, prompts weigh by the spread of what is in them. Prompts with one
    response are left out; n counts the responses of the others. Raises ValueError as `correlation` does.
    """
    _check(method, *METHODS)
    (x, y), known = _known(groups, x=x, y=y)
    assert known is not None  # groups were given
    _, prompt, sizes = np.unique(known, return_inverse=True, return_counts=True)
    several = sizes > 1
    if not several.any():
        return Figure(None, None, None, 0, "responses", "no prompt has two responses with both a score and a rating")
    sums = _sums_of_pairs(x, y, prompt) if method == "kendall" else _sums_of_deviations(x, y, prompt, method)
    together, x_alone, y_alone = (of_prompt[several] for of_prompt in sums)
    redrawn = replicates(
        lambda weights: _correlated(weights @ together, weights @ x_alone, weights @ y_alone),
        len(together),
        rng,
        resamples=resamples,
    )
    reason = f"the {'ratings' if x_alone.any() else 'scores'} are all equal within every prompt"
    return estimated(redrawn, int(sizes[several].sum()), "responses", reason, units=len(together))


def pearson(x: Numbers, y: Numbers, weights: Numbers) -> Numbers:
    """Pearson's correlation in each draw, NaN where a side is constant.

    `weights` is (draws, units); x and y are (units,), or (draws, units) where they change with the draw.
    """
    (away, spread), (other_away, other_spread) = _centred(x, weights), _centred(y, weights)
    return _correlated((weights * away * other_away).sum(axis=1), spread, other_spread)


def midranks(x: Numbers, weights: Numbers) -> Numbers:
    """The rank of each unit in each draw, (draws, units), ties in the middle (and all half too low: no correlation sees it)."""
    _, group, sizes = np.unique(x, return_inverse=True, return_counts=True)
    up_to = weights[:, np.argsort(x, kind="stable")].cumsum(axis=1)[:, sizes.cumsum() - 1]
    below = np.column_stack([np.zeros(len(weights)), up_to[:, :-1]])
    middle: Numbers = (up_to + below) / 2
    return middle[:, group]


# ---- one method


def _statistic(x: Numbers, y: Numbers, method: Method) -> Statistic:
    if method == "kendall":
        return _tau(x, y) if len(x) <= PAIRWISE_UP_TO else _tau_copying(x, y)
    one, other = (_ranked(values) if method == "spearman" else _plain(values) for values in (x, y))
    return lambda weights: pearson(one(weights), other(weights), weights)


def _plain(values: Numbers) -> Statistic:
    middle = values - values.mean() if len(values) else values
    return lambda weights: middle[None]


def _ranked(values: Numbers) -> Statistic:
    return lambda weights: midranks(values, weights)


def _tau(x: Numbers, y: Numbers) -> Statistic:
    """tau-b as w' S w / sqrt(pairs untied in x, pairs untied in y), S the product of the signs of the differences.

    Copies of one response tie with one another on both sides, as they would if they were really copied.
    """
    agree = (np.sign(x[:, None] - x) * np.sign(y[:, None] - y)).astype(np.float32)

    def taus(weights: Numbers) -> Numbers:
        exact = weights.astype(np.float32) @ agree  # whole numbers far below 2^24: none is rounded
        return _correlated((weights * exact).sum(axis=1, dtype=np.float64), _untied(x, weights), _untied(y, weights))

    return taus


def _untied(values: Numbers, weights: Numbers) -> Numbers:
    """Twice the pairs with different values, in each draw."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=-np.inf))
    alike = np.add.reduceat(weights[:, order], starts, axis=1)
    return np.asarray(weights.sum(axis=1) ** 2 - (alike**2).sum(axis=1))


def _tau_copying(x: Numbers, y: Numbers) -> Statistic:
    """The same for many responses, with copies: no matrix of pairs."""
    from scipy.stats import kendalltau  # a second to import, wanted only here

    def taus(weights: Numbers) -> Numbers:
        times = weights.astype(np.int64)
        return np.array([kendalltau(np.repeat(x, row), np.repeat(y, row), method="asymptotic").statistic for row in times])

    return taus


def _redraws(n: int, method: Method, resamples: int) -> int:
    return min(resamples, REDRAWS_BEYOND) if method == "kendall" and n > PAIRWISE_UP_TO else resamples


# ---- within prompts


def _sums_of_deviations(x: Numbers, y: Numbers, prompt: Groups, method: Method) -> tuple[Numbers, Numbers, Numbers]:
    """Of each prompt: the sums of products, and of the squares of either side, of deviations from the prompt's means."""
    one, other = (_deviations(values, prompt, ranked=method == "spearman") for values in (x, y))
    return _totals(prompt, one * other), _totals(prompt, one**2), _totals(prompt, other**2)


def _deviations(values: Numbers, prompt: Groups, *, ranked: bool) -> Numbers:
    grouped = pd.Series(values).groupby(prompt)
    own = grouped.rank() if ranked else pd.Series(values) - grouped.transform("min")  # so that equal values leave 0, not 1e-17
    return (own - own.groupby(prompt).transform("mean")).to_numpy(np.float64)


def _sums_of_pairs(x: Numbers, y: Numbers, prompt: Groups) -> tuple[Numbers, Numbers, Numbers]:
    """Of each prompt: the pairs ordered alike less those ordered oppositely, those untied in x, those untied in y."""
    order = np.argsort(prompt, kind="stable")
    x, y, prompt = x[order], y[order], prompt[order]
    sums = np.zeros((3, prompt[-1] + 1))
    for apart in range(1, int(np.bincount(prompt).max())):
        same = prompt[apart:] == prompt[:-apart]
        one, other = (np.sign(values[apart:] - values[:-apart])[same] for values in (x, y))
        for total, of in zip(sums, (one * other, one**2, other**2), strict=True):
            total += np.bincount(prompt[apart:][same], of, minlength=len(total))
    return sums[0], sums[1], sums[2]


def _totals(prompt: Groups, values: Numbers) -> Numbers:
    return np.bincount(prompt, values).astype(np.float64)


# ---- what all share


def _check(method: str, *known: str) -> None:
    if method not in known:
        raise ValueError(f"method is {method!r}, expected {', '.join(known[:-1])} or {known[-1]}")


def _known(groups: Groups | None, **arrays: Numbers) -> tuple[list[Numbers], Groups | None]:
    """The responses that have a value everywhere."""
    lengths = {name: len(array) for name, array in ({**arrays, "groups": groups} if groups is not None else arrays).items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"arrays of different lengths: {', '.join(f'{name} {length}' for name, length in lengths.items())}")
    values = {name: np.asarray(array, np.float64) for name, array in arrays.items()}
    for name, array in values.items():
        if np.isinf(array).any():
            raise ValueError(f"{name} has {array[np.isinf(array)][0]}, expected finite numbers, or NaN where there is none")
    known = ~np.isnan(np.stack(list(values.values()))).any(axis=0)
    return [array[known] for array in values.values()], None if groups is None else groups[known]


def _why_not(**sides: Numbers) -> str:
    """Why there is no correlation of these; empty where there is one."""
    if len(next(iter(sides.values()))) < FEWEST:
        return FEW
    constant = [name.replace("_", " ") for name, values in sides.items() if np.ptp(values) == 0]
    return f"the {constant[0]} are all equal" if constant else ""


def _unknown(weights: Numbers) -> Numbers:
    return np.full(len(weights), np.nan)


def _figure(
    statistic: Statistic, n: int, rng: np.random.Generator, groups: Groups | None, resamples: int, reason: str
) -> Figure:
    redrawn = replicates(statistic, n, rng, groups=groups, resamples=0 if statistic is _unknown else resamples)
    return estimated(redrawn, n, "responses", reason, units=drawn_units(n, groups))


def _correlated(together: Numbers, x_alone: Numbers, y_alone: Numbers) -> Numbers:
    return np.clip(_ratio(together, np.sqrt(x_alone * y_alone)), -1.0, 1.0)


def _ratio(above: Numbers, below: Numbers) -> Numbers:
    """Divided; NaN by 0."""
    return np.asarray(np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0))


def _centred(x: Numbers, weights: Numbers) -> tuple[Numbers, Numbers]:
    """Distances from the mean of each draw, and the sum of their squares: 0, not a rounding error, where all are equal."""
    total = weights.sum(axis=1)
    away = x - _ratio((weights * x).sum(axis=1), total)[:, None]
    squares = (weights * away**2).sum(axis=1)
    return away, np.where(squares > total * (1e-12 * np.abs(x).max()) ** 2, squares, 0.0)
