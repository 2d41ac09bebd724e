"""Who holds and who has answered which item: the state of all queues in memory, the store behind it the truth.

An item is what people are handed one at a time: a pair of a dataset's review, or an item of a study. One process holds
the database, so this state is exact; it is read from the events once and then kept by each event. A next item takes
microseconds however many there are, and no item is ever in two hands too many.
"""

import math
import random
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import chain
from statistics import median
from typing import Generic, Literal, NamedTuple, Protocol, Self, TypeVar

_KEPT = 32  # queues in memory: each view and each change of settings makes one
Clock = Callable[[], datetime]


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


class Lease(Protocol):
    """What a board knows of a claim: who holds which item of which queue, as what, and until when."""

    @property
    def claim_id(self) -> str: ...
    @property
    def scope(self) -> str: ...
    @property
    def item(self) -> str: ...
    @property
    def person(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def claimed_at(self) -> datetime: ...
    @property
    def expires_at(self) -> datetime: ...
    def renewed(self, claimed_at: datetime, expires_at: datetime) -> Self: ...


class Answer(Protocol):
    """What a board knows of an answer: what was answered by whom, under which claim, and how long it took."""

    @property
    def claim_id(self) -> str: ...
    @property
    def scope(self) -> str: ...
    @property
    def item(self) -> str: ...
    @property
    def person(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def seconds(self) -> float | None: ...


C = TypeVar("C", bound=Lease)
D = TypeVar("D", bound=Answer)


class Records(Protocol[C, D]):
    """The store behind a board. Each call that records something returns when it is on disk."""

    def standing(self) -> list[D]: ...
    def open_claims(self) -> list[C]: ...
    def skipped(self) -> list[tuple[str, str]]: ...
    def claim(self, claim: C, /) -> None: ...
    def end(self, claim_id: str, how: "Ending", at: datetime, /) -> None: ...
    def decide(self, decision: D, /) -> None: ...
    def undo(self, claim_id: str, at: datetime, /) -> None: ...
    def history(self, person: str, scope: str, /, *, limit: int) -> list[D]: ...
    def of_item(self, item: str, /) -> list[D]: ...
    def lease(self, scope: str, item: str, person: str, kind: str, at: datetime, ends: datetime, earlier: D | None, /) -> C:
        """A new claim, its sides in an order drawn per item and person, or as they stood for an earlier answer."""


Ending = Literal["skipped", "released", "expired"]


class Entry(NamedTuple):
    """One place in a queue."""

    item: str
    kind: str


class _Passed:
    """How far a person has come in a queue: everything before `reached` is over for them, save the places `held`."""

    def __init__(self) -> None:
        self.reached = 0
        self.held: dict[int, None] = {}  # in order; others held them when this person came by


class Queue(Generic[D]):
    """Items in the order they are handed out, each to `overlap` distinct people. Made by a Board.

    `gold` are items with known answers, given now and then (`gold_share`) to everybody; `first` come before all others, to
    everybody. With `block` each person has an order of their own: places are shuffled within blocks of that many, so that
    early items are still done first and a study that ends early has items with all their answers. `wants` says how many
    people an item should have, given the answers there are; without it that is `overlap`. With `gold_counts` each person is
    given as many gold items as their share of all items asks for, and what is left counts them: otherwise the number of
    items left, which stands still when a gold item is answered, would tell which ones are gold.
    """

    def __init__(
        self, order: Sequence[Entry], gold: Sequence[Entry], *, overlap: int, gold_share: float, first: Sequence[Entry] = (),
        block: int = 0, wants: Callable[[str, Mapping[str, D]], int] | None = None, gold_counts: bool = False,
    ) -> None:  # fmt: skip
        self.order, self.gold, self.overlap, self.gold_share, self.first = order, gold, overlap, gold_share, first
        self.members = {entry.item: place for place, entry in enumerate(order)}
        self._to_all = {entry.item for entry in (*gold, *first)}
        self._block, self._wants, self.gold_counts = block, wants, gold_counts
        self._gold: dict[str, Sequence[Entry]] = {}
        self._to_all_done: Counter[str] = Counter()  # a person's answers on items that everybody is given
        self._orders: dict[str, Sequence[Entry]] = {}
        self._complete = 0
        self._mine: Counter[str] = Counter()  # a person's answers on items that are not complete yet
        self.passed: dict[str, _Passed] = {}  # how far each person has come

    def __contains__(self, item: object) -> bool:
        return item in self.members or item in self._to_all

    def _is_given(self, person: str, item: str) -> bool:
        return any(one.item == item for one in (*self.first, *self.gold_of(person)))

    def wants(self, item: str, answers: Mapping[str, D]) -> int:
        """How many people the item should have, given these answers."""
        return self.overlap if self._wants is None else self._wants(item, answers)

    def order_of(self, person: str) -> Sequence[Entry]:
        """The order in which this person is handed the items: drawn once, from the person's name."""
        if not self._block:
            return self.order
        if person not in self._orders:
            draw = random.Random(f"order/{person}")
            blocks = [list(self.order[start : start + self._block]) for start in range(0, len(self.order), self._block)]
            for block in blocks:
                draw.shuffle(block)
            self._orders[person] = list(chain.from_iterable(blocks))
        return self._orders[person]

    def after(self, item: str, many: int) -> list[str]:
        """The items that follow one in the queue: what will be asked for soon."""
        place = self.members.get(item)
        return [] if place is None else [entry.item for entry in self.order[place + 1 : place + 1 + many]]

    def left(self, person: str) -> int:
        """How many items still want an answer from this person (those held by others included)."""
        left = len(self.order) - self._complete - self._mine[person]
        if self.gold_counts:
            left += len(self.gold_of(person)) + len(self.first) - self._to_all_done[person]
        return left

    def gold_of(self, person: str) -> Sequence[Entry]:
        """The gold items of a person: all of them, or with `gold_counts` as many as the share asks for, drawn once."""
        if not self.gold_counts:
            return self.gold
        if person not in self._gold:
            wanted = math.ceil(len(self.order) * self.gold_share / (1 - self.gold_share))
            most = wanted if self.order else len(self.gold)  # of nothing but gold there is no share
            self._gold[person] = random.Random(f"gold/{person}").sample(self.gold, min(most, len(self.gold)))
        return self._gold[person]

    def tally(self, item: str, answers: Mapping[str, D], sign: int) -> None:
        """Count (sign 1) or take back (sign -1) what these people's answers mean for an item."""
        if item not in self.members:
            if self.gold_counts and item in self._to_all:
                self._to_all_done.update({person: sign for person in answers if self._is_given(person, item)})
            return
        if len(answers) >= self.wants(item, answers):
            self._complete += sign
        else:
            for person in answers:
                self._mine[person] += sign


class Board(Generic[C, D]):
    """All claims and answers. Every method is safe from any thread; each change is on disk before it returns."""

    def __init__(self, store: Records[C, D], *, clock: Clock = now) -> None:
        self._store, self._clock = store, clock
        self._lock = threading.RLock()
        self._queues: dict[object, Queue[D]] = {}
        self._answered: dict[str, dict[str, D]] = defaultdict(dict)
        self._held: dict[str, dict[str, C]] = defaultdict(dict)
        self._claims: dict[str, C] = {}
        self._current: dict[tuple[str, str], C] = {}  # of a person in a dataset or study
        self._deciding: set[str] = set()
        self._skipped: dict[str, set[str]] = defaultdict(set)
        self._given: Counter[str] = Counter()
        self._done: Counter[tuple[str, str]] = Counter()
        self._seconds: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=200))  # by person; "" is everybody
        self._run_out: list[str] = []
        self._on_its_way: dict[str, C] = {}  # claims that are being written
        self._reopened: set[str] = set()
        self.reload()

    def reload(self) -> None:
        """Read everything again from the store, after verdicts came in some other way."""
        with self._lock:
            for kept in (self._queues, self._answered, self._held, self._claims, self._current, self._skipped):
                kept.clear()
            self._given.clear()
            self._done.clear()
            self._seconds.clear()
            for decision in self._store.standing():
                self._answered[decision.item][decision.person] = decision
                self._given[decision.person] += 1
                self._done[decision.person, decision.scope] += 1
                self._took(decision)
            for claim in [*self._store.open_claims(), *self._on_its_way.values()]:
                self._hold(claim)
            for person, item in self._store.skipped():
                self._skipped[person].add(item)

    def queue(self, key: object, make: Callable[[], Queue[D]]) -> Queue[D]:
        """The queue of this key, made when it is asked for the first time."""
        with self._lock:
            queue = self._queues.get(key)
            if queue is None:
                queue = make()
                for item, answers in self._answered.items():
                    queue.tally(item, answers, 1)
                for old in list(self._queues)[: -_KEPT + 1]:
                    del self._queues[old]  # the one not asked for the longest
            self._queues[key] = self._queues.pop(key, queue)
            return queue

    # ---- handing out

    def current(self, person: str, scope: str) -> C | None:
        """What the person holds in a dataset or study, also after its time unless somebody else was given the item."""
        with self._lock:
            return self._current.get((person, scope))

    def next(self, person: str, scope: str, queue: Queue[D], *, least: timedelta, again: bool = False) -> C | None:
        """The person's claim in this queue: the one held already, else a new one; None when nothing is left.

        `least` is the shortest time a claim lasts. With `again` items the person skipped are handed out too.
        """
        with self._lock:
            held = self._current.get((person, scope))
            if held is not None and (held.item in queue or held.claim_id in self._reopened):
                return self._renewed(held, least)
            to_all = self._first_for(person, queue) or self._gold_for(person, queue)
            entry = to_all or self._find(person, queue, again=again)
            if entry is None and queue.gold_counts:
                entry = to_all = self._gold_for(person, queue, now=True, again=again)
            stale = held
            claim = None
            if entry is not None:
                if entry is not to_all:
                    self._make_room(entry.item, queue.wants(entry.item, self._answered.get(entry.item, {})))
                claim = self._claim(person, scope, entry, least)
        if stale is not None:
            self.end(stale.claim_id, "released")
        if claim is not None:
            self._record(claim)
        return claim

    def reopen(self, person: str, scope: str, item: str, *, least: timedelta, earlier: D | None = None) -> C:
        """A claim on an item the person wants to look at again; what they held before goes back to the queue.

        It is of the same kind, with the sides as they stood, as the decision they made before (`earlier`, or theirs
        that stands).
        """
        with self._lock:
            held = self._current.get((person, scope))
            if held is not None and held.item == item:
                return held
            earlier = earlier or self._answered.get(item, {}).get(person)
            kind = earlier.kind if earlier is not None and earlier.kind != "imported" else "open"
            claim = self._claim(person, scope, Entry(item, kind), least, earlier)
            self._reopened.add(claim.claim_id)
        if held is not None:
            self.end(held.claim_id, "released")
        self._record(claim)
        return claim

    def end(self, claim_id: str, how: Literal["skipped", "released"]) -> bool:
        """Give an item back without an answer: "skipped" or "released". False when the claim is over already."""
        with self._lock:
            claim = self._claims.get(claim_id)
            if claim is None or claim_id in self._deciding:
                return False
            self._deciding.add(claim_id)
        try:
            self._store.end(claim_id, how, self._clock())
        except BaseException:
            with self._lock:
                self._deciding.discard(claim_id)  # nothing was recorded: it is still held
            raise
        with self._lock:
            self._deciding.discard(claim_id)
            if how == "skipped":
                self._skipped[claim.person].add(claim.item)
            self._drop(claim)
        return True

    def claim(self, claim_id: str) -> C | None:
        """The open claim of this id; None when it is over."""
        with self._lock:
            return self._claims.get(claim_id)

    def done(self, person: str, scope: str) -> int:
        """How many items a person has answered in a dataset's review or a study."""
        with self._lock:
            return self._done[person, scope]

    def skipped(self, person: str, queue: Queue[D]) -> int:
        """How many items of a queue the person skipped and has not answered."""
        with self._lock:
            mine = [item for item in self._skipped[person] if item in queue.members]
            return sum(person not in self._answered.get(item, ()) for item in mine)

    # ---- answers

    def decide(self, claim_id: str, person: str, answer: Callable[[C, datetime, float], D]) -> D | None:
        """Compare and set: record the answer to this claim once. None when the claim is over or not this person's.

        `answer` makes the event, of the claim, the moment, and the seconds since the item was handed out.
        """
        with self._lock:
            claim = self._claims.get(claim_id)
            if claim is None or claim.person != person or claim_id in self._deciding:
                return None
            self._deciding.add(claim_id)  # still held: nobody is given the item while the answer is written
        at = self._clock()
        try:
            decision = answer(claim, at, max(0.0, (at - claim.claimed_at).total_seconds()))
            self._store.decide(decision)
        except BaseException:
            with self._lock:
                self._deciding.discard(claim_id)  # nothing was recorded: the person may press again
            raise
        with self._lock:
            self._deciding.discard(claim_id)
            self._drop(claim)
            self._took(decision)
            self._answer(decision.item, {**self._answered.get(decision.item, {}), person: decision})
        return decision

    def undo(self, person: str, scope: str, *, least: timedelta) -> C | None:
        """Take back the person's last answer in a dataset or study and hand its item out again; None when there is none."""
        with self._lock:
            last = next(iter(self._store.history(person, scope, limit=1)), None)
            if last is None:
                return None
            # first the claim, then the undo, all under the lock: nobody is handed the item before the person has it back,
            # and where the disk is full the answer stands
            claim = self.reopen(person, scope, last.item, least=least, earlier=last)
            self._store.undo(last.claim_id, self._clock())
            before = {one.person: one for one in self._store.of_item(last.item)}
            self._answer(last.item, before)
            for queue in self._queues.values():
                queue.passed.clear()
            return claim

    @contextmanager
    def quiet(self) -> Iterator[bool]:
        """Nobody is handed anything and no answer begins meanwhile; the value tells whether one is being written."""
        with self._lock:
            yield bool(self._deciding)

    def answer(self, person: str, item: str) -> D | None:
        """The person's standing answer on an item."""
        with self._lock:
            return self._answered.get(item, {}).get(person)

    def answers(self, item: str) -> dict[str, D]:
        """Everybody's standing answer on an item, by person."""
        with self._lock:
            return dict(self._answered.get(item, {}))

    def holders(self, item: str) -> list[str]:
        """Who holds an item now."""
        with self._lock:
            return sorted(one.person for one in self._held.get(item, {}).values())

    def pace(self, person: str = "") -> float | None:
        """The median answering time in seconds over a person's last 200 answers, or everybody's; None without any."""
        with self._lock:
            seconds = self._seconds.get(person)
            return median(seconds) if seconds else None

    # ---- inside, under the lock

    def _find(self, person: str, queue: Queue[D], *, again: bool) -> Entry | None:
        """The first item that wants an answer from this person and that nobody else holds.

        What is over for the person is passed for good, and what others hold is remembered, so that no call looks at
        the same place many times.
        """
        skipped = set() if again else self._skipped[person]
        moment = self._clock()
        order = queue.order_of(person)
        passed = _Passed() if again else queue.passed.setdefault(person, _Passed())
        for place in chain(list(passed.held), range(passed.reached, len(order))):
            entry = order[place]
            passed.reached = max(passed.reached, place)
            answers = self._answered.get(entry.item, {})
            wanted = queue.wants(entry.item, answers)
            if person in answers or len(answers) >= wanted or entry.item in skipped:
                passed.held.pop(place, None)
            elif len(answers) + self._others(entry.item, person, moment) < wanted:
                return entry
            else:
                passed.held[place] = None
        passed.reached = len(order)
        return None

    def _others(self, item: str, person: str, moment: datetime) -> int:
        """How many others who have not answered an item hold it; an answer that is being written counts as held."""
        answers = self._answered.get(item, {})
        return sum(
            one.person != person and one.person not in answers and (one.expires_at > moment or one.claim_id in self._deciding)
            for one in self._held.get(item, {}).values()
        )

    def _first_for(self, person: str, queue: Queue[D]) -> Entry | None:
        """The next of the items that come before all others, in an order drawn for the person."""
        order = random.Random(f"{person}/first").sample(queue.first, len(queue.first)) if queue.first else []
        return next((one for one in order if self._fresh(person, one.item)), None)

    def _gold_for(self, person: str, queue: Queue[D], *, now: bool = False, again: bool = False) -> Entry | None:
        """Now and then a gold item: which of a person's items are gold is drawn once, so no reload changes it."""
        if not queue.gold:
            return None
        if not now and random.Random(f"{person}/{self._given[person]}").random() >= queue.gold_share:
            return None
        fresh = [
            one
            for one in queue.gold_of(person)
            if person not in self._answered.get(one.item, {}) and (again or one.item not in self._skipped[person])
        ]
        return random.Random(f"{person}/gold/{len(fresh)}").choice(fresh) if fresh else None

    def _fresh(self, person: str, item: str) -> bool:
        return item not in self._skipped[person] and person not in self._answered.get(item, {})

    def _claim(self, person: str, scope: str, entry: Entry, least: timedelta, earlier: D | None = None) -> C:
        at = self._clock()
        claim = self._store.lease(scope, entry.item, person, entry.kind, at, self._ends(at, least), earlier)
        self._hold(claim)
        return claim

    def _make_room(self, item: str, overlap: int) -> None:
        """End as many claims whose time is over as it takes for one more person: they cannot be answered now."""
        at = self._clock()
        answers = self._answered.get(item, {})
        open_claims = [one for one in self._held.get(item, {}).values() if one.person not in answers]
        late = [one for one in open_claims if one.expires_at <= at and one.claim_id not in self._deciding]
        too_many = len(answers) + len(open_claims) + 1 - overlap
        for other in sorted(late, key=lambda one: one.expires_at)[: max(0, too_many)]:
            self._drop(other)
            self._run_out.append(other.claim_id)

    def _renewed(self, claim: C, least: timedelta) -> C:
        """A claim its owner comes back to: after its time it holds again, as nobody else was given the item."""
        at = self._clock()
        if claim.expires_at <= at:
            claim = claim.renewed(at, self._ends(at, least))  # the time away is no answering time
            self._hold(claim)
        return claim

    def _ends(self, at: datetime, least: timedelta) -> datetime:
        return at + max(least, timedelta(seconds=3 * (self.pace() or 0)))

    def _took(self, decision: D) -> None:
        if decision.seconds is not None:
            self._seconds[decision.person].append(decision.seconds)
            self._seconds[""].append(decision.seconds)

    def _record(self, claim: C) -> None:
        with self._lock:
            run_out, self._run_out = self._run_out, []
            self._on_its_way[claim.claim_id] = claim
        try:
            for claim_id in run_out:  # first, so that a crash leaves no item in two hands
                self._store.end(claim_id, "expired", claim.claimed_at)
            self._store.claim(claim)
        except BaseException:
            with self._lock:
                self._drop(claim)
            raise
        finally:
            with self._lock:
                self._on_its_way.pop(claim.claim_id, None)

    def _hold(self, claim: C) -> None:
        self._claims[claim.claim_id] = claim
        self._held[claim.item][claim.claim_id] = claim
        self._current[claim.person, claim.scope] = claim

    def _drop(self, claim: C) -> None:
        self._claims.pop(claim.claim_id, None)
        self._reopened.discard(claim.claim_id)
        self._held[claim.item].pop(claim.claim_id, None)
        if not self._held[claim.item]:
            del self._held[claim.item]
        if self._current.get((claim.person, claim.scope), claim).claim_id == claim.claim_id:
            self._current.pop((claim.person, claim.scope), None)

    def _answer(self, item: str, answers: dict[str, D]) -> None:
        before = self._answered.get(item, {})
        self._done.subtract((one.person, one.scope) for one in before.values())
        self._done.update((one.person, one.scope) for one in answers.values())
        self._given.subtract(list(before))
        self._given.update(list(answers))
        for queue in self._queues.values():
            queue.tally(item, before, -1)
            queue.tally(item, answers, 1)
            if item in queue.members and queue.wants(item, answers) > queue.wants(item, before):
                queue.passed.clear()  # one more person is wanted, maybe one who has come by already
        if answers:
            self._answered[item] = answers
        else:
            self._answered.pop(item, None)
