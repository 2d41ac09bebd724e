"""Disputed items of a study: which they are, what can be settled of them, and settling them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from curation import studies
from curation.store.answers import Answered, packed_marks, unpacked_marks
from curation.store.studies import Settlement
from curation.store.verdicts import new_id
from curation.study_design import (
    CHOICE_WORDS,
    CHOICES,
    COMPARISON,
    Choice,
    Design,
    Marks,
    agreement_on_item,
    choice_of_strength,
    questions,
)
from curation.workspace import Workspace


class Dispute(NamedTuple):
    """An item on which raters differ, and what each of them said."""

    item_id: str
    agreement: float
    answers: tuple[Answered, ...]
    settlement: Settlement | None


def disputed(workspace: Workspace, study: str, *, below: float = 1.0, settled: bool | None = None) -> list[Dispute]:
    """Items with two raters or more whose agreement is under `below`, the lowest first; settled ones only, or none of them."""
    design = studies.design_of(workspace, study)
    known, settlements = workspace.studies.items(study), workspace.studies.settlements(study)
    found = []
    for item_id, given in studies.by_item(workspace, study).items():
        agreement = agreement_on_item(design, {person: one.marks for person, one in given.items()})
        if known[item_id].kind != "item" or agreement is None or agreement >= below:
            continue
        if settled is None or settled == (item_id in settlements):
            answers = tuple(sorted(given.values(), key=lambda one: one.answered_at))
            found.append(Dispute(item_id, agreement, answers, settlements.get(item_id)))
    return sorted(found, key=lambda one: (one.agreement, -len(one.answers), one.item_id))


class Field(NamedTuple):
    """One thing to settle: an aspect of a response (`second` is ""), or which of two responses is better.

    With `words` the values are 1, 2, ..., else any number from `low` to `high`.
    """

    first: str
    second: str
    aspect: str
    words: tuple[str, ...]
    low: float
    high: float


def fields(workspace: Workspace, study: str, item_id: str) -> list[Field]:
    """What can be settled of an item: what the study asks, and what imported answers tell beyond that."""
    design, item = studies.design_of(workspace, study), workspace.studies.item(item_id)
    found = []
    for one in questions(design, item.responses):
        first, second = (one.response, "") if one.response else item.responses
        words = tuple(word or str(value) for value, word in enumerate(one.values, start=1))
        found.append(Field(first, second, one.aspect, words, 1.0, float(len(words))))
    scales = {one.name: one for one in design.found}
    asked = {(one.first, one.second, one.aspect) for one in found}
    answers = studies.by_item(workspace, study).get(item_id, {}).values()
    for response, aspect in dict.fromkeys((response, aspect) for one in answers for response, aspect, _ in one.marks.ratings):
        if (response, "", aspect) not in asked and aspect in scales:
            scale = scales[aspect]
            found.append(Field(response, "", aspect, scale.words, scale.low, scale.high))
    pairs = dict.fromkeys(tuple(sorted((left, right))) for one in answers for left, right, *_ in one.marks.preferences)
    if not design.compares or len(item.responses) != 2:
        found += [Field(first, second, COMPARISON, CHOICE_WORDS, 1.0, 4.0) for first, second in pairs]
    return found


def settled_values(design: Design, found: Sequence[Field], marks: Marks) -> dict[Field, float]:
    """The values a settlement gave, by field."""
    rated = {(response, aspect): value for response, aspect, value in marks.ratings}
    sides = {(left, right): (choice, strength) for left, right, choice, strength in marks.preferences}
    values: dict[Field, float] = {}
    for one in found:
        if not one.second and (one.first, one.aspect) in rated:
            values[one] = rated[one.first, one.aspect]
        elif (one.first, one.second) in sides:
            choice, strength = sides[one.first, one.second]
            values[one] = float(1 + CHOICES.index(choice)) if strength is None else 4.0 + strength
    return values


def settled_marks(design: Design, values: Mapping[Field, float]) -> Marks:
    """The marks of values by field. Raises ValueError when there is none."""
    if not values:
        raise ValueError("nothing is settled yet: give at least one value")
    ratings = tuple((one.first, one.aspect, float(value)) for one, value in values.items() if not one.second)
    preferences = tuple(
        (one.first, one.second, *_compared(design, one, int(value))) for one, value in values.items() if one.second
    )
    return Marks(ratings, preferences)


def _compared(design: Design, one: Field, value: int) -> tuple[Choice, int | None]:
    if design.comparison == "strength" and len(one.words) == 7:
        return choice_of_strength(value - 4), value - 4
    return CHOICES[value - 1], None


def settle(
    workspace: Workspace, study: str, item_id: str, marks: Marks, person: str,
    *, note: str = "", seconds: float | None = None, instead_of: str | None = None,
) -> bool:  # fmt: skip
    """Record what holds for a disputed item. False, and nothing recorded, when another settlement stands by now."""
    settlement = Settlement(
        new_id(), study, item_id, person, packed_marks(marks), note, seconds, workspace.clock()
    )  # fmt: skip
    return workspace.studies.settle(settlement, instead_of=instead_of)


def marks_of_settlement(settlement: Settlement) -> Marks:
    """What holds for a settled item."""
    return unpacked_marks(settlement.marks)
