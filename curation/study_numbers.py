"""Watching a study: how far it is, item by item and rater by rater; who hurries, who errs, what is disputed; adjudicating."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from curation import people, rating, studies
from curation.stats import habits
from curation.stats.figures import Figure
from curation.stats.shares import Share
from curation.store.answers import Answered, packed_marks, unpacked_marks
from curation.store.studies import Settlement, expected_of
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


class Totals(NamedTuple):
    """How far a study is. `answers` are those on items that count, `wanted` how many there should be in the end."""

    items: int
    complete: int
    answers: int
    wanted: int
    raters: int
    disputed: int
    settled: int
    median_seconds: float | None
    skips: int


class ItemRow(NamedTuple):
    """One item: raters so far and wanted, who holds it, agreement 0 to 1 (None with fewer than two), median seconds."""

    item_id: str
    asked: str
    subset: str
    kind: str
    raters: int
    wanted: int
    held: int
    agreement: float | None
    seconds: float | None
    settled: bool


class RaterRow(NamedTuple):
    """One rater: what was done, how fast, how carefully. Shares carry their n; None where nothing was asked."""

    rater: str
    done: int
    left: int
    skipped: int
    seconds: float | None
    last: datetime
    gold: Share
    attention: Share
    first_side: Share
    longer: Share
    straight: habits.StraightLine
    same_as_others: Figure | None
    paused: str


def totals(workspace: Workspace, study: str) -> Totals:
    """The counts of a study."""
    rows = [one for one in items(workspace, study) if one.kind == "item"]
    answers = _standing(workspace, study)
    seconds = [one.seconds for one in answers if one.seconds is not None]
    return Totals(
        len(rows), sum(one.raters >= one.wanted for one in rows), sum(one.raters for one in rows),
        sum(max(one.raters, one.wanted) for one in rows), len({one.person for one in answers}),
        len(disputed(workspace, study)), len(workspace.studies.settlements(study)), median(seconds) if seconds else None,
        len(workspace.answers.skips(study)),
    )  # fmt: skip


def items(workspace: Workspace, study: str) -> list[ItemRow]:
    """Every item with how far it is, in the study's order."""
    design = studies.design_of(workspace, study)
    answers, settled = _by_item(workspace, study), workspace.studies.settlements(study)
    rows = []
    for item in workspace.studies.items(study).values():
        given = answers.get(item.item_id, {})
        seconds = [one.seconds for one in given.values() if one.seconds is not None]
        rows.append(
            ItemRow(
                item.item_id, _asked(workspace, item.item_id), item.subset, item.kind, len(given),
                rating.wanted(design, given) if item.kind == "item" else len(given),
                len(workspace.raters.holders(item.item_id)), _agreement(design, given),
                median(seconds) if seconds else None, item.item_id in settled,
            )
        )  # fmt: skip
    return rows


def raters(workspace: Workspace, study: str) -> list[RaterRow]:
    """Every rater, the one who did most first."""
    by_rater: dict[str, list[Answered]] = defaultdict(list)
    for one in _standing(workspace, study):
        by_rater[one.person].append(one)
    skips = [one["person"] for one in workspace.answers.skips(study)]
    same = _same_as_others(workspace, study)
    rows = []
    for rater, answers in by_rater.items():
        seconds = [one.seconds for one in answers if one.seconds is not None]
        counting = [one for one in answers if one.kind not in ("gold", "attention", "warm-up")]
        rows.append(
            RaterRow(
                rater, len(answers), rating.status(workspace, study, rater).left, skips.count(rater),
                median(seconds) if seconds else None, max(one.answered_at for one in answers),
                _known(workspace, answers, "gold"), _known(workspace, answers, "attention"), _first_side(counting),
                _longer(workspace, counting), _straight(counting), same.get(rater),
                rating.why_paused(workspace, study, rater),
            )
        )  # fmt: skip
    return sorted(rows, key=lambda one: (-one.done, one.rater))


