"""Store of review events: claims, verdicts, undos, drafts, gold pairs and adjudications. Only ever appended to."""

from collections.abc import Iterable
from datetime import datetime
from random import Random
from typing import Any, Literal, NamedTuple
from uuid import uuid4

from curation.store.database import Database

Shown = Literal["A", "B"]


class Claim(NamedTuple):
    """A reviewer's lease on a pair. `chosen_shown` is the side on which the chosen response is shown."""

    claim_id: str
    dataset: str
    pair_id: str
    person: str
    kind: str  # flagged, control, gold, open (any pair of the dataset), reopened
    chosen_shown: Shown
    claimed_at: datetime
    expires_at: datetime

    @property
    def scope(self) -> str:
        """The queue it is of: the dataset."""
        return self.dataset

    @property
    def item(self) -> str:
        """What is held: the pair."""
        return self.pair_id

    def renewed(self, claimed_at: datetime, expires_at: datetime) -> "Claim":
        """The same lease for another time."""
        return self._replace(claimed_at=claimed_at, expires_at=expires_at)


class Decision(NamedTuple):
    """One verdict event. `seconds` is the time from the pair being handed out to the answer, None when imported."""

    claim_id: str
    dataset: str
    pair_id: str
    person: str
    verdict: str
    kind: str
    chosen_shown: Shown | Literal[""]
    seconds: float | None
    note: str
    tags: list[str]
    decided_at: datetime

    @property
    def scope(self) -> str:
        """The queue it was made in: the dataset."""
        return self.dataset

    @property
    def item(self) -> str:
        """What was judged: the pair."""
        return self.pair_id


class Settlement(NamedTuple):
    """One adjudication event."""

    adjudication_id: str
    dataset: str
    pair_id: str
    person: str
    verdict: str
    note: str
    seconds: float | None
    settled_at: datetime


class Progress(NamedTuple):
    """Counts over distinct pairs of a dataset."""

    pairs: int
    flagged: int
    reviewed: int
    reviewed_flagged: int
    settled: int


_DECISION = "claim_id, dataset, pair_id, person, verdict, kind, chosen_shown, seconds, note, tags, decided_at"
_IN_DATASET = "pair_id IN (SELECT r.pair_id FROM dataset_rows AS r WHERE r.dataset = $dataset)"


