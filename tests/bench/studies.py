"""50 raters at once on one study: what becomes of their answers, and how long the next item and a submit take.

Raters type with pauses, close tabs and come back or never, come back after their time, submit twice from two tabs, press
on a card that has moved on, skip, undo and change their minds. Beside it the plainest store over the same tables: a SELECT
for the first item that wants a rater and an INSERT, both under one lock.
"""

import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from curation import outputs, rating, studies, study_items
from curation.pairs import turn
from curation.rating import Card, Halt, Outcome
from curation.store.answers import Answered
from curation.store.verdicts import new_id
from curation.study_design import COMPARISON, READY, Design, Marks, Question
from curation.workspace import Workspace
from tests.bench import measure

STUDY = "many at once"
ASPECT = READY["overall"]
# what a rater does with an item, and how often
DEEDS = {
    "answers": 68, "submits twice": 10, "presses too late": 5, "closes the tab": 5, "is away too long": 2, "leaves": 1,
    "skips": 3, "undoes": 3, "changes an answer": 3,
}  # fmt: skip
_ROUNDS = 30


class Clock:
    """A clock every look at which is a millisecond later, so that no two events have the same time."""

    def __init__(self) -> None:
        self._at = datetime(2026, 11, 2, 9, tzinfo=UTC)
        self._lock = threading.Lock()

    def __call__(self) -> datetime:
        with self._lock:
            self._at += timedelta(milliseconds=1)
            return self._at

    def forward(self, **by: float) -> None:
        """Let time go by."""
        with self._lock:
            self._at += timedelta(**by)


class Said(NamedTuple):
    """What an answer says, told by texts and not by ids or places: the ratings by text, and which text is better."""

    ratings: tuple[tuple[str, float], ...]
    better: str
    note: str


@dataclass
class Log:
    """What the raters know they did."""

    stands: dict[tuple[str, str], Said] = field(default_factory=dict)  # by rater and item
    recorded: list[str] = field(default_factory=list)  # claims
    deeds: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)  # answers of the program that should not have been
    nexts: list[float] = field(default_factory=list)
    submits: list[float] = field(default_factory=list)


class Result(NamedTuple):
    """What came of it. `exact` items have as many distinct raters as wanted; the lists hold what went wrong."""

    answers: int
    exact: int
    lost: list[object]
    doubled: list[object]
    misplaced: list[tuple[str, str]]
    log: Log
    seconds: float


# ---- the study


def made(folder: Path, *, items: int, overlap: int) -> Workspace:
    """A workspace with a study of so many items of two responses, each of which says whose it is."""
    workspace = Workspace(folder, clock=Clock())
    design = Design(protocol="both", aspects=(ASPECT,), overlap=overlap, gold_share=0, least_claim_minutes=5)
    studies.create(workspace, STUDY, design, "lead")
    rows = [
        outputs.ItemRow(
            number, f"item {number}", (turn("user", f"question {number}"),),
            tuple(outputs.ItemResponse(name, f"answer {number} of {name}") for name in ("one", "two")), "", "item", None, "",
        )
        for number in range(items)
    ]  # fmt: skip
    studies.add_items(workspace, STUDY, study_items.from_rows(STUDY, rows), "lead", words="made up")
    return workspace


# ---- a rater


