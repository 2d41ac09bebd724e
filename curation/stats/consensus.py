"""One value for each item from what several raters said of it.

`values` is (items, raters), NaN where a rater did not rate an item; the result has one entry an item, NaN for none.
"""

from typing import NamedTuple

import numpy as np

from curation.stats.accuracy import Numbers


class NotInstalled(ImportError):
    """An optional part is missing; the message says how to install it."""


class Consensus(NamedTuple):
    """The label of each item, and how probable the model holds it to be."""

    label: Numbers
    probability: Numbers


def majority(values: Numbers) -> Numbers:
    """The most frequent value of each item; NaN on a tie, which is no majority, and where nobody rated."""
    scale = np.unique(values[~np.isnan(values)])
    if not len(scale):
        return np.full(len(values), np.nan)
    counts = np.stack([(values == value).sum(axis=1) for value in scale], axis=1)
    most = counts.max(axis=1, keepdims=True)
    alone = ((counts == most).sum(axis=1) == 1) & (most[:, 0] > 0)
    return np.where(alone, scale[counts.argmax(axis=1)], np.nan)


def mean(values: Numbers) -> Numbers:
    """The mean of each item; NaN where nobody rated."""
    known = ~np.isnan(values)
    sums, ratings = np.where(known, values, 0.0).sum(axis=1), known.sum(axis=1)
    return np.asarray(np.divide(sums, ratings, out=np.full(len(values), np.nan), where=ratings > 0))


def dawid_skene(values: Numbers) -> Consensus:
    """The most probable label of each item when raters err each in their own way, by expectation maximisation.

    Dawid and Skene, Applied Statistics 28 (1979) 20, as crowd-kit computes it, starting from the majority. Raters are taken to
    err independently of one another, so the probabilities are too sure where an item misleads all of them.
    Raises NotInstalled without crowd-kit.
    """
    try:
        from crowdkit.aggregation import DawidSkene  # an optional extra
    except ImportError as missing:
        raise NotInstalled(
            "Dawid-Skene needs crowd-kit, which is not installed: pip install 'elephant-room[consensus]'"
        ) from missing
    import pandas as pd

    label, probability = np.full(len(values), np.nan), np.full(len(values), np.nan)
    items, raters = np.nonzero(~np.isnan(values))
    if len(items):
        answers = pd.DataFrame({"task": items, "worker": raters, "label": values[items, raters]})
        probable = DawidSkene().fit_predict_proba(answers)
        rows = probable.index.to_numpy()
        label[rows] = probable.columns.to_numpy()[probable.to_numpy().argmax(axis=1)]
        probability[rows] = probable.to_numpy().max(axis=1)
    return Consensus(label, probability)
