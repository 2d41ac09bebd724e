"""Store of datasets: prompts, responses and pairs by content, and every dataset's rows in order."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from curation.pairs import Pair, Response, unpacked
from curation.store.database import Database

_AT_HAND = 2000  # pairs kept in memory
_KEYS = {"prompts": "prompt_id", "responses": "response_id", "pairs": "pair_id"}
STAGED = ("prompts", "responses", "pairs", "dataset_rows", "rejects")


class Dataset(NamedTuple):
    """An imported dataset. `imported` and `rejected` count rows; `content_hash` names their content and order."""

    dataset: str
    source: str
    content_hash: str
    imported: int
    rejected: int
    imported_at: datetime


class RowView(NamedTuple):
    """One row of a dataset as a list shows it."""

    row: int
    pair_id: str
    subset: str
    split: str
    filters: list[str]
    verdicts: list[str]
    asked: str
    chosen: str
    rejected: str


_WHERE = """
    FROM dataset_rows AS r
    JOIN pairs AS p ON p.pair_id = r.pair_id
    JOIN prompts AS q ON q.prompt_id = p.prompt_id
    JOIN responses AS c ON c.response_id = p.chosen_id
    JOIN responses AS j ON j.response_id = p.rejected_id
    WHERE r.dataset = $dataset
      AND ($subset IS NULL OR r.subset = $subset)
      AND ($filter IS NULL OR r.pair_id IN (
          SELECT f.pair_id FROM flags AS f WHERE f.dataset = $dataset AND f.filter = $filter))
      AND ($verdict IS NULL OR r.pair_id IN (SELECT v.pair_id FROM verdicts AS v WHERE v.verdict = $verdict))
      AND ($text IS NULL OR contains(lower(c.text), $text) OR contains(lower(j.text), $text)
          OR (contains(lower(q.turns), $quoted)  -- most rows end here; then roles and markers are told from contents
              AND len(list_filter(from_json(q.turns, '[["VARCHAR"]]'), lambda t: contains(lower(t[2]), $text))) > 0)
          OR r.pair_id = $text)
      AND ($pairs IS NULL OR list_contains($pairs, r.pair_id))
