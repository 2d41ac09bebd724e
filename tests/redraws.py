"""The bootstrap done the plain way, for tests to compare with: whole groups drawn, their rows really copied."""

from collections.abc import Callable

import numpy as np

from curation.stats.figures import Figure, estimated


def redraws(groups: np.ndarray, *, resamples: int = 40, seed: int = 3) -> list[tuple[np.ndarray, np.ndarray]]:
    """The sample itself and so many redraws of it: the rows, and the group of each, where every copy is a group of its own."""
    names = np.unique(groups)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    return [_copied(groups, names, times) for times in (np.ones(len(names), int), *drawn)]


def _copied(groups: np.ndarray, names: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    members = [np.flatnonzero(groups == name) for name in np.repeat(names, times)]
    return np.concatenate(members), np.repeat(np.arange(len(members)), [len(rows) for rows in members])


def by_copying(
    statistic: Callable[[np.ndarray, np.ndarray], float], groups: np.ndarray, of: str, *,
    resamples: int = 40, n: int | None = None,
) -> Figure:  # fmt: skip
    """The Figure that comes of it; `statistic` is given the rows of a redraw and their groups."""
    results = [statistic(rows, copies) for rows, copies in redraws(groups, resamples=resamples)]
    return estimated(np.array(results), len(groups) if n is None else n, of, "", units=len(np.unique(groups)))
