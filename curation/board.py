"""Who holds and who has answered which pair: the state of all review queues in memory, the store behind it the truth.

One process holds the database, so this state is exact; it is read from the events once and then kept by each event.
A next pair takes microseconds whatever the size of the dataset, and no pair is ever in two hands too many.
"""

import random
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from statistics import median
from typing import Literal, NamedTuple

from curation.store.verdicts import Claim, Decision, Shown, VerdictStore, new_id

_KEPT = 32  # queues in memory: each view and each change of settings makes one
Clock = Callable[[], datetime]


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


class Entry(NamedTuple):
    """One place in a queue."""

    pair_id: str
    kind: str


class _Passed:
    """How far a person has come in a queue: everything before `reached` is over for them, save the places `held`."""

    def __init__(self) -> None:
        self.reached = 0
        self.held: dict[int, None] = {}  # in order; others held them when this person came by


class Queue:
    """Pairs in the order they are handed out, each to `overlap` distinct people. Made by a Board."""

    def __init__(self, order: Sequence[Entry], gold: Sequence[str], *, overlap: int, gold_share: float) -> None:
        self.order, self.gold, self.overlap, self.gold_share = order, gold, overlap, gold_share
        self.members = {entry.pair_id: place for place, entry in enumerate(order)}
        self._complete = 0
        self._mine: Counter[str] = Counter()  # a person's answers on pairs that are not complete yet
        self.passed: dict[str, _Passed] = {}  # how far each person has come

    def after(self, pair_id: str, many: int) -> list[str]:
        """The pairs that follow one in the queue: what will be asked for soon."""
        place = self.members.get(pair_id)
        return [] if place is None else [entry.pair_id for entry in self.order[place + 1 : place + 1 + many]]

    def left(self, person: str) -> int:
        """How many pairs still want an answer from this person (those held by others included)."""
        return len(self.order) - self._complete - self._mine[person]

    def tally(self, pair_id: str, people: Iterable[str], sign: int) -> None:
        """Count (sign 1) or take back (sign -1) what these people's answers mean for a pair."""
        if pair_id not in self.members:
            return
        people = list(people)
        if len(people) >= self.overlap:
            self._complete += sign
        else:
            for person in people:
                self._mine[person] += sign