class Rater:
    """One person with one browser, who knows what they meant to say of each response."""

    def __init__(self, workspace: Workspace, name: str, log: Log, *, deeds: Iterable[str], pause: float) -> None:
        self.workspace, self.name, self.log, self.pause = workspace, name, log, pause
        self.draw = random.Random(name)
        self.deeds = list(deeds)
        self.left = False
        self.meant: Counter[str] = Counter()  # how often the rater has thought about an item

    def work(self) -> None:
        """Rate until nothing is left, or leave."""
        while not self.left:
            began = time.perf_counter()
            card = rating.next_card(self.workspace, STUDY, self.name)
            self.log.nexts.append(time.perf_counter() - began)
            if isinstance(card, Halt):
                return
            self.look_at(card, self.draw.choices(self.deeds, [DEEDS[one] for one in self.deeds])[0])

    def look_at(self, card: Card, deed: str) -> None:
        """Do one of the deeds with an item."""
        self.log.deeds[deed] += 1
        item_id = card.item.item_id
        self.expect(self.knows(card), f"the draft of {item_id} is {card.values}, {card.note!r}")
        if deed == "skips":
            rating.skip(self.workspace, card.claim.claim_id, self.name, "too hard")
        elif deed in ("leaves", "closes the tab", "is away too long"):
            self.fill(card, stop=self.draw.randrange(len(card.questions) + 1))
            self.left = deed == "leaves"
            if deed == "is away too long":  # everybody's time is over, whatever they are at
                self.clock.forward(minutes=6)
        elif deed == "presses too late":
            self.fill(card)
            first = card.questions[0]
            told = rating.press(self.workspace, card.claim.claim_id, self.name, card.version, first.key, 1)
            self.expect(told in (Outcome.STALE, Outcome.OVER), f"a press on an old card was {told}")
        elif self.fill(card) and self.submit(card, twice=deed == "submits twice"):
            if deed == "undoes":
                self.undo(item_id)
            elif deed == "changes an answer":
                mine = [one for name, one in list(self.log.stands) if name == self.name]
                self.change(self.draw.choice(mine))

    def knows(self, card: Card) -> bool:
        """Whether the draft on a card is the rater's own; of an answer taken back it may hold some of what was meant before."""
        meant = [self.says(card, back=back) for back in (0, 1)]
        keys = {(one.key, _key(card, one, said)) for one in card.questions for said in meant}
        return card.values.items() <= keys and card.note in ("", *(said.note for said in meant))

    @property
    def clock(self) -> Clock:
        """The workspace's clock."""
        clock = self.workspace.clock
        assert isinstance(clock, Clock)
        return clock

    def says(self, card: Card, *, back: int = 0) -> Said:
        """What the rater means to say of this item, or meant `back` thoughts ago, drawn from its texts."""
        texts = sorted(text or "" for text in card.texts)
        count = max(0, self.meant[card.item.item_id] - back)
        values = tuple((text, float(1 + self.code(text, count) % ASPECT.points)) for text in texts)
        better = (*texts, "tie", "both bad")[self.code("".join(texts), count) % 4]
        return Said(values, better, f"{self.name} on {' and '.join(texts)}, time {count}")

    def code(self, text: str, count: int) -> int:
        """A number for a rater, a text, and how often."""
        return crc32(f"{self.name}/{text}/{count}".encode())

    def fill(self, card: Card, *, stop: int = 99) -> bool:
        """Press the keys of this card, up to `stop` of them, and write a note; False when the item is out of hand."""
        said, version = self.says(card), card.version
        for question in card.questions[:stop]:
            self.rest()
            told = rating.press(
                self.workspace, card.claim.claim_id, self.name, version, question.key, _key(card, question, said)
            )
            self.expect(told in (Outcome.RECORDED, Outcome.OVER), f"a press was {told}")
            if told != Outcome.RECORDED:
                return False
            version += 1
        written = rating.write(self.workspace, card.claim.claim_id, self.name, said.note, ())
        self.expect(written in (Outcome.RECORDED, Outcome.OVER), f"a note was {written}")
        return written == Outcome.RECORDED

    def submit(self, card: Card, *, twice: bool = False) -> bool:
        """Submit, maybe from two threads at once; whether the answer was recorded."""
        told: list[Outcome] = []

        def press() -> None:
            began = time.perf_counter()
            told.append(rating.submit(self.workspace, card.claim.claim_id, self.name))
            self.log.submits.append(time.perf_counter() - began)

        together([press] * (2 if twice else 1)) if twice else press()
        recorded = told.count(Outcome.RECORDED)
        self.expect(recorded <= 1 and recorded + told.count(Outcome.OVER) == len(told), f"submits were {told}")
        if recorded:
            self.log.recorded.append(card.claim.claim_id)
            self.log.stands[self.name, card.item.item_id] = self.says(card)
        return bool(recorded)

    def undo(self, item_id: str) -> None:
        """Take the answer back, find it as the draft, mean something else, and submit that."""
        back = rating.undo(self.workspace, STUDY, self.name)
        if back is None or back.item.item_id != item_id:
            self.log.wrong.append(f"undo of {item_id} brought {back and back.item.item_id}")
            return
        del self.log.stands[self.name, item_id]
        self.answer_anew(back)

    def change(self, item_id: str) -> None:
        """Open an earlier item, mean something else, and submit that."""
        card = rating.reopen(self.workspace, STUDY, self.name, item_id)
        self.expect(card is not None, f"{item_id} could not be opened again")
        if card is not None:
            self.answer_anew(card)

    def answer_anew(self, card: Card) -> None:
        """Answer an item again that shows the answer given before."""
        said = self.says(card)
        before = {one.key: _key(card, one, said) for one in card.questions}
        self.expect((card.values, card.note) == (before, said.note), f"{card.values} came back instead of {before}")
        self.meant[card.item.item_id] += 1
        if self.fill(card):
            self.submit(card)

    def rest(self) -> None:
        """Think a while."""
        if self.pause:
            time.sleep(self.draw.uniform(0, self.pause))

    def expect(self, true: bool, otherwise: str) -> None:
        """Note down what should not have been."""
        if not true:
            self.log.wrong.append(f"{self.name}: {otherwise}")


