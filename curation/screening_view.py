"""What filters found, as tables for the filters page."""

import json

import pandas as pd

from curation.filters.registry import FILTERS
from curation.review import share
from curation.store.pairs import RowView
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


def strengths(workspace: Workspace, dataset: str) -> pd.DataFrame:
    """Preference strength of every pair that `contested` judged: pair_id, subset, mean, sd, against, votes."""
    rows = [{"pair_id": pair_id, **json.loads(detail)} for pair_id, detail in workspace.flags.details(dataset, "contested")]
    table = pd.DataFrame(rows, columns=["pair_id", "subset", "mean", "sd", "against", "votes"])
    places = {name: place for place, name in enumerate(workspace.pairs.subsets(dataset))}
    return table.sort_values("subset", key=lambda names: names.map(places), kind="stable", ignore_index=True)


def strength_in_words(table: pd.DataFrame) -> pd.DataFrame:
    """Each subset's strengths in a line: pairs, how many labels the votes go with, mean and spread."""
    lines = []
    for subset, some in table.groupby("subset", sort=False):
        agreed = int((some["mean"] > 0).sum())
        spread = f"{some['mean'].mean():+.2f}, sd {some['mean'].std():.2f}" if len(some) > 1 else "none yet"
        lines.append({"subset": subset or "(no subset)", "labels agreed with": share(agreed, len(some)), "strength": spread})
    return pd.DataFrame(lines)


def tail(
    workspace: Workspace, dataset: str, table: pd.DataFrame, *, subset: str, against: bool, limit: int = 20
) -> list[tuple[RowView, dict[str, object]]]:
    """The pairs of a subset with the strongest votes against their label, or for it: each row with its strength."""
    some = table[table["subset"] == subset].sort_values(["mean", "pair_id"], ascending=[against, True]).head(limit)
    rows: dict[str, RowView] = {}
    for row in workspace.pairs.page(dataset, limit=10_000, pairs=some["pair_id"].tolist()):
        rows.setdefault(row.pair_id, row)
    return [
        (
            rows[one["pair_id"]],
            {"strength": one["mean"], "sd": one["sd"], "votes against": f"{one['against']:g} of {one['votes']}"},
        )
        for one in some.to_dict("records")
        if one["pair_id"] in rows
    ]
