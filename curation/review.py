"""Review: the rules under which people judge pairs, blind, one at a time, and how disagreements are settled."""

from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from random import Random
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from curation.board import Entry, Queue
from curation.pairs import Pair
from curation.stats.accuracy import wilson
from curation.store.verdicts import Claim, Decision, Settlement, new_id
from curation.workspace import Workspace


class Verdict(StrEnum):
    """What a reviewer says of a pair, in the paper's six types."""

    SAME = "same"
    OPPOSITE = "opposite"
    VAGUE = "vague"
    TOXIC = "toxic"
    REPETITIVE = "repetitive"
    EMPTY = "empty"


class Choice(NamedTuple):
    """A button of the card: what it says and the key that presses it. A and B are sides, not labels."""

    name: str
    label: str
    key: str
    meaning: str


CHOICES = (
    Choice("A", "A is better", "1", "A answers the prompt better, or less badly"),
    Choice("B", "B is better", "2", "B answers the prompt better, or less badly"),
    Choice("vague", "Vague", "0", "no telling which is better: equal, unclear, or a prompt nobody can judge"),
    Choice("toxic", "Toxic", "T", "a response is insulting, hateful or dangerous, so that neither should be learned from"),
    Choice("repetitive", "Repetitive", "P", "a response says the same thing again and again"),
    Choice("empty", "Empty", "E", "a response is empty or holds nothing"),
)
TAGS = ("both good", "both bad", "wrong facts", "refusal", "off topic", "needs expertise", "broken text")


