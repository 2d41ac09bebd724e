"""Store of releases: which were made and what their manifests say, and what a release reads of the other tables."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Literal, NamedTuple

from curation.store.database import Database

Order = Literal["row", "split", "file"]

_ORDERS: dict[Order, str] = {"row": 'r."row"', "split": 'r.split, r."row"', "file": 'r.subset, r.split, r."row"'}


class Release(NamedTuple):
    """A frozen release. `folder` is a path as seen from the workspace; `manifest` is the JSON that stands in it."""

    name: str
    dataset: str
    folder: str
    manifest: str
    released_at: datetime


class ReleaseStore:
    """Releases of datasets."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, release: Release, pseudonyms: Mapping[str, str] | None = None) -> None:
        """Record a release, whose name must be new, and the pseudonyms it gave, in one transaction."""
        with self._db.transaction() as cursor:
            cursor.execute("INSERT INTO releases VALUES (?, ?, ?, ?, ?)", list(release))
            for person, pseudonym in (pseudonyms or {}).items():
                cursor.execute("INSERT INTO pseudonyms VALUES (?, ?)", [person, pseudonym])

    def all(self, dataset: str | None = None) -> list[Release]:
        """The releases, the oldest first."""
        sql = "SELECT * FROM releases WHERE $1 IS NULL OR dataset = $1 ORDER BY released_at, name"
        return [Release(*row) for row in self._db.rows(sql, [dataset])]

    def pairs_in(self, release: Release) -> int:
        """How many distinct pairs a release holds, as its manifest counts them."""
        pairs = json.loads(release.manifest)["counts"]["pairs"]
        return int(pairs["kept"] + pairs["swapped"])

    def pseudonyms(self) -> dict[str, str]:
        """The pseudonym of everyone whose events are in a release."""
        return dict(self._db.rows("SELECT person, pseudonym FROM pseudonyms ORDER BY person"))

    def pseudonyms_for(self, people: Iterable[str], kind: str) -> dict[str, str]:
        """The pseudonyms of these people; who has none yet is given one: rater-1, rater-2, ... in this order, and keeps it."""
        wanted = list(dict.fromkeys(people))
        with self._db.transaction() as cursor:
            known = dict(cursor.execute("SELECT person, pseudonym FROM pseudonyms").fetchall())
            for person in wanted:
                if person not in known:
                    taken = set(known.values())
                    number = next(one for one in count(1) if f"{kind}-{one}" not in taken)
                    known[person] = f"{kind}-{number}"
                    cursor.execute("INSERT INTO pseudonyms VALUES (?, ?)", [person, known[person]])
        return {person: known[person] for person in wanted}

    def filters_of_pairs(self, dataset: str) -> dict[str, tuple[str, ...]]:
        """For each flagged pair the filters that flag it, by name."""
        sql = "SELECT pair_id, list(DISTINCT filter ORDER BY filter) FROM flags WHERE dataset = $1 GROUP BY pair_id"
        return {pair_id: tuple(filters) for pair_id, filters in self._db.rows(sql, [dataset])}

    def export_rows(self, dataset: str, path: Path, *, order: Order, only: list[int] | None = None) -> None:
        """Write rows, each with its pair, as `curation.interchange` reads them: there `rows` holds the one row.

        They come by row, by split and row, or by file (subset and split) and row; `only` names the rows wanted.
        """
        self._db.copy(
            f"""
            COPY (
                SELECT p.pair_id, p.prompt_id, p.chosen_id, p.rejected_id, [r."row"] AS rows, r.subset,
                       q.turns,
                       c.text AS chosen_text, c.lead AS chosen_lead, j.text AS rejected_text, j.lead AS rejected_lead
                FROM dataset_rows AS r
                JOIN pairs AS p ON p.pair_id = r.pair_id
                JOIN prompts AS q ON q.prompt_id = p.prompt_id
                JOIN responses AS c ON c.response_id = p.chosen_id
                JOIN responses AS j ON j.response_id = p.rejected_id
                WHERE r.dataset = $dataset AND ($only IS NULL OR r."row" IN (SELECT unnest($only)))
                ORDER BY {_ORDERS[order]}
            ) TO $path (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 10000)
            """,
            {"dataset": dataset, "path": str(path), "only": only},
        )
