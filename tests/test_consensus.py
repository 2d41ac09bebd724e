"""One value from several raters: majority, mean, Dawid and Skene's model."""

import sys

import numpy as np
import pandas as pd
import pytest

from curation.stats.consensus import NotInstalled, dawid_skene, majority, mean

nan = np.nan
pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # of crowd-kit 1.4


def crowd(good: int, careless: int, *, items=200, seed=0) -> tuple[np.ndarray, np.ndarray]:
    """The true labels 0 to 2 of items, and the ratings of raters right 9 times in 10 and of others who say anything."""
    rng = np.random.default_rng(seed)
    true = rng.integers(3, size=items).astype(float)
    right = np.concatenate([np.full(good, 0.85), np.zeros(careless)])
    anything = rng.integers(3, size=(items, good + careless))
    return true, np.where(rng.random(anything.shape) < right, true[:, None], anything).astype(float)


def test_the_majority_is_the_most_frequent_value_and_a_tie_is_none():
    values = np.array([[2, 2, 7], [7, 2, nan], [nan, nan, 5], [nan, nan, nan], [1, 2, 7]])
    np.testing.assert_array_equal(majority(values), [2, nan, 5, nan, nan])
    np.testing.assert_array_equal(majority(np.full((2, 3), nan)), [nan, nan])


def test_the_majority_of_real_ratings_is_that_of_pandas(data):
    ratings = pd.read_csv(data / "ratings" / "dices350.csv.gz")
    ratings["value"] = ratings["value"].map({"No": 0.0, "Unsure": 1.0, "Yes": 2.0})
    values = ratings.pivot(index="item_id", columns="rater", values="value")  # raises where a rater judged an item twice
    modes = values.mode(axis=1)
    expected = modes[0].where(modes.notna().sum(axis=1) == 1)
    np.testing.assert_array_equal(majority(values.to_numpy()), expected.to_numpy())
    np.testing.assert_allclose(mean(values.to_numpy()), values.mean(axis=1).to_numpy())


def test_the_mean_passes_over_what_is_missing():
    np.testing.assert_array_equal(mean(np.array([[1, 2, nan], [nan, nan, nan], [0, 0, 3]])), [1.5, nan, 1])


def test_dawid_skene_finds_the_truth_behind_careless_raters_better_than_the_majority():
    pytest.importorskip("crowdkit")
    true, values = crowd(good=3, careless=4)
    values[np.random.default_rng(1).random(values.shape) < 0.1] = nan
    modelled, voted = np.mean(dawid_skene(values).label == true), np.mean(majority(values) == true)
    assert modelled > 0.93
    assert modelled > voted + 0.1


def test_dawid_skene_undoes_an_error_made_always():
    pytest.importorskip("crowdkit")
    true, values = crowd(good=3, careless=0, items=600, seed=2)
    values[:, 2] = (values[:, 2] + 1) % 3  # the last rater means another label by every label
    result = dawid_skene(values)
    assert np.mean(result.label == true) > 0.95
    assert np.mean(majority(values) == true) < 0.9
    assert (result.probability > 1 / 3).all()
    assert (result.probability <= 1).all()


def test_dawid_skene_leaves_an_item_without_ratings_without_a_label():
    pytest.importorskip("crowdkit")
    values = crowd(good=3, careless=0, items=20)[1]
    values[[0, 7]] = nan
    result = dawid_skene(values)
    assert np.flatnonzero(np.isnan(result.label)).tolist() == [0, 7]
    assert np.flatnonzero(np.isnan(result.probability)).tolist() == [0, 7]
    assert np.isnan(dawid_skene(np.full((3, 2), nan)).label).all()


def test_without_crowd_kit_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "crowdkit.aggregation", None)  # what Python itself does for a package that is not there
    with pytest.raises(NotInstalled, match=r"pip install 'elephant-room\[consensus\]'"):
        dawid_skene(np.ones((2, 2)))