def pace(workspace: Workspace, study: str) -> list[dict[str, Any]]:
    """Answers a day: date, rater, answers."""
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for one in _standing(workspace, study):
        if one.seconds is not None:
            counts[f"{one.answered_at:%Y-%m-%d}", one.person] += 1
    return [{"day": day, "rater": rater, "answers": count} for (day, rater), count in sorted(counts.items())]


class Habits(NamedTuple):
    """What all raters together do: the share of comparisons that the side shown first, and the longer side, won."""

    first_side: Share
    longer: Share


def all_habits(workspace: Workspace, study: str) -> Habits:
    """Position bias and length preference over everybody's comparisons; ties do not count."""
    answers = [one for one in _standing(workspace, study) if one.kind not in ("gold", "attention", "warm-up")]
    return Habits(_first_side(answers), _longer(workspace, answers))


# ---- disputed items


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
    for item_id, given in _by_item(workspace, study).items():
        agreement = _agreement(design, given)
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
    answers = _by_item(workspace, study).get(item_id, {}).values()
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


# ---- inside


def _by_item(workspace: Workspace, study: str) -> dict[str, dict[str, Answered]]:
    """Standing answers by item and rater."""
    found: dict[str, dict[str, Answered]] = defaultdict(dict)
    for one in _standing(workspace, study):
        found[one.item_id][one.person] = one
    return found


def _standing(workspace: Workspace, study: str) -> list[Answered]:
    return studies.kept(workspace, study, "standing", lambda: workspace.answers.standing(study))


def marks_of_settlement(settlement: Settlement) -> Marks:
    """What holds for a settled item."""
    return unpacked_marks(settlement.marks)


def _agreement(design: Design, given: dict[str, Answered]) -> float | None:
    return agreement_on_item(design, {person: one.marks for person, one in given.items()})


def _asked(workspace: Workspace, item_id: str) -> str:
    prompt = workspace.studies.content(item_id).prompt
    name = workspace.studies.item(item_id).name
    return " ".join(part for part in (name, " ".join(prompt[-1].content.split())[:200] if prompt else "") if part)


def _known(workspace: Workspace, answers: list[Answered], kind: str) -> Share:
    """Of the items of this kind that could be checked, how many were answered as expected."""
    results = [
        rating.passes(expected_of(workspace.studies.item(one.item_id)), one.marks) for one in answers if one.kind == kind
    ]
    checked = [one for one in results if one is not None]
    return Share(sum(checked), len(checked))


def _first_side(answers: list[Answered]) -> Share:
    won = [choice == "left" for one in answers for _, _, choice, _ in one.marks.preferences if choice in ("left", "right")]
    return habits.first_side(np.array(won, dtype=np.bool_))


def _longer(workspace: Workspace, answers: list[Answered]) -> Share:
    rows = []
    for one in answers:
        for left, right, choice, _ in one.marks.preferences:
            texts = workspace.studies.content(one.item_id).texts
            lengths = [len(texts[side] or "") for side in (left, right)]
            if all(lengths) and choice in ("left", "right"):
                rows.append((*lengths, float(choice == "left")))
    columns = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    return habits.longer_side(columns[0], columns[1], columns[2])


def _straight(answers: list[Answered]) -> habits.StraightLine:
    """Values in order of time: of ratings all of them, else the sides chosen, as they stood on the screen."""
    values = []
    for one in sorted(answers, key=lambda one: one.answered_at):
        values += [value for _, _, value in one.marks.ratings]
        if not one.marks.ratings:
            values += [float(("left", "right", "tie", "both bad").index(choice)) for _, _, choice, _ in one.marks.preferences]
    return habits.straight_line(np.array(values, dtype=np.float64))


def _same_as_others(workspace: Workspace, study: str) -> dict[str, Figure]:
    """Each rater against the rest, on the first thing the study asks: correlation for ratings, the same choice else."""
    found = people.tables(workspace, study)
    if not found:
        return {}
    table = next(iter(found.values()))
    rows = studies.kept(workspace, study, f"raters/{table.name}", lambda: people.by_rater(table))
    return {one.rater: one.same if one.correlation is None else one.correlation for one in rows}
