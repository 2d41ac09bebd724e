"""Store of screenings and flags: what each filter of each run found; what holds now is a dataset's latest of each filter."""

from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from curation.store.database import Database


class Screening(NamedTuple):
    """What one filter did in one run. `screened` and `flagged` count distinct pairs; `parameters` is JSON.

    `threshold` is the score from which a finding is a flag; `read_by` the model whose readings the filter used.
    """

    run_id: str
    dataset: str
    filter: str
    version: int
    parameters: str
    screened: int
    flagged: int
    finished_at: datetime
    threshold: float = 0.0
    read_by: str = ""


class FlagStore:
    """Flags of datasets."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self.generation = 0  # rises with every screening taken in, so that queues know they are out of date

    def add(self, screenings: list[Screening], flags: Path | None) -> None:
        """Take in a run's screenings and its Parquet file of findings, all at once; a filter of the run that was taken
        in before is left alone."""
        with self._db.transaction() as cursor:
            sql = "SELECT filter FROM screenings WHERE run_id = ?"
            known = {name for (name,) in cursor.execute(sql, [screenings[0].run_id]).fetchall()} if screenings else set()
            new = [one for one in screenings if one.filter not in known]
            if not new:
                return
            for screening in new:
                cursor.execute("INSERT INTO screenings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", list(screening))
            if flags is not None:
                if not flags.is_file():
                    raise ValueError(f"no file {str(flags)!r} with the run's flags")
                cursor.execute(
                    """
                    INSERT INTO all_flags BY NAME
                    SELECT $run AS run_id, * FROM read_parquet($file) WHERE list_contains($filters, filter)
                    """,
                    {"run": screenings[0].run_id, "file": str(flags), "filters": [one.filter for one in new]},
                )
        self.generation += 1

    def set_threshold(self, dataset: str, filter: str, threshold: float, person: str, at: datetime) -> None:
        """From now on a finding of this filter is a flag from this score on; what it was is kept.

        Raises ValueError for a filter that has not screened the dataset and for a threshold outside 0..1.
        """
        current = {one.filter: one for one in self.current(dataset)}
        if filter not in current:
            raise ValueError(f"filter {filter!r} has not screened {dataset!r}: there is {', '.join(current) or 'none yet'}")
        if not 0 <= threshold <= 1:
            raise ValueError(f"the threshold {threshold} of {filter}: expected 0 to 1")
        with self._db.transaction() as cursor:
            values = [current[filter].run_id, filter, threshold, person, at]
            cursor.execute("INSERT INTO threshold_events VALUES (?, ?, ?, ?, ?)", values)
        self.generation += 1

    def taken_in(self) -> dict[str, set[str]]:
        """The runs whose output is stored, each with the filters that are."""
        runs: dict[str, set[str]] = {}
        for run_id, name in self._db.rows("SELECT run_id, filter FROM screenings"):
            runs.setdefault(run_id, set()).add(name)
        return runs

    def current(self, dataset: str) -> list[Screening]:
        """The latest screening of each filter, flagged pairs counted at the threshold that holds now."""
        sql = """
            SELECT s.* REPLACE (
                CAST((SELECT count(DISTINCT f.pair_id) FROM all_flags AS f
                 WHERE f.run_id = s.run_id AND f.filter = s.filter AND f.score >= s.threshold) AS INTEGER) AS flagged)
            FROM current_screenings AS s WHERE s.dataset = $1 ORDER BY s.filter
        """
        return [Screening(*row) for row in self._db.rows(sql, [dataset])]

    def findings(self, dataset: str) -> list[tuple[str, str, float]]:
        """Of each filter and pair the highest score, flags and what stays below the threshold: filter, pair, score."""
        sql = "SELECT filter, pair_id, max(score) FROM findings WHERE dataset = $1 GROUP BY ALL ORDER BY ALL"
        return self._db.rows(sql, [dataset])

    def kept_below(self, dataset: str) -> dict[str, int]:
        """For each filter how many pairs it found below its threshold only; filters without any are left out."""
        sql = """
            SELECT filter, count(*) FROM (
                SELECT filter, pair_id FROM findings WHERE dataset = $1 GROUP BY ALL HAVING NOT bool_or(flagged))
            GROUP BY filter ORDER BY filter
        """
        return dict(self._db.rows(sql, [dataset]))

    def of_pair(self, dataset: str, pair_id: str) -> list[dict[str, Any]]:
        """The flags on one pair: filter, side, score, reason, detail; the highest score first."""
        sql = """
            SELECT filter, side, score, reason, detail FROM flags WHERE dataset = $1 AND pair_id = $2
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

    def details(self, dataset: str, filter: str) -> list[tuple[str, str]]:
        """What a filter's findings hold beyond score and reason, flags or not: pair and JSON."""
        sql = "SELECT pair_id, detail FROM findings WHERE dataset = $1 AND filter = $2 AND detail <> '' ORDER BY pair_id"
        return self._db.rows(sql, [dataset, filter])

    def examples(
        self, dataset: str, filter: str, *, seed: str = "", limit: int = 5, flagged: bool = True
    ) -> list[dict[str, Any]]:
        """Some flags of a filter, or findings below its threshold, drawn at random but alike for one seed."""
        sql = """
            SELECT pair_id, side, score, reason FROM findings WHERE dataset = $1 AND filter = $2 AND flagged = $5
            ORDER BY md5(pair_id || side || $3) LIMIT $4
        """
        return self._db.records(sql, [dataset, filter, seed, limit, flagged])

    def export(self, dataset: str) -> list[dict[str, Any]]:
        """Every flag with all 0-based positions of its pair: pair_id, rows, subset, filter, side, score, reason, detail."""
        return self._db.records(
            """
            SELECT f.pair_id, list(r."row" ORDER BY r."row") AS rows, arg_min(r.subset, r."row") AS subset,
                   f.filter, f.side, f.score, f.reason, f.detail
            FROM flags AS f JOIN dataset_rows AS r ON r.dataset = f.dataset AND r.pair_id = f.pair_id
            WHERE f.dataset = $1
            GROUP BY ALL ORDER BY min(r."row"), f.filter, f.side
            """,
            [dataset],
        )