class Board:
    """All claims and answers. Every method is safe from any thread; each change is on disk before it returns."""

    def __init__(self, store: VerdictStore, *, clock: Clock = now) -> None:
        self._store, self._clock = store, clock
        self._lock = threading.RLock()
        self._queues: dict[object, Queue] = {}
        self._answered: dict[str, dict[str, Decision]] = defaultdict(dict)
        self._held: dict[str, dict[str, Claim]] = defaultdict(dict)
        self._claims: dict[str, Claim] = {}
        self._current: dict[tuple[str, str], Claim] = {}  # of a person in a dataset
        self._deciding: set[str] = set()
        self._skipped: dict[str, set[str]] = defaultdict(set)
        self._given: Counter[str] = Counter()
        self._done: Counter[tuple[str, str]] = Counter()
        self._seconds: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=200))  # by person; "" is everybody
        self._run_out: list[str] = []
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
                self._answered[decision.pair_id][decision.person] = decision
                self._given[decision.person] += 1
                self._done[decision.person, decision.dataset] += 1
                self._took(decision)
            for claim in self._store.open_claims():
                self._hold(claim)
            for person, pair_id in self._store.skipped():
                self._skipped[person].add(pair_id)

    def queue(self, key: object, make: Callable[[], Queue]) -> Queue:
        """The queue of this key, made when it is asked for the first time."""
        with self._lock:
            queue = self._queues.get(key)
            if queue is None:
                queue = make()
                for pair_id, answers in self._answered.items():
                    queue.tally(pair_id, answers, 1)
                for old in list(self._queues)[: -_KEPT + 1]:
                    del self._queues[old]  # the one not asked for the longest
            self._queues[key] = self._queues.pop(key, queue)
            return queue

    # ---- handing out

    def current(self, person: str, dataset: str) -> Claim | None:
        """What the person holds in a dataset, also after its time unless somebody else was given the pair."""
        with self._lock:
            return self._current.get((person, dataset))

    def next(self, person: str, dataset: str, queue: Queue, *, least: timedelta, again: bool = False) -> Claim | None:
        """The person's claim in this queue: the one held already, else a new one; None when nothing is left.

        `least` is the shortest time a claim lasts. With `again` pairs the person skipped are handed out too.
        """
        with self._lock:
            held = self._current.get((person, dataset))
            if held is not None and (held.pair_id in queue.members or held.kind == "gold" or held.claim_id in self._reopened):
                return self._renewed(held, least)
            gold = self._gold_for(person, queue)
            entry = gold or self._find(person, queue, again=again)
            stale = held
            claim = None
            if entry is not None:
                if entry is not gold:
                    self._make_room(entry.pair_id, queue.overlap)
                claim = self._claim(person, dataset, entry, least)
        if stale is not None:
            self.end(stale.claim_id, "released")
        if claim is not None:
            self._record(claim)
        return claim

    def reopen(self, person: str, dataset: str, pair_id: str, *, least: timedelta, earlier: Decision | None = None) -> Claim:
        """A claim on a pair the person wants to look at again; what they held before goes back to the queue.

        It is of the same kind, with the sides as they stood, as the decision they made before (`earlier`, or theirs
        that stands).
        """
        with self._lock:
            held = self._current.get((person, dataset))
            if held is not None and held.pair_id == pair_id:
                return held
            earlier = earlier or self._answered.get(pair_id, {}).get(person)
            kind = earlier.kind if earlier is not None and earlier.kind != "imported" else "open"
            claim = self._claim(person, dataset, Entry(pair_id, kind), least)
            self._reopened.add(claim.claim_id)
            if earlier is not None and earlier.chosen_shown:
                claim = claim._replace(chosen_shown=earlier.chosen_shown)  # the sides stand as they stood
                self._hold(claim)
        if held is not None:
            self.end(held.claim_id, "released")
        self._record(claim)
        return claim

    def end(self, claim_id: str, how: Literal["skipped", "released"]) -> bool:
        """Give a pair back without an answer: "skipped" or "released". False when the claim is over already."""
        with self._lock:
            claim = self._claims.get(claim_id)
            if claim is None or claim_id in self._deciding:
                return False
            if how == "skipped":
                self._skipped[claim.person].add(claim.pair_id)
            self._drop(claim)
        self._store.end(claim_id, how, self._clock())
        return True

    def claim(self, claim_id: str) -> Claim | None:
        """The open claim of this id; None when it is over."""
        with self._lock:
            return self._claims.get(claim_id)

    def done(self, person: str, dataset: str) -> int:
        """How many pairs a person has answered in a dataset's review."""
        with self._lock:
            return self._done[person, dataset]

    def skipped(self, person: str, queue: Queue) -> int:
        """How many pairs of a queue the person skipped and has not answered."""
        with self._lock:
            mine = [pair_id for pair_id in self._skipped[person] if pair_id in queue.members]
            return sum(person not in self._answered.get(pair_id, ()) for pair_id in mine)

    # ---- answers

    def decide(self, claim_id: str, person: str, verdict: str, *, note: str, tags: list[str]) -> Decision | None:
        """Compare and set: record the answer to this claim once. None when the claim is over or not this person's."""
        with self._lock:
            claim = self._claims.get(claim_id)
            if claim is None or claim.person != person or claim_id in self._deciding:
                return None
            self._deciding.add(claim_id)  # still held: nobody is given the pair while the answer is written
        at = self._clock()
        seconds = max(0.0, (at - claim.claimed_at).total_seconds())
        decision = Decision(
            claim_id, claim.dataset, claim.pair_id, person, verdict, claim.kind, claim.chosen_shown, seconds, note, tags, at
        )  # fmt: skip
        try:
            self._store.decide(decision)
        except BaseException:
            with self._lock:
                self._deciding.discard(claim_id)  # nothing was recorded: the person may press again
            raise
        with self._lock:
            self._deciding.discard(claim_id)
            self._drop(claim)
            self._took(decision)
            self._answer(decision.pair_id, {**self._answered[decision.pair_id], person: decision})
        return decision

    def undo(self, person: str, dataset: str, *, least: timedelta) -> Claim | None:
        """Take back the person's last decision in a dataset and hand its pair out again; None when there is none."""
        with self._lock:
            last = next(iter(self._store.history(person, dataset, limit=1)), None)
            if last is None:
                return None
            self._store.undo(last.claim_id, self._clock())
            before = {one.person: one for one in self._store.of_pair(last.pair_id)}
            self._answer(last.pair_id, before)
            for queue in self._queues.values():
                queue.passed.clear()
        return self.reopen(person, dataset, last.pair_id, least=least, earlier=last)

    def answer(self, person: str, pair_id: str) -> Decision | None:
        """The person's standing decision on a pair."""
        with self._lock:
            return self._answered.get(pair_id, {}).get(person)

    def pace(self, person: str = "") -> float | None:
        """The median answering time in seconds over a person's last 200 answers, or everybody's; None without any."""
        with self._lock:
            seconds = self._seconds.get(person)
            return median(seconds) if seconds else None

    # ---- inside, under the lock

    def _find(self, person: str, queue: Queue, *, again: bool) -> Entry | None:
        """The first pair that wants an answer from this person and that nobody else holds.

        What is over for the person is passed for good, and what others hold is remembered, so that no call looks at
        the same place many times.
        """
        skipped = set() if again else self._skipped[person]
        moment = self._clock()
        passed = _Passed() if again else queue.passed.setdefault(person, _Passed())
        for place in chain(list(passed.held), range(passed.reached, len(queue.order))):
            entry = queue.order[place]
            passed.reached = max(passed.reached, place)
            answers = self._answered.get(entry.pair_id, {})
            if person in answers or len(answers) >= queue.overlap or entry.pair_id in skipped:
                passed.held.pop(place, None)
            elif len(answers) + self._others(entry.pair_id, person, moment) < queue.overlap:
                return entry
            else:
                passed.held[place] = None
        passed.reached = len(queue.order)
        return None

    def _others(self, pair_id: str, person: str, moment: datetime) -> int:
        """How many others who have not answered a pair hold it; an answer that is being written counts as held."""
        answers = self._answered.get(pair_id, {})
        return sum(
            one.person != person and one.person not in answers and (one.expires_at > moment or one.claim_id in self._deciding)
            for one in self._held.get(pair_id, {}).values()
        )

    def _gold_for(self, person: str, queue: Queue) -> Entry | None:
        """Now and then a gold pair: which of a person's items are gold is drawn once, so no reload changes it."""
        if not queue.gold or random.Random(f"{person}/{self._given[person]}").random() >= queue.gold_share:
            return None
        seen = self._skipped[person]
        fresh = [one for one in queue.gold if one not in seen and person not in self._answered.get(one, {})]
        return Entry(random.Random(f"{person}/gold/{len(fresh)}").choice(fresh), "gold") if fresh else None

    def _claim(self, person: str, dataset: str, entry: Entry, least: timedelta) -> Claim:
        at = self._clock()
        shown = random.Random(f"{person}/{entry.pair_id}").choice("AB")  # drawn per item and person
        side: Shown = "A" if shown == "A" else "B"
        claim = Claim(new_id(), dataset, entry.pair_id, person, entry.kind, side, at, self._ends(at, least))
        self._hold(claim)
        return claim

    def _make_room(self, pair_id: str, overlap: int) -> None:
        """End as many claims whose time is over as it takes for one more person: they cannot be answered now."""
        at = self._clock()
        answers = self._answered.get(pair_id, {})
        open_claims = [one for one in self._held.get(pair_id, {}).values() if one.person not in answers]
        late = [one for one in open_claims if one.expires_at <= at and one.claim_id not in self._deciding]
        too_many = len(answers) + len(open_claims) + 1 - overlap
        for other in sorted(late, key=lambda one: one.expires_at)[: max(0, too_many)]:
            self._drop(other)
            self._run_out.append(other.claim_id)

    def _renewed(self, claim: Claim, least: timedelta) -> Claim:
        """A claim its owner comes back to: after its time it holds again, as nobody else was given the pair."""
        at = self._clock()
        if claim.expires_at <= at:
            claim = claim._replace(claimed_at=at, expires_at=self._ends(at, least))  # the time away is no answering time
            self._hold(claim)
        return claim

    def _ends(self, at: datetime, least: timedelta) -> datetime:
        return at + max(least, timedelta(seconds=3 * (self.pace() or 0)))

    def _took(self, decision: Decision) -> None:
        if decision.seconds is not None:
            self._seconds[decision.person].append(decision.seconds)
            self._seconds[""].append(decision.seconds)

    def _record(self, claim: Claim) -> None:
        with self._lock:
            run_out, self._run_out = self._run_out, []
        try:
            for claim_id in run_out:  # first, so that a crash leaves no pair in two hands
                self._store.end(claim_id, "expired", claim.claimed_at)
            self._store.claim(claim)
        except BaseException:
            with self._lock:
                self._drop(claim)
            raise

    def _hold(self, claim: Claim) -> None:
        self._claims[claim.claim_id] = claim
        self._held[claim.pair_id][claim.claim_id] = claim
        self._current[claim.person, claim.dataset] = claim

    def _drop(self, claim: Claim) -> None:
        self._claims.pop(claim.claim_id, None)
        self._reopened.discard(claim.claim_id)
        self._held[claim.pair_id].pop(claim.claim_id, None)
        if not self._held[claim.pair_id]:
            del self._held[claim.pair_id]
        if self._current.get((claim.person, claim.dataset), claim).claim_id == claim.claim_id:
            self._current.pop((claim.person, claim.dataset), None)

    def _answer(self, pair_id: str, answers: dict[str, Decision]) -> None:
        before = self._answered.get(pair_id, {})
        self._done.subtract((one.person, one.dataset) for one in before.values())
        self._done.update((one.person, one.dataset) for one in answers.values())
        self._given.subtract(list(before))
        self._given.update(list(answers))
        for queue in self._queues.values():
            queue.tally(pair_id, before, -1)
            queue.tally(pair_id, answers, 1)
        if answers:
            self._answered[pair_id] = answers
        else:
            self._answered.pop(pair_id, None)
