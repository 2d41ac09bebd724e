"""Rating: the rules under which people rate and compare the responses of a study, blind, one item at a time."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from enum import StrEnum
from statistics import median
from typing import Any, NamedTuple

from curation import studies
from curation.board import Entry, Queue
from curation.pairs import Turn, named
from curation.store.answers import Answered, StudyClaim
from curation.store.studies import Item, StudyEvent, expected_of
from curation.study_design import COMPARISON, Design, Marks, Question, agreement_on_item, letter, marks_of, questions
from curation.workspace import Workspace

_BLOCK = 20  # places of the common order within which each rater's own order is shuffled
_RECENT = 10  # answers over whose median time a rater is judged too fast


class Card(NamedTuple):
    """An item as it is put before one rater: texts in the order drawn for the rater, and what was answered so far.

    A text is None where ratings were imported without it. `version` counts the changes of the draft.
    """

    claim: StudyClaim
    item: Item
    design: Design
    prompt: tuple[Turn, ...]
    texts: tuple[str | None, ...]
    questions: tuple[Question, ...]
    values: dict[str, int]
    version: int
    note: str
    reasons: tuple[str, ...]
    earlier: Answered | None

    @property
    def asked(self) -> str:
        """Names the questions and their scales as this card has them."""
        return _asked(self.questions)

    @property
    def missing(self) -> list[Question]:
        """What is not answered yet."""
        return [one for one in self.questions if one.key not in self.values]


class Halt(NamedTuple):
    """Why a rater is given no item: "closed", "paused" or "done"; in words where there is something to say."""

    why: str
    words: str = ""


class Status(NamedTuple):
    """How far a rater is: own answers, items that still want them, skipped ones, median seconds an item."""

    done: int
    left: int
    skipped: int
    pace: float | None


class Outcome(StrEnum):
    """What became of a press."""

    RECORDED = "recorded"
    CLOSED = "closed"  # the study takes no more answers
    OVER = "over"  # the claim was answered, skipped, or ran out and somebody else has the item
    STALE = "stale"  # the card has changed since it was drawn: nothing was recorded
    INCOMPLETE = "incomplete"


class Feedback(NamedTuple):
    """What a rater is told after a warm-up item: whether it was as expected, what was not, and why."""

    passed: bool | None
    differences: tuple[str, ...]
    explanation: str


# ---- the next item


def next_card(workspace: Workspace, study: str, person: str, *, again: bool = False) -> Card | Halt:
    """The item this rater should answer now; the one they hold already, if any. A Halt when there is none."""
    if workspace.studies.closed(study):
        return Halt("closed", "This study is closed. Thank you.")
    paused = why_paused(workspace, study, person)
    if paused:
        return Halt("paused", paused)
    design = studies.design_of(workspace, study)
    if design.rates and not design.aspects:
        return Halt("imported", "This study holds imported ratings; it asks nothing here.")
    queue = _queue(workspace, study)
    claim = workspace.raters.next(person, study, queue, least=_least(design), again=again)
    return Halt("done") if claim is None else card_of(workspace, claim)


def card_of(workspace: Workspace, claim: StudyClaim) -> Card:
    """The card of a claim, with the draft the rater left; of an item answered before it still holds what was submitted."""
    design = studies.design_of(workspace, claim.study)
    item, content = workspace.studies.item(claim.item_id), workspace.studies.content(claim.item_id)
    asked = tuple(questions(design, claim.shown))
    _, version, text = workspace.answers.draft(claim.person, claim.item_id)
    draft = json.loads(text) if text else {}
    if draft.get("asked") != _asked(asked):
        draft.pop("values", None)  # they answered other questions: the design was changed
    values = {key: value for key, value in draft.get("values", {}).items() if _fits(asked, key, value)}
    if draft and list(claim.shown) != draft.get("shown"):
        values.pop(COMPARISON, None)  # it was said of another order
    earlier = workspace.raters.answer(claim.person, claim.item_id)
    texts = tuple(content.texts[one] for one in claim.shown)
    words = draft.get("note", ""), tuple(draft.get("reasons", ()))
    return Card(claim, item, design, content.prompt, texts, asked, values, version, *words, earlier)


def status(workspace: Workspace, study: str, person: str) -> Status:
    """Progress of a rater."""
    queue = _queue(workspace, study)
    board = workspace.raters
    return Status(board.done(person, study), queue.left(person), board.skipped(person, queue), board.pace(person))


# ---- what a rater presses


def press(
    workspace: Workspace, claim_id: str, person: str, version: int, key: str, value: int, *, asked: str | None = None
) -> Outcome:
    """Keep one value in the draft, if the draft is still as it was when the card was drawn (`version`).

    A second press on a card that has moved on would answer the next question unseen: it records nothing. Nor does a press
    on a card whose questions were changed since it was drawn (`asked`, as the card has it).
    """
    claim = _claim(workspace, claim_id, person)
    if claim is None:
        return Outcome.OVER
    card = card_of(workspace, claim)
    if asked is not None and asked != card.asked:
        return Outcome.STALE
    if not _fits(card.questions, key, value):
        raise ValueError(f"{key} = {value}: no such question or value on this item")
    return _save(workspace, card, version, values={**card.values, key: value})


def write(workspace: Workspace, claim_id: str, person: str, note: str | None, reasons: Sequence[str] | None) -> Outcome:
    """Keep the note and the reasons ticked so far; None leaves what was kept before."""
    claim = _claim(workspace, claim_id, person)
    if claim is None:
        return Outcome.OVER
    card = card_of(workspace, claim)
    note = card.note if note is None else note
    reasons = card.reasons if reasons is None else tuple(reasons)
    if (note, reasons) == (card.note, card.reasons):
        return Outcome.RECORDED
    return _save(workspace, card, card.version, note=note, reasons=reasons, step=0)


def submit(workspace: Workspace, claim_id: str, person: str, *, version: int | None = None) -> Outcome:
    """Record the drafted answer of this claim, once. Nothing is recorded while a question is open.

    With `version` only if the draft is still as the card showed it: another tab may have changed it.
    """
    claim = _claim(workspace, claim_id, person)
    if claim is None:
        return Outcome.OVER
    if workspace.studies.closed(claim.study):
        return Outcome.CLOSED
    card = card_of(workspace, claim)
    if version is not None and version != card.version:
        return Outcome.STALE
    if card.missing or not card.questions:
        return Outcome.INCOMPLETE
    marks = marks_of(card.design, claim.shown, card.values)
    answer = workspace.raters.decide(
        claim_id, person, lambda held, at, seconds: _answered(held, marks, card.note, card.reasons, at, seconds)
    )
    if answer is None:
        return Outcome.OVER
    with suppress(OSError):  # the answer is on disk; where the pause finds no room, the next answer pauses
        _pause_if_due(workspace, card.design, answer)
    return Outcome.RECORDED


def skip(workspace: Workspace, claim_id: str, person: str, why: str = "") -> bool:
    """Give an item back unanswered, with the reason; the rater is not handed it again unless they ask for skipped ones."""
    claim = _claim(workspace, claim_id, person)
    if claim is None:
        return False
    said = [why.strip(), card_of(workspace, claim).note.strip()]
    if not workspace.raters.end(claim_id, "skipped"):
        return False
    if any(said):
        workspace.answers.why_skipped(claim_id, ": ".join(one for one in said if one))
    return True


def undo(workspace: Workspace, study: str, person: str) -> Card | None:
    """Take back the last answer and put its item on the table again; None when there is none to take back."""
    if workspace.studies.closed(study):
        return None
    claim = workspace.raters.undo(person, study, least=_least(studies.design_of(workspace, study)))
    return None if claim is None else card_of(workspace, claim)


def reopen(workspace: Workspace, study: str, person: str, item_id: str) -> Card | None:
    """Put an item this rater answered on the table again; the earlier answer stands until a new one is given.

    None for an item they have no answer to in this study: whether that wants one more rater is for the queue to say.
    """
    mine, held = workspace.raters.answer(person, item_id), workspace.raters.current(person, study)
    if workspace.studies.item(item_id).study != study or (mine is None and (held is None or held.item_id != item_id)):
        return None
    least = _least(studies.design_of(workspace, study))
    return card_of(workspace, workspace.raters.reopen(person, study, item_id, least=least))


def in_words(workspace: Workspace, answer: Answered) -> str:
    """An answer for its rater: what was said of which response as it was shown, the note, and what was asked."""
    names = {response: letter(place) if len(answer.shown) > 1 else "" for place, response in enumerate(answer.shown)}
    said = [f"{names[response]} {aspect} {value:g}".strip() for response, aspect, value in answer.marks.ratings]
    for left, right, choice, _ in answer.marks.preferences:
        side = {"left": left, "right": right}.get(choice)
        said.append(choice if side is None else f"{names[side]} is better")
    prompt = workspace.studies.content(answer.item_id).prompt
    asked = prompt[-1].content if prompt else ""
    return " · ".join(part for part in (", ".join(said), answer.note, " ".join(asked.split())) if part)


# ---- known answers


def passes(expected: Mapping[str, Any], marks: Marks) -> bool | None:
    """Whether marks are as expected; None where nothing they hold was expected.

    `better` names a response, "tie" or "both bad"; of ratings alone it asks that no other response has a higher mean.
    `ratings` give the lowest and the highest value that is right, by response and aspect.
    """
    told = _differences(expected, marks, {})
    return None if told is None else not told


def feedback(workspace: Workspace, answer: Answered) -> Feedback | None:
    """What to tell a rater who answered a warm-up item; None for any other item."""
    if answer.kind != "warm-up":
        return None
    item = workspace.studies.item(answer.item_id)
    names = {response: letter(place) for place, response in enumerate(answer.shown)}
    told = _differences(expected_of(item), answer.marks, names)
    return Feedback(None if told is None else not told, tuple(told or ()), item.explanation)


def last_feedback(workspace: Workspace, study: str, person: str) -> Feedback | None:
    """What to tell a rater of the warm-up item they answered last; None when their last answer was to another item."""
    last = workspace.answers.history(person, study, limit=1)
    return feedback(workspace, last[0]) if last else None


def _differences(expected: Mapping[str, Any], marks: Marks, names: Mapping[str, str]) -> list[str] | None:
    """What is not as expected, in words; None when nothing could be compared."""
    told, compared = [], 0
    given = {(response, aspect): value for response, aspect, value in marks.ratings}
    for one in expected.get("ratings", ()):
        value = given.get((one["response"], one["aspect"]))
        if value is None:
            continue
        compared += 1
        if not one["low"] <= value <= one["high"]:
            right = f"{one['low']:g}" if one["low"] == one["high"] else f"{one['low']:g} to {one['high']:g}"
            told.append(f"{one['aspect']} of {names.get(one['response'], 'the response')}: {value:g}, expected {right}")
    better = expected.get("better")
    if better and _can_say(better, marks):
        compared += 1
        said = _preferred(marks)
        if said != better if isinstance(said, str) else better not in said:
            told.append(f"expected {names.get(better, better)} to be better" if better in names else f"expected {better}")
    return told if compared else None


def _can_say(better: str, marks: Marks) -> bool:
    """Whether marks of this kind can name the expected one: ratings and strengths have no way to say "both bad"."""
    choices = any(strength is None for *_, strength in marks.preferences)
    return choices if better == "both bad" else bool(marks.preferences or marks.ratings)


def _preferred(marks: Marks) -> str | set[str]:
    """The response preferred, or "tie" or "both bad"; of ratings alone all responses with the highest mean, and "tie"."""
    for left, right, choice, _ in marks.preferences:
        return {"left": left, "right": right}.get(choice, choice)
    by_response: dict[str, list[float]] = {}
    for response, _, value in marks.ratings:
        by_response.setdefault(response, []).append(value)
    means = {response: sum(values) / len(values) for response, values in by_response.items()}
    best = {response for response, mean in means.items() if mean == max(means.values())}
    return best | {"tie"} if len(best) > 1 else best


# ---- pauses


def why_paused(workspace: Workspace, study: str, person: str) -> str:
    """Why a rater is paused, in a sentence for them; "" when they are not."""
    last = [one for one in workspace.studies.events(study, kinds=("paused", "let on")) if one.concerns == person]
    return last[-1].detail if last and last[-1].kind == "paused" else ""


def _pause_if_due(workspace: Workspace, design: Design, answer: Answered) -> None:
    if not design.pause_seconds and not design.pause_gold:
        return
    study, person = answer.study, answer.person
    since = [one.at for one in workspace.studies.events(study, kinds=("let on",)) if one.concerns == person]
    mine = [one for one in workspace.answers.history(person, study, limit=100_000) if not since or one.answered_at > since[-1]]
    spent = workspace.answers.spent(study, person)  # looking at an answer once more is no haste
    seconds = [spent[one.item_id, person] for one in mine[:_RECENT] if (one.item_id, person) in spent]
    why = ""
    if design.pause_seconds and len(seconds) == _RECENT and median(seconds) < design.pause_seconds:
        why = f"Your last {_RECENT} answers took {median(seconds):.1f} s each, which is faster than the study allows."
    failed = sum(passes(expected_of(workspace.studies.item(one.item_id)), one.marks) is False for one in mine if _checked(one))
    if design.pause_gold and failed >= design.pause_gold:
        why = f"{failed} of your answers to items with a known answer were not as expected."
    if why:
        words = f"{why} Please ask whoever runs the study; nothing you answered is lost."
        workspace.studies.record(StudyEvent(study, "paused", person, words, "the pause rules", workspace.clock()))


def _checked(answer: Answered) -> bool:
    return answer.kind in ("gold", "attention")


# ---- inside


def _claim(workspace: Workspace, claim_id: str, person: str) -> StudyClaim | None:
    claim = workspace.raters.claim(claim_id)
    return claim if claim is not None and claim.person == person else None


def _asked(asked: Sequence[Question]) -> str:
    """Names the questions and their scales, in whichever order the responses are shown."""
    return named("asked", *sorted("\n".join((one.key, one.text, *one.values)) for one in asked))


def _fits(asked: Sequence[Question], key: str, value: object) -> bool:
    return any(one.key == key and isinstance(value, int) and 1 <= value <= len(one.values) for one in asked)


def _save(
    workspace: Workspace, card: Card, version: int, *, values: Mapping[str, int] | None = None, note: str | None = None,
    reasons: tuple[str, ...] | None = None, step: int = 1,
) -> Outcome:  # fmt: skip
    draft = {
        "shown": card.claim.shown, "asked": _asked(card.questions), "values": card.values if values is None else values,
        "note": card.note if note is None else note, "reasons": card.reasons if reasons is None else reasons,
    }  # fmt: skip
    saved = workspace.answers.save_draft(
        card.claim, json.dumps(draft, ensure_ascii=False), workspace.clock(), instead_of=version, version=version + step
    )
    return Outcome.RECORDED if saved else Outcome.STALE


def _answered(claim: StudyClaim, marks: Marks, note: str, reasons: tuple[str, ...], at: datetime, seconds: float) -> Answered:
    about = (claim.claim_id, claim.study, claim.item_id, claim.person, claim.kind, claim.shown)
    return Answered(*about, marks, seconds, note, reasons, at)


def _least(design: Design) -> timedelta:
    return timedelta(minutes=design.least_claim_minutes)


def wanted(design: Design, answers: Mapping[str, Answered]) -> int:
    """How many raters an item should have: the overlap, and one more while those who answered agree too little."""
    have = len(answers)
    if have < design.overlap or have >= design.most:
        return max(have, design.overlap)
    agreement = agreement_on_item(design, {person: one.marks for person, one in answers.items()})
    return have + 1 if agreement is not None and agreement < design.extra_below else have


def _queue(workspace: Workspace, study: str) -> Queue[Answered]:
    key = (study, workspace.studies.generation)
    return workspace.raters.queue(key, lambda: _make_queue(workspace, study))


def _make_queue(workspace: Workspace, study: str) -> Queue[Answered]:
    design = studies.design_of(workspace, study)  # not an earlier one: the queue is kept as that of this generation
    kinds: dict[str, list[Entry]] = {"item": [], "gold": [], "attention": [], "warm-up": []}
    for item in workspace.studies.items(study).values():
        if item.given and questions(design, item.responses):  # an import may bring items of which there is nothing to show
            kinds[item.kind].append(Entry(item.item_id, item.kind))

    return Queue(
        kinds["item"], [*kinds["gold"], *kinds["attention"]], overlap=design.overlap, gold_share=design.gold_share,
        first=kinds["warm-up"], block=_BLOCK, wants=lambda item, answers: wanted(design, answers), gold_counts=True,
    )  # fmt: skip