def _key(card: Card, question: Question, said: Said) -> int:
    """The key by which this card says what the rater means."""
    if question.key != COMPARISON:
        return int(dict(said.ratings)[card.texts[question.place] or ""])
    return 1 + [*card.texts, "tie", "both bad"].index(said.better)


def together(work: Iterable[Callable[[], None]]) -> float:
    """Run these in threads, all at once; returns the seconds, and raises what any of them raised."""
    raised: list[BaseException] = []

    def run(one: Callable[[], None]) -> None:
        try:
            one()
        except BaseException as error:  # noqa: BLE001  raised below, in the caller's thread
            raised.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]
    return time.perf_counter() - began


# ---- all of them


def simulate(folder: Path, *, raters: int, items: int, overlap: int, pause: float) -> Result:
    """Let them rate until every item has its raters, and compare what they said with what is stored.

    Whoever finds nothing to do goes home; when all have, time goes by until every claim is over, and those who did not
    leave for good come back.
    """
    log, seconds = Log(), 0.0
    with closing(made(folder, items=items, overlap=overlap)) as workspace:
        people = [Rater(workspace, f"rater {n}", log, deeds=_deeds(n), pause=pause) for n in range(raters)]
        for _ in range(_ROUNDS):
            seconds += together([one.work for one in people if not one.left])
            if len(stored(workspace)) >= items * overlap:
                break
            people[0].clock.forward(hours=1)
    with closing(Workspace(folder)) as workspace:  # what is on disk, not what was in memory
        return _compared(workspace, log, items=items, overlap=overlap, seconds=seconds)


def _deeds(number: int) -> list[str]:
    """Every fifth rater neither leaves nor skips, so that enough are left for each item."""
    return [one for one in DEEDS if number % 5 or one not in ("leaves", "skips")]


def stored(workspace: Workspace) -> dict[tuple[str, str], Said]:
    """What stands in the database for each rater and item, in texts; read from ratings, preferences and their texts."""
    database = workspace.database
    ratings: dict[tuple[str, str], list[tuple[str, float]]] = defaultdict(list)
    notes: dict[tuple[str, str], str] = {}
    sql = "SELECT person, item_id, text, value, note FROM ratings JOIN responses USING (response_id) WHERE study = $1"
    for person, item_id, text, value, note in database.rows(f"{sql} ORDER BY text", [STUDY]):
        ratings[person, item_id].append((text, value))
        notes[person, item_id] = note
    better: dict[tuple[str, str], str] = {}
    sql = """
        SELECT person, item_id, CASE choice WHEN 'left' THEN l.text WHEN 'right' THEN r.text ELSE choice END
        FROM preferences JOIN responses AS l ON l.response_id = left_id JOIN responses AS r ON r.response_id = right_id
        WHERE study = $1
    """
    for person, item_id, text in database.rows(sql, [STUDY]):
        better[person, item_id] = text
    return {key: Said(tuple(said), better.get(key, "nothing"), notes[key]) for key, said in ratings.items()}