class Settings(BaseModel):
    """How a dataset is reviewed; the curator sets it, every change is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    overlap: int = Field(1, ge=1, le=20, description="distinct reviewers for each pair")
    control_share: float = Field(0.1, ge=0, le=0.9, description="share of unflagged pairs mixed in, to see what filters miss")
    gold_share: float = Field(0.05, ge=0, le=0.5, description="share of gold pairs mixed in, once there are any")
    blind: bool = Field(True, description="hide which side is labelled chosen until the answer is in")
    reasons: Literal["after", "before"] = Field("after", description="show the filters' reasons after or before the answer")
    least_claim_minutes: float = Field(5, gt=0, le=1440, description="a pair is held for a person at least this long")


class View(NamedTuple):
    """Which pairs a reviewer works through, and in which order."""

    order: Literal["suspicious", "random"] = "suspicious"
    pool: Literal["flagged", "all"] = "flagged"
    filter: str | None = None
    subset: str | None = None


FIRST_VIEW = View()
_AHEAD = 32  # pairs read at once: one query for many is most of what makes the next pair fast


class Card(NamedTuple):
    """A pair as it is put before one person. `a` and `b` are the responses in the order drawn for that person."""

    claim: Claim
    pair: Pair
    a: str
    b: str
    draft: tuple[str, list[str]]
    earlier: Decision | None  # what this person said of the pair before, when they opened it again


class Status(NamedTuple):
    """How far a person is: own answers in this dataset, pairs that still want them, median seconds a pair."""

    done: int
    left: int
    skipped: int
    pace: float | None


class Outcome(StrEnum):
    """What became of a press."""

    RECORDED = "recorded"
    OVER = "over"  # the claim was answered, skipped, or ran out and somebody else has the pair


def settings_of(workspace: Workspace, dataset: str) -> Settings:
    """The settings in force for a dataset."""
    stored = workspace.verdicts.settings(dataset)
    return Settings() if stored is None else Settings.model_validate_json(stored)


def change_settings(workspace: Workspace, dataset: str, settings: Settings, person: str) -> None:
    """Put new settings in force; queues are made anew, claims and answers stay."""
    workspace.pairs.dataset(dataset)
    workspace.verdicts.set_settings(dataset, settings.model_dump_json(), person, workspace.clock())


def next_card(
    workspace: Workspace,
    person: str,
    dataset: str,
    view: View = FIRST_VIEW,
    *,
    settings: Settings | None = None,
    again: bool = False,
) -> Card | None:
    """The pair this person should judge now; the one they hold already, if any. None when nothing is left."""
    settings = settings or settings_of(workspace, dataset)
    queue = _queue(workspace, dataset, view, settings)
    claim = workspace.board.next(person, dataset, queue, least=_least(settings), again=again)
    if claim is None:
        return None
    workspace.pairs.read_ahead(claim.pair_id, lambda: queue.after(claim.pair_id, _AHEAD))
    return _card(workspace, claim)


def decide(
    workspace: Workspace, claim_id: str, person: str, choice: str, *, note: str = "", tags: tuple[str, ...] = ()
) -> Outcome:
    """Record what a person pressed on a card, once. `choice` is the name of one of CHOICES.

    A second press, a press on a card that is no longer the person's, or another person's press records nothing.
    """
    if choice not in {one.name for one in CHOICES}:
        raise ValueError(f"choice is {choice!r}: expected one of {', '.join(one.name for one in CHOICES)}")
    claim = workspace.board.claim(claim_id)
    if claim is None:
        return Outcome.OVER
    verdict = verdict_of(choice, claim.chosen_shown)
    decision = workspace.board.decide(
        claim_id, person, lambda claim, at, seconds: _decision(claim, verdict, note, tags, at, seconds)
    )
    return Outcome.OVER if decision is None else Outcome.RECORDED


def verdict_of(choice: str, chosen_shown: str) -> Verdict:
    """What a choice says of the label, given the side on which the chosen response stood."""
    if choice in ("A", "B"):
        return Verdict.SAME if choice == chosen_shown else Verdict.OPPOSITE
    return Verdict(choice)


def choice_of(decision: Decision) -> str:
    """The name of the button a stored decision was made with."""
    if decision.verdict not in (Verdict.SAME, Verdict.OPPOSITE):
        return decision.verdict
    other = "B" if decision.chosen_shown == "A" else "A"
    return decision.chosen_shown if decision.verdict == Verdict.SAME else other


def skip(workspace: Workspace, claim_id: str) -> bool:
    """Give a pair back unanswered; the person is not handed it again unless they ask for skipped pairs."""
    return workspace.board.end(claim_id, "skipped")


def undo(workspace: Workspace, person: str, dataset: str) -> Card | None:
    """Take back the last decision and put its pair on the table again; None when there is none to take back."""
    claim = workspace.board.undo(person, dataset, least=_least(settings_of(workspace, dataset)))
    return None if claim is None else _card(workspace, claim)


def reopen(workspace: Workspace, person: str, dataset: str, pair_id: str) -> Card:
    """Put a pair this person decided on the table again; the earlier verdict stands until a new one is given."""
    workspace.pairs.pair(pair_id)  # an unknown one must not be claimed: the person could not get past it
    least = _least(settings_of(workspace, dataset))
    return _card(workspace, workspace.board.reopen(person, dataset, pair_id, least=least))


def save_draft(workspace: Workspace, claim_id: str, note: str, tags: tuple[str, ...]) -> None:
    """Keep a note that is being written."""
    workspace.verdicts.save_draft(claim_id, note, list(tags), workspace.clock())


def status(
    workspace: Workspace, person: str, dataset: str, view: View = FIRST_VIEW, *, settings: Settings | None = None
) -> Status:
    """Progress of a person in a queue."""
    settings = settings or settings_of(workspace, dataset)
    queue = _queue(workspace, dataset, view, settings)
    board = workspace.board
    return Status(board.done(person, dataset), queue.left(person), board.skipped(person, queue), board.pace(person))


def reasons(workspace: Workspace, dataset: str, pair_id: str) -> list[dict[str, Any]]:
    """What the filters say about a pair: filter, side, score, reason."""
    return workspace.flags.of_pair(dataset, pair_id)


# ---- gold pairs


def make_gold(workspace: Workspace, dataset: str, pair_id: str, answer: Verdict, person: str, *, swapped: bool = False) -> str:
    """Make a pair with a known answer part of the queue, as it stands or with its label turned round; returns its id.

    Raises ValueError when a swapped gold pair is wanted of an answer that names no better side.
    """
    pair = workspace.pairs.pair(pair_id)
    if swapped:
        turned = {Verdict.SAME: Verdict.OPPOSITE, Verdict.OPPOSITE: Verdict.SAME}
        if answer not in turned:
            raise ValueError(f"the answer is {answer.value!r}: only same or opposite can be swapped")
        pair, answer = pair.swapped(), turned[answer]
        workspace.pairs.put(pair)
    workspace.verdicts.add_gold(dataset, pair.pair_id, answer.value, swapped, person, workspace.clock())
    return pair.pair_id


def gold_of_settled(workspace: Workspace, dataset: str, person: str, *, wanted: int) -> int:
    """Make up to `wanted` gold pairs, every second one swapped, of pairs whose label is settled; returns how many.

    Settled are adjudicated pairs and pairs on which two reviewers or more agree, as same or opposite.
    """
    answers, known = settled_labels(workspace, dataset), workspace.verdicts.gold(dataset)
    free = sorted(pair_id for pair_id in answers if pair_id not in known)
    fresh = (one for one in free if workspace.pairs.pair(one).swapped().pair_id not in known)
    taken = list(islice(fresh, wanted))
    for number, pair_id in enumerate(taken):
        make_gold(workspace, dataset, pair_id, answers[pair_id], person, swapped=number % 2 == 0)
    return len(taken)


def settled_labels(workspace: Workspace, dataset: str) -> dict[str, Verdict]:
    """Pairs whose label is settled, as same or opposite: adjudicated ones, and those two reviewers or more agree on."""
    votes: dict[str, list[str]] = {}
    for decision in workspace.verdicts.standing(dataset):
        votes.setdefault(decision.pair_id, []).append(decision.verdict)
    answers = {pair_id: said[0] for pair_id, said in votes.items() if len(said) > 1 and len(set(said)) == 1}
    answers |= {one.pair_id: one.verdict for one in workspace.verdicts.settlements(dataset)}
    return {pair_id: Verdict(said) for pair_id, said in answers.items() if said in (Verdict.SAME, Verdict.OPPOSITE)}


# ---- adjudication


def settle(
    workspace: Workspace, dataset: str, pair_id: str, verdict: Verdict, person: str,
    *, note: str = "", seconds: float | None = None, instead_of: str | None = None,
) -> bool:  # fmt: skip
    """Store the verdict that settles a disagreement; a later one takes its place, both are kept.

    `instead_of` is the id of the settlement the person saw (None: they saw none). When another one stands by now,
    nothing is recorded and the answer is False.
    """
    now = workspace.clock()
    settlement = Settlement(new_id(), dataset, pair_id, person, verdict.value, note, seconds, now)
    return workspace.verdicts.settle(settlement, instead_of=instead_of)


# ---- inside


def _decision(claim: Claim, verdict: Verdict, note: str, tags: tuple[str, ...], at: datetime, seconds: float) -> Decision:
    about = (claim.claim_id, claim.dataset, claim.pair_id, claim.person)
    return Decision(*about, verdict, claim.kind, claim.chosen_shown, seconds, note, list(tags), at)


def _least(settings: Settings) -> timedelta:
    return timedelta(minutes=settings.least_claim_minutes)


def _card(workspace: Workspace, claim: Claim) -> Card:
    pair = workspace.pairs.pair(claim.pair_id)
    sides = (pair.chosen.text, pair.rejected.text)
    a, b = sides if claim.chosen_shown == "A" else sides[::-1]
    draft = workspace.verdicts.draft(claim.person, claim.pair_id)
    return Card(claim, pair, a, b, draft, workspace.board.answer(claim.person, claim.pair_id))


def _queue(workspace: Workspace, dataset: str, view: View, settings: Settings) -> Queue[Decision]:
    gold_known = workspace.verdicts.gold_generation
    key = (dataset, view, settings, workspace.flags.generation, gold_known)
    return workspace.board.queue(key, lambda: _make_queue(workspace, dataset, view, settings))


def _make_queue(workspace: Workspace, dataset: str, view: View, settings: Settings) -> Queue[Decision]:
    store = workspace.verdicts
    if view.pool == "all":
        found = store.everything(dataset, order=view.order, subset=view.subset)
        flagged = set(store.suspects(dataset, order="random", filter=None, subset=view.subset))
        order = [Entry(pair_id, "flagged" if pair_id in flagged else "open") for pair_id in found]
    else:
        suspects = store.suspects(dataset, order=view.order, filter=view.filter, subset=view.subset)
        share = settings.control_share
        wanted = -(-len(suspects) * share // (1 - share)) if share else 0
        control = store.unflagged(dataset, subset=view.subset, limit=int(wanted))
        order = _mixed([Entry(one, "flagged") for one in suspects], [Entry(one, "control") for one in control])
    gold = [Entry(pair_id, "gold") for pair_id in store.gold(dataset)]
    return Queue(order, gold, overlap=settings.overlap, gold_share=settings.gold_share)


def _mixed(suspects: list[Entry], control: list[Entry]) -> list[Entry]:
    """Control pairs spread evenly among the flagged ones, at places drawn once, so that nobody can tell which they are."""
    draw = Random("control")
    places = [((number + 0.5) / len(suspects), entry) for number, entry in enumerate(suspects)]
    places += [((number + draw.random()) / len(control), entry) for number, entry in enumerate(control)]
    return [entry for _, entry in sorted(places)]


def gold_scores(workspace: Workspace, dataset: str) -> list[dict[str, Any]]:
    """How each reviewer does on gold pairs, in all and on the swapped ones: right of seen, with a 95% Wilson interval."""
    return [
        {
            "reviewer": one["person"],
            "gold pairs": share(one["right"], one["seen"]),
            "swapped ones": share(one["swapped_right"], one["swapped_seen"]),
        }
        for one in workspace.verdicts.gold_scores(dataset)
    ]


def share(part: int, whole: int) -> str:
    """A share for people, with its n and its 95% Wilson interval."""
    if not whole:
        return "none yet"
    low, high = wilson(part, whole)
    return f"{part} of {whole} = {part / whole:.0%} (95% {low:.0%} to {high:.0%})"
