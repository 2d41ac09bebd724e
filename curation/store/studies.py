"""Store of studies: their designs as events, their items and responses, what was adjudicated and what could not be read."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from threading import Lock
from typing import Any, NamedTuple, TypeVar

from curation.pairs import Response, Turn, packed, prompt_id_of, response_id_of, unpacked
from curation.store.database import Cursor, Database

T = TypeVar("T")
_STORED = ("prompts", "responses", "study_items", "study_responses")
_AT_HAND = 50_000  # items whose texts are kept in memory


class StudyEvent(NamedTuple):
    """Something that happened to a study: design, items, closed, reopened, paused, let on. `concerns` names a rater."""

    study: str
    kind: str
    concerns: str
    detail: str
    person: str
    at: datetime


class NewResponse(NamedTuple):
    """A response to be stored with an item. `given` is False where its text is not known."""

    generator: str
    response: Response
    given: bool = True


class NewItem(NamedTuple):
    """An item to be stored."""

    item_id: str
    name: str
    prompt: tuple[Turn, ...]
    responses: tuple[NewResponse, ...]
    subset: str = ""
    kind: str = "item"  # item, gold, attention, warm-up
    expected: str = ""
    explanation: str = ""


class Item(NamedTuple):
    """A stored item: one prompt with its responses. `responses` are ids, each once, in the order they came."""

    item_id: str
    study: str
    place: int
    prompt_id: str
    name: str
    subset: str
    kind: str
    expected: str
    explanation: str
    responses: tuple[str, ...]
    given: bool = True  # whether all their texts are known


class Content(NamedTuple):
    """What an item shows: the prompt, and the texts by response id; None where the text is not known."""

    prompt: tuple[Turn, ...]
    texts: Mapping[str, str | None]


class Settlement(NamedTuple):
    """An adjudication of an item: the marks that hold for it."""

    settlement_id: str
    study: str
    item_id: str
    person: str
    marks: str
    note: str
    seconds: float | None
    settled_at: datetime


class StudyStore:
    """Studies and their items."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._items: dict[str, dict[str, Item]] = {}
        self._designs: dict[str, Any] = {}
        self._events: dict[str, list[StudyEvent]] = {}
        self._content: dict[str, Content] = {}
        self._reading = Lock()
        self.generation = 0  # rises with every change of items or designs, so that queues know they are out of date
        self._happened = 0  # rises with everything that is recorded

    # ---- studies and what happened to them

    def create(self, study: str, design: str, person: str, at: datetime) -> None:
        """A new study. Raises ValueError when there is one of this name."""
        with self._db.transaction() as cursor:
            if cursor.execute("SELECT 1 FROM studies WHERE study = ?", [study]).fetchall():
                raise ValueError(f"there is a study {study!r} already: give this one another name")
            cursor.execute("INSERT INTO studies VALUES (?, ?, ?)", [study, person, at])
            cursor.execute("INSERT INTO study_events VALUES (?, 'design', '', ?, ?, ?)", [study, design, person, at])
        self._changed(study)

    def all(self) -> list[tuple[str, str, datetime]]:
        """Name, who made it, when; the oldest first."""
        return self._db.rows("SELECT study, person, created_at FROM studies ORDER BY created_at, study")

    def check(self, study: str) -> None:
        """Raises ValueError that lists the studies there are when this is none of them."""
        known = [name for name, _, _ in self.all()]
        if study not in known:
            raise ValueError(f"no study {study!r}: there is {', '.join(known) or 'none yet, create one first'}")

    def design(self, study: str, read: Callable[[str], T]) -> T:
        """The design in force, as `read` makes it of its JSON; kept until it changes."""

        def look() -> T:
            self.check(study)
            return read(self.events(study, kinds=("design",))[-1].detail)

        found: T = self._kept(self._designs, study, look)
        return found

    def record(self, event: StudyEvent) -> None:
        """Record that something happened to a study."""
        self._db.append("study_events", *event)
        if event.kind in ("design", "items"):
            self._changed(event.study)
        else:
            with self._reading:
                self._happened += 1
                self._events.pop(event.study, None)

    def events(self, study: str, *, kinds: Sequence[str] = ()) -> list[StudyEvent]:
        """What happened to a study, in order; of these kinds only, where any are named."""

        def look() -> list[StudyEvent]:
            sql = "SELECT * FROM study_events WHERE study = $1 ORDER BY happened_at, rowid"
            return [StudyEvent(*row) for row in self._db.rows(sql, [study])]

        found = self._kept(self._events, study, look)  # asked for with every item that is handed out
        return [one for one in found if not kinds or one.kind in kinds]

    def closed(self, study: str) -> bool:
        """Whether the study takes no answers now."""
        found = self.events(study, kinds=("closed", "reopened"))
        return bool(found) and found[-1].kind == "closed"

    # ---- items

    def add_items(self, study: str, items: Iterable[NewItem], event: StudyEvent | None) -> int:
        """Take in items, those already there left alone but for responses they did not have; returns how many are new."""
        rows: dict[str, dict[Any, tuple[Any, ...]]] = {table: {} for table in _STORED}
        for item in items:  # everything is worked out before the lock is taken: raters wait for it
            prompt_id = prompt_id_of(item.prompt)
            rows["prompts"][prompt_id] = (prompt_id, packed(item.prompt))
            about = (prompt_id, item.name, item.subset, item.kind, item.expected, item.explanation)
            rows["study_items"].setdefault(item.item_id, (item.item_id, study, len(rows["study_items"]), *about))
            for number, one in enumerate(item.responses):
                response_id = response_id_of(prompt_id, one.response)
                if one.given:
                    rows["responses"][response_id] = (response_id, prompt_id, one.response.text, one.response.lead)
                key = (item.item_id, response_id, one.generator)
                rows["study_responses"].setdefault(key, (item.item_id, number, response_id, one.generator, one.given))
        new = 0
        with self._db.transaction() as cursor:
            sql = "SELECT coalesce(max(place), -1) + 1 FROM study_items WHERE study = ?"
            ((place,),) = cursor.execute(sql, [study]).fetchall()
            for table, keyed in rows.items():
                values = [(*one[:2], place + one[2], *one[3:]) if table == "study_items" else one for one in keyed.values()]
                added = _insert(cursor, table, values)
                new += added if table == "study_items" else 0
            if event is not None:
                cursor.execute("INSERT INTO study_events VALUES (?, ?, ?, ?, ?, ?)", list(event))
        self._changed(study)
        return new

    def items(self, study: str) -> dict[str, Item]:
        """The items of a study by id, in the order they were added."""

        def look() -> dict[str, Item]:
            rows = self._db.rows(
                """
                SELECT i.item_id, i.study, i.place, i.prompt_id, i.name, i.subset, i.kind, i.expected, i.explanation,
                       list(r.response_id ORDER BY r.place, r.generator), bool_and(r.given)
                FROM study_items AS i JOIN study_responses AS r ON r.item_id = i.item_id
                WHERE i.study = $1 GROUP BY ALL ORDER BY i.place
                """,
                [study],
            )
            return {row[0]: _item(row) for row in rows}

        return self._kept(self._items, study, look)

    def item(self, item_id: str) -> Item:
        """One item. Raises ValueError when there is none of this id."""
        for items in list(self._items.values()):
            if item_id in items:
                return items[item_id]
        found = self._db.rows("SELECT study FROM study_items WHERE item_id = $1", [item_id])
        if not found:
            raise ValueError(f"no item {item_id!r}: expected the 32 hex digits of an item of a study")
        return self.items(found[0][0])[item_id]

    def content(self, item_id: str) -> Content:
        """The texts of an item; they never change, so they are kept once they were read."""
        kept = self._content.get(item_id)
        if kept is None:
            before = self._happened
            item = self.item(item_id)
            ((turns,),) = self._db.rows("SELECT turns FROM prompts WHERE prompt_id = $1", [item.prompt_id])
            marks = ", ".join("?" * len(item.responses))
            sql = f"SELECT response_id, text FROM responses WHERE response_id IN ({marks})"
            texts = dict(self._db.rows(sql, list(item.responses)))
            content = Content(unpacked(turns), {one: texts.get(one) for one in item.responses})
            with self._reading:
                if len(self._content) > _AT_HAND:
                    self._content.clear()
                if self._happened == before:  # a text may have come in meanwhile
                    self._content[item_id] = content
            return content
        return kept

    def contents(self, study: str) -> dict[str, Content]:
        """The texts of all items of a study, read at once."""
        items = self.items(study).values()
        prompts = dict(
            self._db.rows(
                "SELECT prompt_id, turns FROM prompts WHERE prompt_id IN (SELECT prompt_id FROM study_items WHERE study = $1)",
                [study],
            )
        )
        texts = dict(
            self._db.rows(
                """
                SELECT t.response_id, t.text FROM responses AS t WHERE t.response_id IN (
                    SELECT r.response_id FROM study_responses AS r JOIN study_items AS i USING (item_id) WHERE i.study = $1)
                """,
                [study],
            )
        )
        return {
            one.item_id: Content(
                unpacked(prompts[one.prompt_id]), {response: texts.get(response) for response in one.responses}
            )
            for one in items
        }

    def generators(self, study: str) -> dict[str, dict[str, tuple[str, ...]]]:
        """Who wrote the responses: by item and response id the generators, more than one where they wrote the same."""
        rows = self._db.rows(
            """
            SELECT r.item_id, r.response_id, list(r.generator ORDER BY r.place, r.generator)
            FROM study_responses AS r JOIN study_items AS i ON i.item_id = r.item_id WHERE i.study = $1 GROUP BY ALL
            """,
            [study],
        )
        found: dict[str, dict[str, tuple[str, ...]]] = {}
        for item_id, response_id, generators in rows:
            found.setdefault(item_id, {})[response_id] = tuple(generators)
        return found

    # ---- adjudication

    def settle(self, settlement: Settlement, *, instead_of: str | None) -> bool:
        """Compare and set: record an adjudication if the one that stands is still `instead_of` (None: none stands)."""
        with self._db.transaction() as cursor:
            sql = "SELECT settlement_id FROM study_adjudications WHERE item_id = ?"
            standing = cursor.execute(sql, [settlement.item_id]).fetchall()
            if (standing[0][0] if standing else None) != instead_of:
                return False
            cursor.execute(f"INSERT INTO study_settlements VALUES ({', '.join('?' * len(settlement))})", list(settlement))
        return True

    def settlements(self, study: str) -> dict[str, Settlement]:
        """The adjudication that stands for each settled item."""
        sql = "SELECT * FROM study_adjudications WHERE study = $1 ORDER BY settled_at, settlement_id"
        return {row[2]: Settlement(*row) for row in self._db.rows(sql, [study])}

    # ---- what an import could not use

    def add_rejects(self, study: str, file: str, rejects: Iterable[tuple[int, str]], at: datetime) -> None:
        """Keep which lines of a file could not be used, and why."""
        with self._db.transaction() as cursor:
            for line, reason in rejects:
                cursor.execute("INSERT INTO study_rejects VALUES (?, ?, ?, ?, ?)", [study, file, line, reason, at])

    def rejects(self, study: str, *, limit: int = 1000) -> list[dict[str, Any]]:
        """Lines that could not be used: file, line, reason."""
        sql = "SELECT file, line, reason FROM study_rejects WHERE study = $1 ORDER BY imported_at, file, line LIMIT $2"
        return self._db.records(sql, [study, limit])

    def _kept(self, kept: dict[str, T], study: str, look: Callable[[], T]) -> T:
        """What is in memory, else what `look` finds, which is kept unless something was recorded meanwhile."""
        found = kept.get(study)
        if found is None:
            before = self._happened
            found = look()
            with self._reading:
                if self._happened == before:
                    kept[study] = found
        return found

    def _changed(self, study: str) -> None:
        with self._reading:
            self._items.pop(study, None)
            self._designs.pop(study, None)
            self._events.pop(study, None)
            self._content.clear()
            self.generation += 1
            self._happened += 1


def _insert(cursor: Cursor, table: str, rows: list[tuple[Any, ...]]) -> int:
    """Insert rows that are not there yet, some at a time; returns how many were new."""
    new = 0
    for start in range(0, len(rows), 2000):
        columns = [list(column) for column in zip(*rows[start : start + 2000], strict=True)]
        marks = ", ".join(["unnest(?)"] * len(columns))
        sql = f"INSERT INTO {table} SELECT {marks} ON CONFLICT DO NOTHING RETURNING 1"
        new += len(cursor.execute(sql, columns).fetchall())
    return new


def _item(row: tuple[Any, ...]) -> Item:
    item_id, study, place, prompt_id, name, subset, kind, expected, explanation, responses, given = row
    once = tuple(dict.fromkeys(responses))
    return Item(item_id, study, place, prompt_id, name, subset, kind, expected, explanation, once, given)


def expected_of(item: Item) -> dict[str, Any]:
    """What is known of a gold item: its JSON, read; empty for other items."""
    found: dict[str, Any] = json.loads(item.expected) if item.expected else {}
    return found