def _compared(workspace: Workspace, log: Log, *, items: int, overlap: int, seconds: float) -> Result:
    found = stored(workspace)
    people: dict[str, set[str]] = defaultdict(set)
    for person, item_id in found:
        people[item_id].add(person)
    answers = workspace.database.rows("SELECT claim_id FROM study_answers WHERE study = $1", [STUDY])
    written, told = Counter(claim_id for (claim_id,) in answers), Counter(log.recorded)
    doubled = [*(written - told), *(one for one, count in told.items() if count > 1), *(found.keys() - log.stands.keys())]
    lost: list[object] = [*(told - written), *(log.stands.keys() - found.keys())]
    misplaced = sorted(key for key in found.keys() & log.stands.keys() if found[key] != log.stands[key])
    exact = sum(len(one) == overlap for one in people.values())
    if len(people) != items:
        log.wrong.append(f"{len(people)} of {items} items have answers")
    return Result(len(found), exact, lost, doubled, misplaced, log, seconds)


# ---- the plainest store


def plain(folder: Path, *, raters: int, items: int, overlap: int, pause: float) -> Log:
    """The same without drafts, leases in memory and grouped commits: a SELECT and an INSERT under one lock."""
    log, lock = Log(), threading.Lock()
    with closing(made(folder, items=items, overlap=overlap)) as workspace:
        database = workspace.database
        wanted = """
            SELECT i.item_id, list(DISTINCT r.response_id)
            FROM study_items AS i JOIN study_responses AS r ON r.item_id = i.item_id
            LEFT JOIN study_claims AS c ON c.item_id = i.item_id
            WHERE i.study = $1 GROUP BY i.item_id, i.place
            HAVING count(DISTINCT c.person) < $2 AND count(*) FILTER (c.person = $3) = 0 ORDER BY i.place LIMIT 1
        """

        def work(person: str) -> None:
            draw = random.Random(person)
            while True:
                began = time.perf_counter()
                with lock:
                    found = database.rows(wanted, [STUDY, overlap, person])
                    if not found:
                        return
                    (item_id, responses), at, claim_id = found[0], workspace.clock(), new_id()
                    _insert(workspace, "study_claims", claim_id, STUDY, item_id, person, "item", responses, at, at)
                workspace.studies.content(item_id)
                log.nexts.append(time.perf_counter() - began)
                for _ in range(3 if pause else 0):
                    time.sleep(draw.uniform(0, pause))
                began = time.perf_counter()
                left, right = responses
                marks = Marks(((left, ASPECT.name, 1.0), (right, ASPECT.name, 2.0)), ((left, right, "right", None),))
                answer = Answered(
                    claim_id, STUDY, item_id, person, "item", (left, right), marks, 1.0, "", (), workspace.clock()
                )
                with lock:
                    _insert(workspace, "study_answers", *answer.row())
                log.submits.append(time.perf_counter() - began)

        together([partial(work, f"rater {n}") for n in range(raters)])
    return log


def _insert(workspace: Workspace, table: str, *values: object) -> None:
    with workspace.database.transaction() as cursor:
        cursor.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", list(values))


# ---- the table


def run(folder: Path, *, items: int = 200, pause: float = 0.002) -> None:
    """Measure with one rater (overlap 1) and with 50 (overlap 3), ours and the plain store."""
    came, took = [], []
    for raters, overlap in ((1, 1), (50, 3)):
        result = simulate(folder / f"ours-{raters}", raters=raters, items=items, overlap=overlap, pause=pause)
        sound = f"{result.exact} of {items}"
        faults = [len(one) for one in (result.lost, result.doubled, result.misplaced, result.log.wrong)]
        came.append([raters, items, overlap, f"{result.answers:,}", sound, *faults, f"{result.seconds:.1f}"])
        log = plain(folder / f"plain-{raters}", raters=raters, items=items, overlap=overlap, pause=pause)
        for name, one in (("ours", result.log), ("plain SQL", log)):
            times = [f"{1000 * value:.1f}" for value in (*measure.p50_p95(one.nexts), *measure.p50_p95(one.submits))]
            took.append([name, raters, *times])
    headings = ["raters", "items", "overlap", "answers", "items with exactly as many raters"]
    faults_of = ["lost", "doubled", "misplaced", "otherwise wrong", "seconds"]
    measure.table("What became of the answers", headings + faults_of, came)
    cuts = [f"{what} {cut} ms" for what in ("next", "submit") for cut in ("p50", "p95")]
    measure.table(f"Next item and submit, up to {1000 * pause:g} ms between keys", ["store", "raters", *cuts], took)
