"""Generators compared: mean ratings, win rates, Bradley-Terry strengths.

Intervals redraw whole prompts: what several generators, and several raters, did with one prompt goes together. The bootstrap
rather than a cluster-robust formula, because one way serves means, win rates and strengths, so that they can be set side by
side; it leaves correlated generators correlated, and needs no variance formula for a fitted model.
Arrays are long, one entry a rating or comparison. An outcome is 1 where left won, 0 where right did, and 0.5 for a tie,
good or bad.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curation.stats.accuracy import Numbers
from curation.stats.figures import Figure, estimated, replicates, with_certain_ends

Names = NDArray[Any]


class WinMatrix(NamedTuple):
    """Row against column, in the order of `names`: wins with a tie as half a win for each, and comparisons."""

    names: list[str]
    wins: Numbers
    counts: NDArray[np.int64]


def means(
    values: Numbers, generators: Names, prompts: Names, rng: np.random.Generator, *, resamples: int = 1000
) -> dict[str, Figure]:
    """Each generator's mean rating over all its ratings; n counts its prompts. NaN is no rating.

    A prompt with more ratings weighs more. Raises ValueError for arrays of different lengths.
    """
    _same_length(values=values, generators=generators, prompts=prompts)
    rated = ~np.isnan(values)
    names, generator = np.unique(generators, return_inverse=True)
    units, prompt = np.unique(prompts[rated], return_inverse=True)
    sums, counts = np.zeros((2, len(units), len(names)))
    np.add.at(sums, (prompt, generator[rated]), values[rated])
    np.add.at(counts, (prompt, generator[rated]), 1.0)

    def averages(weights: Numbers) -> Numbers:
        total, of = weights @ sums, weights @ counts
        return np.asarray(np.divide(total, of, out=np.full(of.shape, np.nan), where=of > 0))

    redrawn = replicates(averages, len(units), rng, resamples=resamples)
    prompts_of = (counts > 0).sum(axis=0)
    return {
        str(name): estimated(redrawn[:, column], int(prompts_of[column]), "prompts", "nothing of it was rated")
        for column, name in enumerate(names)
    }


def win_rate(outcome: Numbers, prompts: Names, rng: np.random.Generator, *, resamples: int = 1000) -> Figure:
    """The mean outcome of one generator, seen from its side, a tie as half a win. Leave ties out for the strict rate.

    Where it always won, or never, the redraws show no spread; the interval is then Wilson's over prompts.
    """
    _check(outcome)
    everything = np.full(len(outcome), "all")
    rates = means(outcome, everything, prompts, rng, resamples=resamples)
    return with_certain_ends(rates.get("all", Figure(None, None, None, 0, "prompts", "there are no comparisons")))


def win_rates(
    left: Names, right: Names, outcome: Numbers, prompts: Names, rng: np.random.Generator, *, resamples: int = 1000
) -> dict[str, Figure]:
    """Each generator's win rate against all it met. Where they met different others, compare strengths, not rates."""
    _check(outcome, left=left, right=right, prompts=prompts)
    seen_from_both = np.concatenate([outcome, 1 - outcome]), np.concatenate([left, right]), np.concatenate([prompts, prompts])
    rates = means(*seen_from_both, rng, resamples=resamples)
    return {name: with_certain_ends(rate) for name, rate in rates.items()}


def win_matrix(left: Names, right: Names, outcome: Numbers) -> WinMatrix:
    """Who won how often against whom. Raises ValueError for another outcome, or a generator against itself."""
    names, wins = _wins(left, right, outcome, np.zeros(len(left)))
    total = wins.sum(axis=0).reshape(len(names), len(names)) if len(names) else np.zeros((0, 0))
    return WinMatrix(names, total, np.rint(total + total.T).astype(np.int64))