"""


class PairStore:
    """Datasets and the pairs in them."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._read: dict[str, Pair] = {}
        self._reading = Lock()

    def add(self, dataset: Dataset, staged: Path) -> None:
        """Take in the Parquet files of `staged`, named as STAGED says, in one transaction: all rows or none.

        Each file holds the columns of its table in order; content that is already stored is left alone.
        """
        with self._db.transaction() as cursor:
            if cursor.execute("SELECT 1 FROM datasets WHERE dataset = ?", [dataset.dataset]).fetchall():
                raise ValueError(f"a dataset {dataset.dataset!r} was imported meanwhile: give this one another name")
            cursor.execute("INSERT INTO datasets VALUES (?, ?, ?, ?, ?, ?)", list(dataset))
            for table in STAGED:
                file = staged / f"{table}.parquet"
                if file.exists():  # table and key are constants of ours, the path is bound; faster than ON CONFLICT
                    new = f"ANTI JOIN {table} AS known USING ({_KEYS[table]})" if table in _KEYS else ""
                    cursor.execute(f"INSERT INTO {table} SELECT * FROM read_parquet($1) AS staged {new}", [str(file)])

    def put(self, pair: Pair) -> None:
        """Store one pair's content without a place in any dataset."""
        with self._db.transaction() as cursor:
            once = "ON CONFLICT DO NOTHING"
            cursor.execute(f"INSERT INTO prompts VALUES (?, ?) {once}", [pair.prompt_id, pair.packed_prompt])
            for response_id, response in ((pair.chosen_id, pair.chosen), (pair.rejected_id, pair.rejected)):
                values = [response_id, pair.prompt_id, response.text, response.lead]
                cursor.execute(f"INSERT INTO responses VALUES (?, ?, ?, ?) {once}", values)
            values = [pair.pair_id, pair.prompt_id, pair.chosen_id, pair.rejected_id]
            cursor.execute(f"INSERT INTO pairs VALUES (?, ?, ?, ?) {once}", values)

    def datasets(self) -> list[Dataset]:
        """All datasets, the oldest first."""
        return [Dataset(*row) for row in self._db.rows("SELECT * FROM datasets ORDER BY imported_at, dataset")]

    def dataset(self, name: str) -> Dataset:
        """The dataset of this name. Raises ValueError that lists the names there are."""
        known = {one.dataset: one for one in self.datasets()}
        if name not in known:
            raise ValueError(f"no dataset {name!r}: there is {', '.join(known) or 'none yet, import one first'}")
        return known[name]

    def subsets(self, dataset: str) -> dict[str, int]:
        """Rows in each subset, in the order they first appear."""
        sql = 'SELECT subset, count(*) FROM dataset_rows WHERE dataset = $1 GROUP BY subset ORDER BY min("row")'
        return dict(self._db.rows(sql, [dataset]))

    def rejects(self, dataset: str, *, limit: int = 1000) -> list[dict[str, Any]]:
        """Rows that could not be read: file, line, reason, and the beginning of the text."""
        sql = "SELECT file, line, reason, text FROM rejects WHERE dataset = $1 ORDER BY file, line LIMIT $2"
        return self._db.records(sql, [dataset, limit])

    def pair(self, pair_id: str) -> Pair:
        """The pair of this id, its content alone: where it stands, `positions` says. ValueError when there is none."""
        self.read_ahead(pair_id, list)
        found = self._read.get(pair_id)
        if found is None:
            raise ValueError(f"no pair {pair_id!r}: expected the 32 hex digits of a pair that was imported")
        return found

    def many(self, pair_ids: list[str]) -> list[Pair]:
        """These pairs, in this order; unknown ones are left out."""
        found: dict[str, Pair] = {}
        for start in range(0, len(pair_ids), 1000):
            found |= {pair.pair_id: pair for pair in self._pairs(pair_ids[start : start + 1000])}
        return [found[one] for one in pair_ids if one in found]

    def sizes(self, dataset: str) -> list[tuple[str, str, int, int, bool]]:
        """Every pair of a dataset in the order of its first row: id, subset, characters of each side, whether they differ.

        White space around a text does not count.
        """
        return self._db.rows(
            r"""
            WITH once AS (
                SELECT pair_id, arg_min(subset, "row") AS subset, min("row") AS first_row
                FROM dataset_rows WHERE dataset = $1 GROUP BY pair_id
            ), sides AS (
                SELECT o.*, trim(c.text, E' \n\r\t') AS chosen, trim(j.text, E' \n\r\t') AS rejected
                FROM once AS o
                JOIN pairs AS p ON p.pair_id = o.pair_id
                JOIN responses AS c ON c.response_id = p.chosen_id
                JOIN responses AS j ON j.response_id = p.rejected_id
            )
            SELECT pair_id, subset, length(chosen), length(rejected), chosen <> rejected FROM sides ORDER BY first_row
            """,
            [dataset],
        )

    def sides(self, dataset: str) -> list[tuple[str, str, str, str]]:
        """Every pair of a dataset in the order of its first row: the ids of pair, prompt, chosen, rejected."""
        return self._db.rows(
            """
            SELECT p.pair_id, p.prompt_id, p.chosen_id, p.rejected_id
            FROM dataset_rows AS r JOIN pairs AS p ON p.pair_id = r.pair_id
            WHERE r.dataset = $1 GROUP BY ALL ORDER BY min(r."row")
            """,
            [dataset],
        )

    def several(self, dataset: str) -> bool:
        """Whether any prompt of a dataset has more than two responses."""
        return bool(
            self._db.rows(
                """
                WITH sides AS (
                    SELECT p.prompt_id, unnest([p.chosen_id, p.rejected_id]) AS response_id
                    FROM dataset_rows AS r JOIN pairs AS p ON p.pair_id = r.pair_id WHERE r.dataset = $1
                )
                SELECT prompt_id FROM sides GROUP BY prompt_id HAVING count(DISTINCT response_id) > 2 LIMIT 1
                """,
                [dataset],
            )
        )

    def records_in_order(self, dataset: str) -> list[tuple[str, int, str, str | None, str, str]]:
        """Every row with the record it was read from: file, line, subset, extra columns (JSON), ids of chosen and rejected."""
        return self._db.rows(
            """
            SELECT r.file, r.line, r.subset, r.extra, p.chosen_id, p.rejected_id
            FROM dataset_rows AS r JOIN pairs AS p ON p.pair_id = r.pair_id WHERE r.dataset = $1 ORDER BY r."row"
            """,
            [dataset],
        )

    def read_ahead(self, pair_id: str, others: Callable[[], list[str]]) -> None:
        """Have a pair at hand, and when it must be read, these others too. Content never changes, so it can be kept."""
        if pair_id in self._read:
            return
        with self._reading:  # people who work side by side want the same pairs: one of them reads for all
            if pair_id in self._read:
                return
            known = self._read if len(self._read) < _AT_HAND else {}
            wanted = dict.fromkeys([pair_id, *(one for one in others() if one not in known)])
            self._read = known | {pair.pair_id: pair for pair in self._pairs(list(wanted))}

    def _pairs(self, pair_ids: list[str]) -> list[Pair]:
        """These pairs, found by their keys: joins would look at every row."""
        places = self._by_key("SELECT * FROM pairs WHERE pair_id IN", pair_ids)
        prompts = self._by_key("SELECT * FROM prompts WHERE prompt_id IN", [one[0] for one in places.values()])
        wanted = [response_id for _, *sides in places.values() for response_id in sides]
        responses = self._by_key("SELECT response_id, text, lead FROM responses WHERE response_id IN", wanted)
        pairs = []
        for pair_id, (prompt_id, chosen_id, rejected_id) in places.items():
            prompt = unpacked(prompts[prompt_id][0])
            sides = Response(*responses[chosen_id]), Response(*responses[rejected_id])
            pairs.append(Pair.known(prompt, *sides, pair_id, prompt_id, chosen_id, rejected_id))
        return pairs

    def _by_key(self, select: str, keys: list[str]) -> dict[str, tuple[Any, ...]]:
        keys = list(dict.fromkeys(keys))
        rows = self._db.rows(f"{select} ({', '.join('?' * len(keys))})", keys) if keys else []
        return {row[0]: row[1:] for row in rows}

    def positions(self, dataset: str, pair_id: str) -> list[tuple[int, str, str, str, int]]:
        """Where a pair stands in a dataset: row, subset, split, file, line."""
        return self._db.rows(
            'SELECT "row", subset, split, file, line FROM dataset_rows WHERE dataset = $1 AND pair_id = $2 ORDER BY "row"',
            [dataset, pair_id],
        )

    def count(self, dataset: str, **narrowed: Any) -> int:
        """How many rows `page` would list in all."""
        return int(self._db.rows(f"SELECT count(*) {_WHERE}", _narrowing(dataset, narrowed))[0][0])

    def page(self, dataset: str, *, offset: int = 0, limit: int = 20, **narrowed: Any) -> list[RowView]:
        """Some rows in order, narrowed by `subset`, `filter`, `verdict`, `text` (found in any turn, any case) and `pairs`
        (a list of pair ids)."""
        rows = self._db.rows(
            f"""
            WITH found AS (
                SELECT r."row", r.pair_id, r.subset, r.split, json_extract_string(q.turns, '$[#-1][1]') AS asked,
                       c.text AS chosen, j.text AS rejected
                {_WHERE}
                ORDER BY r."row" LIMIT $limit OFFSET $offset
            )
            SELECT "row", pair_id, subset, split,
                   (SELECT list(DISTINCT f.filter ORDER BY f.filter) FROM flags AS f
                    WHERE f.dataset = $dataset AND f.pair_id = found.pair_id),
                   (SELECT list(v.verdict ORDER BY v.decided_at) FROM verdicts AS v WHERE v.pair_id = found.pair_id),
                   asked, chosen, rejected
            FROM found ORDER BY "row"
            """,
            {**_narrowing(dataset, narrowed), "limit": limit, "offset": offset},
        )
        return [
            RowView(row, pair_id, subset, split, filters or [], verdicts or [], asked or "", chosen, rejected)
            for row, pair_id, subset, split, filters, verdicts, asked, chosen, rejected in rows
        ]

    def export(self, dataset: str, path: Path) -> None:
        """Write every distinct pair of a dataset, in the order of its first row, as `curation.interchange` reads it."""
        self._db.copy(
            """
            COPY (
                WITH once AS (
                    SELECT pair_id, list("row" ORDER BY "row") AS rows, arg_min(subset, "row") AS subset,
                           min("row") AS first_row
                    FROM dataset_rows WHERE dataset = $dataset GROUP BY pair_id
                )
                SELECT p.pair_id, p.prompt_id, p.chosen_id, p.rejected_id, o.rows, o.subset,
                       q.turns, c.text AS chosen_text, c.lead AS chosen_lead, j.text AS rejected_text, j.lead AS rejected_lead
                FROM once AS o
                JOIN pairs AS p ON p.pair_id = o.pair_id
                JOIN prompts AS q ON q.prompt_id = p.prompt_id
                JOIN responses AS c ON c.response_id = p.chosen_id
                JOIN responses AS j ON j.response_id = p.rejected_id
                ORDER BY o.first_row
            ) TO $path (FORMAT parquet, COMPRESSION zstd)
            """,
            {"dataset": dataset, "path": str(path)},
        )

    def datasets_of_pairs(self) -> dict[str, str]:
        """Every pair that stands in a dataset, with the first of its datasets by name."""
        return dict(self._db.rows("SELECT pair_id, min(dataset) FROM dataset_rows GROUP BY pair_id"))

    def rows_in_order(self, dataset: str) -> list[tuple[int, str, str, str]]:
        """Every row: number, pair, subset, split."""
        sql = 'SELECT "row", pair_id, subset, split FROM dataset_rows WHERE dataset = $1 ORDER BY "row"'
        return self._db.rows(sql, [dataset])


def _narrowing(dataset: str, narrowed: dict[str, Any]) -> dict[str, Any]:
    text = (narrowed.get("text") or "").strip().lower() or None
    chosen = {name: narrowed.get(name) or None for name in ("subset", "filter", "verdict")}
    unknown: Sequence[str] = sorted(set(narrowed) - {"text", "pairs", *chosen})
    if unknown:
        raise TypeError(f"cannot narrow by {unknown}")
    quoted = None if text is None else json.dumps(text, ensure_ascii=False)[1:-1]
    return {"dataset": dataset, "text": text, "quoted": quoted, "pairs": narrowed.get("pairs"), **chosen}
