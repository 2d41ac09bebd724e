"""Store of what raters do: claims, drafts, answers, undos. Only appended to; ratings and preferences are read from them."""

import json
from collections.abc import Iterable
from datetime import datetime
from random import Random
from threading import Lock
from typing import Any, NamedTuple

from curation.store.database import Database
from curation.store.studies import StudyStore
from curation.store.verdicts import new_id
from curation.study_design import Marks


class StudyClaim(NamedTuple):
    """A rater's lease on an item. `shown` are the responses' ids in the order in which they are shown to the rater."""

    claim_id: str
    study: str
    item_id: str
    person: str
    kind: str  # item, gold, attention, warm-up
    shown: tuple[str, ...]
    claimed_at: datetime
    expires_at: datetime

    @property
    def scope(self) -> str:
        """The queue it is of: the study."""
        return self.study

    @property
    def item(self) -> str:
        """What is held."""
        return self.item_id

    def renewed(self, claimed_at: datetime, expires_at: datetime) -> "StudyClaim":
        """The same lease for another time."""
        return self._replace(claimed_at=claimed_at, expires_at=expires_at)


class Answered(NamedTuple):
    """One answer event. `seconds` is the time from the item being handed out to the answer, None when imported."""

    claim_id: str
    study: str
    item_id: str
    person: str
    kind: str
    shown: tuple[str, ...]
    marks: Marks
    seconds: float | None
    note: str
    reasons: tuple[str, ...]
    answered_at: datetime

    @property
    def scope(self) -> str:
        """The queue it was given in: the study."""
        return self.study

    @property
    def item(self) -> str:
        """What was answered."""
        return self.item_id

    def row(self) -> tuple[Any, ...]:
        """As it is stored."""
        return (*self[:5], list(self.shown), packed_marks(self.marks), *self[7:9], list(self.reasons), self.answered_at)


def packed_marks(marks: Marks) -> str:
    """Marks as one JSON text."""
    return json.dumps({"ratings": marks.ratings, "preferences": marks.preferences})


def unpacked_marks(text: str) -> Marks:
    """The marks of a text that `packed_marks` made."""
    found = json.loads(text)
    return Marks(
        tuple((response, aspect, float(value)) for response, aspect, value in found["ratings"]),
        tuple((left, right, choice, strength) for left, right, choice, strength in found["preferences"]),
    )


_COLUMNS = "claim_id, study, item_id, person, kind, shown, marks, seconds, note, reasons, answered_at"