def bradley_terry(
    left: Names, right: Names, outcome: Numbers, prompts: Names, rng: np.random.Generator, *, resamples: int = 200
) -> dict[str, Figure]:
    """Each generator's strength: the log odds of winning against another are the difference of both strengths; their mean is 0.

    Bradley and Terry, Biometrika 39 (1952) 324, fitted by maximum likelihood as a logistic regression without penalty, a tie
    as half a win each way. n counts prompts. The estimate is finite where there is no way to part the generators in
    two groups of which one never won, or was never met (Ford, American Mathematical Monthly 64 (8, part 2) (1957) 28);
    otherwise all are undefined, and the reason names a group. Raises ValueError as `win_matrix` does.
    """
    names, wins = _wins(left, right, outcome, prompts)
    count = len(names)
    if not count:
        return {}
    shape = (-1, count, count)
    reason = _why_infinite(names, wins.sum(axis=0).reshape(count, count))

    def strengths(weights: Numbers) -> Numbers:
        return np.stack([_strengths(drawn) for drawn in (weights @ wins).reshape(shape)])

    redrawn = replicates(strengths, len(wins), rng, resamples=0 if reason else resamples)
    return {name: estimated(redrawn[:, column], len(wins), "prompts", reason) for column, name in enumerate(names)}


def _wins(left: Names, right: Names, outcome: Numbers, prompts: Names) -> tuple[list[str], Numbers]:
    """The names, and the wins of each prompt, (prompts, names x names): row against column, a tie half for each."""
    _check(outcome, left=left, right=right, prompts=prompts)
    if (left == right).any():
        raise ValueError(f"{left[left == right][0]} is compared with itself, expected two generators")
    names, generator = np.unique(np.concatenate([left, right]), return_inverse=True)
    one, other = generator[: len(left)], generator[len(left) :]
    units, prompt = np.unique(prompts, return_inverse=True)
    wins = np.zeros((len(units), len(names), len(names)))
    np.add.at(wins, (prompt, one, other), outcome)
    np.add.at(wins, (prompt, other, one), 1 - outcome)
    return [str(name) for name in names], wins.reshape(len(units), len(names) ** 2)


def _strengths(wins: Numbers) -> Numbers:
    """Strengths with mean zero, NaN where they are infinite."""
    from sklearn.linear_model import LogisticRegression

    if _groups(wins)[0] > 1:
        return np.full(len(wins), np.nan)
    one, other = np.triu_indices(len(wins), 1)
    contrasts = np.eye(len(wins))[one] - np.eye(len(wins))[other]
    games = np.concatenate([wins[one, other], wins[other, one]])
    model = LogisticRegression(C=np.inf, fit_intercept=False, solver="newton-cholesky", tol=1e-10)
    won = np.repeat([1, 0], len(one))
    # the first generator is at 0, so that there is one solution
    model.fit(np.concatenate([contrasts, contrasts])[games > 0, 1:], won[games > 0], sample_weight=games[games > 0])
    strengths = np.concatenate([[0.0], model.coef_[0]])
    return np.asarray(strengths - strengths.mean())


def _groups(wins: Numbers) -> tuple[int, NDArray[np.int32]]:
    """The groups within which everybody can be reached from everybody by a chain of wins: how many, and each one's."""
    from scipy.sparse.csgraph import connected_components

    count, group = connected_components(wins > 0, directed=True, connection="strong")
    return int(count), group


def _why_infinite(names: list[str], wins: Numbers) -> str:
    """Which group of generators was never met, never beaten or never successful; empty when there is none."""
    count, group = _groups(wins)
    if count == 1:
        return ""
    for number in np.argsort(np.bincount(group), kind="stable"):  # the smallest group says it best
        inside = group == number
        won, lost = wins[inside][:, ~inside].any(), wins[~inside][:, inside].any()
        if not (won and lost):
            some = " and ".join(np.array(names)[inside])
            unmet = f"no comparison joins {some} with the others"
            return f"{some} never lost to the others" if won else f"{some} never won against the others" if lost else unmet
    raise AssertionError("several groups, and every one in a circle: those would be one group")


def _same_length(**arrays: Names) -> None:
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"arrays of different lengths: {', '.join(f'{name} {length}' for name, length in lengths.items())}")


def _check(outcome: Numbers, **arrays: Names) -> None:
    _same_length(outcome=outcome, **arrays)
    strange = outcome[~np.isin(outcome, (0.0, 0.5, 1.0))]
    if len(strange):
        raise ValueError(f"an outcome is 1 (left), 0 (right) or 0.5 (tie), not {strange[0]:g}")
