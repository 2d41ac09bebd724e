"""What filters found, as tables for the filters page."""

import pandas as pd

from curation.review import share
from curation.workspace import Workspace


def counts(workspace: Workspace, dataset: str) -> pd.DataFrame:
    """Flagged pairs by filter and subset: filter, subset, pairs, of (the subset's distinct pairs)."""
    return pd.DataFrame(workspace.flags.counts(dataset), columns=["filter", "subset", "pairs", "of"])


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """The same counts in words, each share with its n and 95% interval."""
    words = [share(pairs, of) for pairs, of in zip(table["pairs"].tolist(), table["of"].tolist(), strict=True)]
    return table[["filter", "subset"]].assign(flagged=words)


def overlap(workspace: Workspace, dataset: str) -> pd.DataFrame:
    """Pairs that two filters both flag, filters by filters."""
    found = pd.DataFrame(workspace.flags.overlap(dataset), columns=["one", "other", "pairs"])
    return found.pivot(index="one", columns="other", values="pairs").fillna(0).astype(int)
