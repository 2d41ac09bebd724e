"""Store of screenings and flags: what each filter of each run found; what holds now is a dataset's latest of each filter."""

from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from curation.store.database import Database


class Screening(NamedTuple):
    """What one filter did in one run. `screened` and `flagged` count distinct pairs; `parameters` is JSON."""

    run_id: str
    dataset: str
    filter: str
    version: int
    parameters: str
    screened: int
    flagged: int
    finished_at: datetime


class FlagStore:
    """Flags of datasets."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self.generation = 0  # rises with every screening taken in, so that queues know they are out of date

    def add(self, screenings: list[Screening], flags: Path | None) -> None:
        """Take in a run's screenings and its Parquet file of flags, all at once; a run taken in before is left alone."""
        with self._db.transaction() as cursor:
            known = cursor.execute("SELECT 1 FROM screenings WHERE run_id = ?", [screenings[0].run_id]).fetchall()
            if known:
                return
            for screening in screenings:
                cursor.execute("INSERT INTO screenings VALUES (?, ?, ?, ?, ?, ?, ?, ?)", list(screening))
            if flags is not None:
                if not flags.is_file():
                    raise ValueError(f"no file {str(flags)!r} with the run's flags")
                cursor.execute(
                    "INSERT INTO all_flags SELECT $run, pair_id, filter, side, score, reason FROM read_parquet($file)",
                    {"run": screenings[0].run_id, "file": str(flags)},
                )
        self.generation += 1

    def taken_in(self) -> set[str]:
        """The runs whose output is stored."""
        return {run_id for (run_id,) in self._db.rows("SELECT DISTINCT run_id FROM screenings")}

    def current(self, dataset: str) -> list[Screening]:
        """The latest screening of each filter."""
        sql = "SELECT * FROM current_screenings WHERE dataset = $1 ORDER BY filter"
        return [Screening(*row) for row in self._db.rows(sql, [dataset])]

    def of_pair(self, dataset: str, pair_id: str) -> list[dict[str, Any]]:
        """The flags on one pair: filter, side, score, reason; the highest score first."""
        sql = """
            SELECT filter, side, score, reason FROM flags WHERE dataset = $1 AND pair_id = $2
            ORDER BY score DESC, filter, side
        """
        return self._db.records(sql, [dataset, pair_id])

    def counts(self, dataset: str) -> list[dict[str, Any]]:
        """Flagged distinct pairs for each filter and subset, with the subset's distinct pairs as `of`."""
        return self._db.records(
            """
            WITH members AS (SELECT DISTINCT subset, pair_id FROM dataset_rows WHERE dataset = $1),
                 sizes AS (SELECT subset, count(*) AS "of" FROM members GROUP BY subset)
            SELECT s.filter, z.subset, count(DISTINCT f.pair_id) AS pairs, z."of"
            FROM current_screenings AS s CROSS JOIN sizes AS z
            LEFT JOIN (flags AS f JOIN members AS m ON m.pair_id = f.pair_id)
                ON f.dataset = s.dataset AND f.filter = s.filter AND m.subset = z.subset
            WHERE s.dataset = $1
            GROUP BY ALL ORDER BY s.filter, z.subset
            """,
            [dataset],
        )

    def overlap(self, dataset: str) -> list[tuple[str, str, int]]:
        """For each two filters, how many distinct pairs both flag; a filter with itself gives its own count."""
        return self._db.rows(
            """
            WITH once AS (SELECT DISTINCT filter, pair_id FROM flags WHERE dataset = $1)
            SELECT a.filter, b.filter, count(*) FROM once AS a JOIN once AS b ON a.pair_id = b.pair_id
            GROUP BY ALL ORDER BY ALL
            """,
            [dataset],
        )

    def flagged(self, dataset: str) -> int:
        """How many distinct pairs carry a flag."""
        return int(self._db.rows("SELECT count(DISTINCT pair_id) FROM flags WHERE dataset = $1", [dataset])[0][0])

    def scores(self, dataset: str, filter: str) -> list[float]:
        """The highest score of each pair a filter flags."""
        sql = "SELECT max(score) FROM flags WHERE dataset = $1 AND filter = $2 GROUP BY pair_id ORDER BY pair_id"
        return [score for (score,) in self._db.rows(sql, [dataset, filter])]

    def examples(self, dataset: str, filter: str, *, seed: str = "", limit: int = 5) -> list[dict[str, Any]]:
        """Some flags of a filter, drawn at random but alike for one seed."""
        sql = """
            SELECT pair_id, side, score, reason FROM flags WHERE dataset = $1 AND filter = $2
            ORDER BY md5(pair_id || side || $3) LIMIT $4
        """
        return self._db.records(sql, [dataset, filter, seed, limit])

    def export(self, dataset: str) -> list[dict[str, Any]]:
        """Every flag with all 0-based positions of its pair: pair_id, rows, subset, filter, side, score, reason."""
        return self._db.records(
            """
            SELECT f.pair_id, list(r."row" ORDER BY r."row") AS rows, arg_min(r.subset, r."row") AS subset,
                   f.filter, f.side, f.score, f.reason
            FROM flags AS f JOIN dataset_rows AS r ON r.dataset = f.dataset AND r.pair_id = f.pair_id
            WHERE f.dataset = $1
            GROUP BY ALL ORDER BY min(r."row"), f.filter, f.side
            """,
            [dataset],
        )