class AnswerStore:
    """What raters hold, type and answer. It is the store behind the board of the studies."""

    def __init__(self, database: Database, studies: StudyStore) -> None:
        self._db, self._studies = database, studies
        self._drafting = [Lock() for _ in range(64)]  # by rater: people who type side by side share commits
        self._reading = Lock()
        self._drafts: dict[tuple[str, str], tuple[str, int, str]] | None = None  # by person and item: claim, version, draft

    # ---- what a board needs

    def lease(
        self, study: str, item_id: str, person: str, kind: str, at: datetime, ends: datetime, earlier: Answered | None = None
    ) -> StudyClaim:
        """A claim whose responses stand in an order drawn per item and rater, or as they stood for an earlier answer."""
        shown = list(self._studies.item(item_id).responses)
        Random(f"{person}/{item_id}").shuffle(shown)
        if earlier is not None and sorted(earlier.shown) == sorted(shown):
            shown = list(earlier.shown)
        return StudyClaim(new_id(), study, item_id, person, kind, tuple(shown), at, ends)

    def claim(self, claim: StudyClaim) -> None:
        """Record that an item was handed out."""
        self._db.append("study_claims", *claim[:5], list(claim.shown), *claim[6:])

    def end(self, claim_id: str, how: str, at: datetime) -> None:
        """Record that a claim ended without an answer: skipped, released or expired."""
        self._db.append("study_claim_ends", claim_id, how, at)

    def open_claims(self) -> list[StudyClaim]:
        """Claims that neither an answer nor anything else has ended; some may have run out of time."""
        rows = self._db.rows(
            """
            SELECT c.* FROM study_claims AS c
            ANTI JOIN study_claim_ends AS e ON e.claim_id = c.claim_id
            ANTI JOIN study_answers AS v ON v.claim_id = c.claim_id
            ORDER BY c.claimed_at
            """
        )
        return [
            StudyClaim(claim_id, study, item_id, person, kind, tuple(shown), claimed_at, expires_at)
            for claim_id, study, item_id, person, kind, shown, claimed_at, expires_at in rows
        ]

    def skipped(self) -> list[tuple[str, str]]:
        """Rater and item of every skip."""
        return self._db.rows(
            """
            SELECT c.person, c.item_id FROM study_claim_ends AS e JOIN study_claims AS c USING (claim_id)
            WHERE e.how = 'skipped'
            """
        )

    def decide(self, answer: Answered) -> None:
        """Record an answer. A claim can be answered once: the database refuses a second one."""
        self._db.append("study_answers", *answer.row())

    def undo(self, claim_id: str, at: datetime) -> None:
        """Record that an answer was taken back."""
        self._db.append("study_undos", claim_id, at)

    def standing(self, study: str | None = None) -> list[Answered]:
        """What stands: of each rater on each item one answer, with the latest of every mark that was not undone."""
        sql = f"SELECT {_COLUMNS} FROM standing_answers WHERE $1 IS NULL OR study = $1 ORDER BY answered_at, arrival"
        return _merged(self._db.rows(sql, [study]))

    def of_item(self, item_id: str) -> list[Answered]:
        """Everyone's standing answer on an item, the earliest first."""
        sql = f"SELECT {_COLUMNS} FROM standing_answers WHERE item_id = $1 ORDER BY answered_at, arrival"
        return _merged(self._db.rows(sql, [item_id]))

    def spent(self, study: str, person: str | None = None) -> dict[tuple[str, str], float]:
        """Seconds that raters spent on items, by item and rater: over all their visits, undone answers included."""
        rows = self._db.rows(
            """
            SELECT item_id, person, sum(seconds) FROM study_answers
            WHERE study = $1 AND ($2 IS NULL OR person = $2) AND seconds IS NOT NULL GROUP BY ALL
            """,
            [study, person],
        )
        return {(item_id, rater): seconds for item_id, rater, seconds in rows}

    def history(self, person: str, study: str, *, limit: int = 20) -> list[Answered]:
        """A rater's standing answers in a study, the latest first; imported ones are not among them."""
        sql = f"""
            SELECT {_COLUMNS} FROM standing_answers WHERE person = $1 AND study = $2 AND kind <> 'imported'
            QUALIFY row_number() OVER (PARTITION BY item_id ORDER BY answered_at DESC, arrival DESC) = 1
            ORDER BY answered_at DESC, arrival DESC LIMIT $3
        """
        return [_answer(row) for row in self._db.rows(sql, [person, study, limit])]

    # ---- taking in, giving out

    def add(self, answers: Iterable[Answered]) -> int:
        """Take in answers from elsewhere in one transaction; those already there are left alone. Returns how many are new."""
        new = 0
        with self._db.transaction() as cursor:
            known = {claim_id for (claim_id,) in cursor.execute("SELECT claim_id FROM study_answers").fetchall()}
            rows = list({one.claim_id: one.row() for one in answers if one.claim_id not in known}.values())
            for start in range(0, len(rows), 2000):
                columns = [list(column) for column in zip(*rows[start : start + 2000], strict=True)]
                marks = ", ".join(["unnest(?)"] * len(columns))
                cursor.execute(f"INSERT INTO study_answers SELECT {marks}", columns)
            new = len(rows)
        return new

    def claims_of(self, study: str) -> set[str]:
        """The claims under which answers of a study came, undone ones too."""
        rows = self._db.rows("SELECT claim_id FROM study_answers WHERE study = $1", [study])
        return {claim_id for (claim_id,) in rows}

    def count(self, study: str) -> int:
        """How many answers were ever given or imported, undone ones too."""
        return int(self._db.rows("SELECT count(*) FROM study_answers WHERE study = $1", [study])[0][0])

    def mark(self, study: str) -> tuple[int, int, int]:
        """Changes with every answer and undo of a study."""
        sql = """
            SELECT (SELECT count(*) FROM study_answers WHERE study = $1), (SELECT count(*) FROM study_undos),
                   (SELECT count(*) FROM study_settlements WHERE study = $1)
        """
        (found,) = self._db.rows(sql, [study])
        return found

    def has(self, study: str, kind: str) -> bool:
        """Whether any answer that stands holds "ratings" or "preferences"."""
        sql = "SELECT 1 FROM standing_answers WHERE study = $1 AND json_array_length(marks, $2) > 0 LIMIT 1"
        return bool(self._db.rows(sql, [study, f"$.{kind}"]))

    def tally(self, study: str) -> tuple[int, int]:
        """How many answers stand, and of how many people."""
        sql = "SELECT count(DISTINCT (item_id, person)), count(DISTINCT person) FROM standing_answers WHERE study = $1"
        ((answers, raters),) = self._db.rows(sql, [study])
        return answers, raters

    def ratings(self, study: str) -> list[dict[str, Any]]:
        """Every standing rating: item, subset, kind of item, rater, response, aspect, value, seconds, order shown, ...

        `place` is where the response was shown, from 1; `seconds` are those of the whole answer.
        """
        return self._db.records(
            """
            SELECT r.item_id, i.name, i.prompt_id, i.subset, i.kind AS item_kind, r.person, r.response_id, r.aspect, r.value,
                   r.kind, r.seconds, list_position(r.shown, r.response_id) AS place, r.shown, r.claim_id, r.note, r.reasons,
                   r.answered_at
            FROM ratings AS r JOIN study_items AS i ON i.item_id = r.item_id
            WHERE r.study = $1 ORDER BY i.place, r.person, place, r.aspect
            """,
            [study],
        )

    def preferences(self, study: str) -> list[dict[str, Any]]:
        """Every standing preference: item, subset, kind of item, rater, left and right response as shown, choice, strength."""
        return self._db.records(
            """
            SELECT p.item_id, i.name, i.prompt_id, i.subset, i.kind AS item_kind, p.person, p.left_id, p.right_id, p.choice,
                   p.strength, p.kind, p.seconds, p.shown, p.claim_id, p.note, p.reasons, p.answered_at
            FROM preferences AS p JOIN study_items AS i ON i.item_id = p.item_id
            WHERE p.study = $1 ORDER BY i.place, p.person
            """,
            [study],
        )

    def skips(self, study: str) -> list[dict[str, Any]]:
        """Every skip: item, rater, reason, when."""
        return self._db.records(
            """
            SELECT c.item_id, c.person, coalesce(s.why, '') AS why, e.ended_at
            FROM study_claim_ends AS e JOIN study_claims AS c USING (claim_id) LEFT JOIN study_skips AS s USING (claim_id)
            WHERE c.study = $1 AND e.how = 'skipped' ORDER BY e.ended_at
            """,
            [study],
        )

    def why_skipped(self, claim_id: str, why: str) -> None:
        """Keep the reason a rater gives for skipping."""
        self._db.append("study_skips", claim_id, why)

    # ---- drafts

    def save_draft(self, claim: StudyClaim, draft: str, at: datetime, *, instead_of: int, version: int) -> bool:
        """Compare and set: keep what a rater has answered so far of an item, if the version that stands is `instead_of`."""
        known = self._known_drafts()
        with self._drafting[hash(claim.person) % len(self._drafting)]:
            if known.get((claim.person, claim.item_id), ("", 0, ""))[1] != instead_of:
                return False
            self._db.append("study_drafts", claim.claim_id, version, draft, at)
            known[claim.person, claim.item_id] = (claim.claim_id, version, draft)
        return True

    def draft(self, person: str, item_id: str) -> tuple[str, int, str]:
        """The latest draft of a rater for an item: the claim it was made under, its version, its JSON; else "", 0, ""."""
        return self._known_drafts().get((person, item_id), ("", 0, ""))

    def _known_drafts(self) -> dict[tuple[str, str], tuple[str, int, str]]:
        with self._reading:
            if self._drafts is None:
                rows = self._db.rows(
                    """
                    SELECT c.person, c.item_id, d.claim_id, d.version, d.draft
                    FROM study_drafts AS d JOIN study_claims AS c USING (claim_id)
                    QUALIFY row_number() OVER (PARTITION BY c.person, c.item_id ORDER BY d.saved_at DESC, d.rowid DESC) = 1
                    """
                )
                self._drafts = {(person, item_id): (claim, version, text) for person, item_id, claim, version, text in rows}
            return self._drafts