class VerdictStore:
    """What people said, and what they are busy with."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._settings: dict[str, str | None] = {}
        self._drafted: set[tuple[str, str]] | None = None  # who has typed something for which pair
        self.gold_generation = 0  # rises with every new gold pair, so that queues know they are out of date

    # ---- settings

    def settings(self, dataset: str) -> str | None:
        """The review settings that hold, as JSON; None when they were never changed."""
        if dataset not in self._settings:  # asked for with every pair that is handed out
            sql = "SELECT settings FROM review_settings WHERE dataset = $1 ORDER BY set_at DESC, rowid DESC LIMIT 1"
            found = self._db.rows(sql, [dataset])
            self._settings[dataset] = found[0][0] if found else None
        return self._settings[dataset]

    def set_settings(self, dataset: str, settings: str, person: str, at: datetime) -> None:
        """Record new review settings."""
        self._db.append("review_settings", dataset, settings, person, at)
        self._settings.pop(dataset, None)

    # ---- claims

    def lease(
        self, dataset: str, pair_id: str, person: str, kind: str, at: datetime, ends: datetime, earlier: Decision | None = None
    ) -> Claim:
        """A claim whose sides stand in an order drawn per pair and person, or as they stood for an earlier decision."""
        shown: Shown = "A" if Random(f"{person}/{pair_id}").choice("AB") == "A" else "B"
        if earlier is not None and earlier.chosen_shown:
            shown = earlier.chosen_shown
        return Claim(new_id(), dataset, pair_id, person, kind, shown, at, ends)

    def claim(self, claim: Claim) -> None:
        """Record that a pair was handed out."""
        self._db.append("claims", *claim)

    def end(self, claim_id: str, how: Literal["skipped", "released", "expired"], at: datetime) -> None:
        """Record that a claim ended without an answer."""
        self._db.append("claim_ends", claim_id, how, at)

    def open_claims(self) -> list[Claim]:
        """Claims that neither an answer nor anything else has ended; some may have run out of time."""
        rows = self._db.rows(
            """
            SELECT c.* FROM claims AS c
            ANTI JOIN claim_ends AS e ON e.claim_id = c.claim_id
            ANTI JOIN verdict_events AS v ON v.claim_id = c.claim_id
            ORDER BY c.claimed_at
            """
        )
        return [Claim(*row) for row in rows]

    def skipped(self) -> list[tuple[str, str]]:
        """Person and pair of every skip."""
        return self._db.rows(
            "SELECT c.person, c.pair_id FROM claim_ends AS e JOIN claims AS c USING (claim_id) WHERE e.how = 'skipped'"
        )

    # ---- verdicts

    def decide(self, decision: Decision) -> None:
        """Record a verdict. A claim can be answered once: the database refuses a second one."""
        self._db.append("verdict_events", *decision)

    def undo(self, claim_id: str, at: datetime) -> None:
        """Record that a verdict was taken back."""
        self._db.append("undos", claim_id, at)

    def add(self, decisions: Iterable[Decision], undone: Iterable[tuple[str, datetime]] = ()) -> int:
        """Take in verdicts, and undos of them, from elsewhere in one transaction; those already there are left alone.

        Returns how many verdicts are new.
        """
        marks = ", ".join("?" * len(Decision._fields))
        new = 0
        with self._db.transaction() as cursor:
            for decision in decisions:
                sql = f"INSERT INTO verdict_events VALUES ({marks}) ON CONFLICT DO NOTHING RETURNING 1"
                new += len(cursor.execute(sql, list(decision)).fetchall())
            for undo in undone:
                cursor.execute("INSERT INTO undos VALUES (?, ?) ON CONFLICT DO NOTHING", list(undo))
        return new

    def standing(self, dataset: str | None = None) -> list[Decision]:
        """The verdicts that stand: of each person on each pair the latest that was not undone."""
        where = "" if dataset is None else f"WHERE {_IN_DATASET}"
        sql = f"SELECT {_DECISION} FROM verdicts {where} ORDER BY decided_at, claim_id"
        return [Decision(*row) for row in self._db.rows(sql, None if dataset is None else {"dataset": dataset})]

    def of_pair(self, pair_id: str) -> list[Decision]:
        """Everyone's standing verdict on a pair, the earliest first."""
        sql = f"SELECT {_DECISION} FROM verdicts WHERE pair_id = $1 ORDER BY decided_at"
        return [Decision(*row) for row in self._db.rows(sql, [pair_id])]

    of_item = of_pair  # what a board calls it

    def history(self, person: str, dataset: str, *, limit: int = 20) -> list[Decision]:
        """A person's standing decisions made in a dataset's review, the latest first."""
        sql = f"""
            SELECT {_DECISION} FROM verdicts WHERE person = $1 AND dataset = $2 AND kind <> 'imported'
            ORDER BY decided_at DESC, claim_id DESC LIMIT $3
        """
        return [Decision(*row) for row in self._db.rows(sql, [person, dataset, limit])]

    def events(self) -> list[dict[str, Any]]:
        """Every verdict event, undone ones too, in the order they came."""
        return self._db.records(
            """
            SELECT v.*, u.undone_at FROM verdict_events AS v LEFT JOIN undos AS u ON u.claim_id = v.claim_id
            ORDER BY v.decided_at, v.claim_id
            """
        )

    def progress(self, dataset: str) -> Progress:
        """How far a dataset has come."""
        (row,) = self._db.rows(
            """
            WITH members AS (SELECT DISTINCT pair_id FROM dataset_rows WHERE dataset = $1),
                 flagged AS (SELECT DISTINCT pair_id FROM flags WHERE dataset = $1),
                 reviewed AS (SELECT DISTINCT pair_id FROM verdicts),
                 settled AS (SELECT DISTINCT pair_id FROM adjudications)
            SELECT count(*), count(f.pair_id), count(r.pair_id),
                   count(*) FILTER (f.pair_id IS NOT NULL AND r.pair_id IS NOT NULL), count(s.pair_id)
            FROM members AS m
            LEFT JOIN flagged AS f ON f.pair_id = m.pair_id
            LEFT JOIN reviewed AS r ON r.pair_id = m.pair_id
            LEFT JOIN settled AS s ON s.pair_id = m.pair_id
            """,
            [dataset],
        )
        return Progress(*row)

    # ---- drafts

    def save_draft(self, claim_id: str, note: str, tags: list[str], at: datetime) -> None:
        """Keep what a person has typed so far."""
        self._db.append("drafts", claim_id, note, tags, at)
        self._drafted = None

    def draft(self, person: str, pair_id: str) -> tuple[str, list[str]]:
        """The latest note and tags this person typed for this pair, whichever claim it was under."""
        if self._drafted is None:  # most pairs have no draft: one query tells which do
            sql = "SELECT DISTINCT c.person, c.pair_id FROM drafts AS d JOIN claims AS c USING (claim_id)"
            self._drafted = set(self._db.rows(sql))
        if (person, pair_id) not in self._drafted:
            return "", []
        ((note, tags),) = self._db.rows(
            """
            SELECT d.note, d.tags FROM drafts AS d JOIN claims AS c USING (claim_id)
            WHERE c.person = $1 AND c.pair_id = $2 ORDER BY d.saved_at DESC, d.rowid DESC LIMIT 1
            """,
            [person, pair_id],
        )
        return note, list(tags)

    # ---- gold pairs

    def add_gold(self, dataset: str, pair_id: str, answer: str, swapped: bool, person: str, at: datetime) -> None:
        """A pair whose verdict is known; `swapped` when the label was turned round to make it. Once a pair."""
        with self._db.transaction() as cursor:
            sql = "INSERT INTO gold_pairs VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
            cursor.execute(sql, [dataset, pair_id, answer, swapped, person, at])
        self.gold_generation += 1

    def gold(self, dataset: str) -> dict[str, str]:
        """Gold pairs and their known answers."""
        return dict(self._db.rows("SELECT pair_id, answer FROM gold_pairs WHERE dataset = $1 ORDER BY pair_id", [dataset]))

    def gold_scores(self, dataset: str) -> list[dict[str, Any]]:
        """For each person: gold pairs seen and answered right, and of these the swapped ones."""
        return self._db.records(
            """
            SELECT v.person, count(*) AS seen, count(*) FILTER (v.verdict = g.answer) AS "right",
                   count(*) FILTER (g.swapped) AS swapped_seen,
                   count(*) FILTER (g.swapped AND v.verdict = g.answer) AS swapped_right
            FROM gold_pairs AS g JOIN verdicts AS v ON v.pair_id = g.pair_id
            WHERE g.dataset = $1 AND EXISTS (  -- also when the answer was changed or undone since
                SELECT 1 FROM claims AS c WHERE c.person = v.person AND c.pair_id = v.pair_id AND c.kind = 'gold')
            GROUP BY v.person ORDER BY v.person
            """,
            [dataset],
        )

    # ---- adjudication

    def disputed(self, dataset: str, *, settled: bool = False) -> list[tuple[str, int, float]]:
        """Pairs whose reviewers disagree: pair, reviewers, agreement; the lowest agreement first.

        Agreement is the share of pairs of reviewers that say the same. With `settled` those already adjudicated.
        """
        return self._db.rows(
            f"""
            WITH votes AS (SELECT pair_id, verdict, count(*) AS n FROM verdicts WHERE {_IN_DATASET} GROUP BY ALL)
            SELECT pair_id, sum(n)::INTEGER AS reviewers, sum(n * (n - 1)) / (sum(n) * (sum(n) - 1)) AS agreement
            FROM votes
            WHERE (pair_id IN (SELECT a.pair_id FROM adjudications AS a)) = $settled
            GROUP BY pair_id HAVING count(*) > 1
            ORDER BY agreement, reviewers DESC, pair_id
            """,
            {"dataset": dataset, "settled": settled},
        )

    def agreement(self, dataset: str) -> tuple[int, int]:
        """Of the pairs with two reviewers or more: how many are of one mind, and how many there are."""
        (row,) = self._db.rows(
            f"""
            WITH several AS (
                SELECT count(DISTINCT verdict) AS kinds FROM verdicts WHERE {_IN_DATASET} AND kind <> 'gold'
                GROUP BY pair_id HAVING count(*) > 1
            )
            SELECT count(*) FILTER (kinds = 1), count(*) FROM several
            """,
            {"dataset": dataset},
        )
        return row

    def settle(self, settlement: Settlement, *, instead_of: str | None) -> bool:
        """Compare and set: record an adjudication if the one that stands is still `instead_of` (None: none stands)."""
        with self._db.transaction() as cursor:
            sql = "SELECT adjudication_id FROM adjudications WHERE pair_id = ?"
            standing = cursor.execute(sql, [settlement.pair_id]).fetchall()
            if (standing[0][0] if standing else None) != instead_of:
                return False
            cursor.execute(f"INSERT INTO adjudication_events VALUES ({', '.join('?' * len(settlement))})", list(settlement))
        return True

    def settlements(self, dataset: str) -> list[Settlement]:
        """The adjudication that stands for each pair."""
        sql = f"SELECT * FROM adjudications WHERE {_IN_DATASET} ORDER BY settled_at, adjudication_id"
        return [Settlement(*row) for row in self._db.rows(sql, {"dataset": dataset})]

    # ---- queues

    def suspects(self, dataset: str, *, order: str, filter: str | None, subset: str | None) -> list[str]:
        """Flagged pairs, the most suspicious first (order "suspicious") or in an order drawn once (order "random")."""
        return self._ids(
            f"""
            SELECT f.pair_id FROM flags AS f
            WHERE f.dataset = $dataset AND ($filter IS NULL OR f.filter = $filter) AND {_in_subset("f")}
            GROUP BY f.pair_id
            ORDER BY {"max(f.score) DESC, count(DISTINCT f.filter) DESC, " if order == "suspicious" else ""}
                     md5(f.pair_id)
            """,
            {"dataset": dataset, "filter": filter, "subset": subset},
        )

    def unflagged(self, dataset: str, *, subset: str | None, limit: int) -> list[str]:
        """Pairs that no filter flags, in an order drawn once: the first ones stay first when more are asked for."""
        return self._ids(
            """
            SELECT r.pair_id FROM dataset_rows AS r
            ANTI JOIN (SELECT pair_id FROM flags WHERE dataset = $dataset) AS f ON f.pair_id = r.pair_id
            WHERE r.dataset = $dataset AND ($subset IS NULL OR r.subset = $subset)
            GROUP BY r.pair_id ORDER BY md5(r.pair_id || 'control') LIMIT $limit
            """,
            {"dataset": dataset, "subset": subset, "limit": limit},
        )

    def everything(self, dataset: str, *, order: str, subset: str | None) -> list[str]:
        """All pairs of a dataset, in row order or in an order drawn once (order "random")."""
        return self._ids(
            f"""
            SELECT r.pair_id FROM dataset_rows AS r
            WHERE r.dataset = $dataset AND ($subset IS NULL OR r.subset = $subset)
            GROUP BY r.pair_id ORDER BY {"md5(r.pair_id)" if order == "random" else 'min(r."row")'}
            """,
            {"dataset": dataset, "subset": subset},
        )

    def _ids(self, sql: str, parameters: dict[str, Any]) -> list[str]:
        return [pair_id for (pair_id,) in self._db.rows(sql, parameters)]


def _in_subset(table: str) -> str:
    return f"""($subset IS NULL OR {table}.pair_id IN (
        SELECT r.pair_id FROM dataset_rows AS r WHERE r.dataset = $dataset AND r.subset = $subset))"""


def new_id() -> str:
    """A name for an event that no other has."""
    return uuid4().hex
