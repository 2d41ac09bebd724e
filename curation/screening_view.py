"""What filters found, as tables for the filters page."""

import pandas as pd

from curation.filters.registry import FILTERS
from curation.review import share
from curation.workspace import Workspace


def counts(workspace: Workspace, dataset: str) -> pd.DataFrame:
    """Flagged pairs by filter and subset: filter, subset, pairs, of (the subset's distinct pairs)."""
    table = pd.DataFrame(workspace.flags.counts(dataset), columns=["filter", "subset", "pairs", "of"])
    places = {name: place for place, name in enumerate(FILTERS)}
    return table.sort_values("filter", key=lambda names: names.map(places), kind="stable", ignore_index=True)


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """The same counts in words, each share with its n and 95% interval."""
    words = [share(pairs, of) for pairs, of in zip(table["pairs"].tolist(), table["of"].tolist(), strict=True)]
    return table[["filter", "subset"]].assign(flagged=words)


def overlap(workspace: Workspace, dataset: str) -> pd.DataFrame:
    """Pairs that two filters both flag, filters by filters."""
    found = pd.DataFrame(workspace.flags.overlap(dataset), columns=["one", "other", "pairs"])
    names = [name for name in FILTERS if name in set(found["one"])]
    table = found.pivot(index="one", columns="other", values="pairs").reindex(index=names, columns=names)
    return table.fillna(0).astype(int)