def _merged(rows: Iterable[tuple[Any, ...]]) -> list[Answered]:
    """One answer for each rater and item, of rows in order of time: a file may bring another aspect of an item later.

    Ratings and preferences stand mark by mark, as the views of that name have it; the rest is that of the latest answer
    given here, or of the latest import where there is none.
    """
    found: dict[tuple[str, str], Answered] = {}
    for row in rows:
        one = _answer(row)
        before = found.pop((one.item_id, one.person), None)
        if before is not None:
            ratings = {
                (response, aspect): value for marks in (before.marks, one.marks) for response, aspect, value in marks.ratings
            }
            sides = {frozenset(mark[:2]): mark for marks in (before.marks, one.marks) for mark in marks.preferences}
            marks = Marks(tuple((*key, value) for key, value in ratings.items()), tuple(sides.values()))
            stays = before if one.kind == "imported" and before.kind != "imported" else one
            one = stays._replace(marks=marks)
        found[one.item_id, one.person] = one
    return list(found.values())


def _answer(row: tuple[Any, ...]) -> Answered:
    claim_id, study, item_id, person, kind, shown, marks, seconds, note, reasons, answered_at = row
    about = (claim_id, study, item_id, person, kind, tuple(shown), unpacked_marks(marks))
    return Answered(*about, seconds, note, tuple(reasons), answered_at)
