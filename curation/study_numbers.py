"""Watching a study: how far it is, item by item and rater by rater; who hurries, who errs, which side and length win."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curation import people, rating, studies, study_disputes
from curation.stats import habits, ranking
from curation.stats.accuracy import Numbers
from curation.stats.figures import Figure
from curation.stats.shares import Share
from curation.store.answers import Answered
from curation.store.studies import Content, expected_of
from curation.study_design import Design, agreement_on_item
from curation.workspace import Workspace

_CHECKS = ("gold", "attention", "warm-up")
_SEED = 20240928


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
    """The counts of a study. Disputed are items whose raters agree less than the design asks for one more rater at."""
    design, answers = studies.design_of(workspace, study), studies.standing(workspace, study)
    by_item = studies.by_item(workspace, study)
    counts = []  # of each item: raters there are, raters there should be
    for item in workspace.studies.items(study).values():
        if item.kind == "item":
            given = by_item.get(item.item_id, {})
            counts.append((len(given), rating.wanted(design, given)))
    seconds = list(workspace.answers.spent(study).values())
    below = design.extra_below or 1.0
    return Totals(
        len(counts), sum(have >= wanted for have, wanted in counts), sum(have for have, _ in counts),
        sum(max(one) for one in counts), len({one.person for one in answers}),
        len(study_disputes.disputed(workspace, study, below=below)), len(workspace.studies.settlements(study)),
        median(seconds) if seconds else None, len(workspace.answers.skips(study)),
    )  # fmt: skip


def items(workspace: Workspace, study: str) -> list[ItemRow]:
    """Every item with how far it is, in the study's order."""
    design, contents = studies.design_of(workspace, study), _contents(workspace, study)
    answers, settled = studies.by_item(workspace, study), workspace.studies.settlements(study)
    spent: dict[str, list[float]] = defaultdict(list)
    for (item_id, _), seconds in workspace.answers.spent(study).items():
        spent[item_id].append(seconds)
    rows = []
    for item in workspace.studies.items(study).values():
        given = answers.get(item.item_id, {})
        times = spent.get(item.item_id)
        rows.append(
            ItemRow(
                item.item_id, _asked(item.name, contents[item.item_id]), item.subset, item.kind, len(given),
                rating.wanted(design, given) if item.kind == "item" else len(given),
                len(workspace.raters.holders(item.item_id)), _agreement(design, given), median(times) if times else None,
                item.item_id in settled,
            )
        )  # fmt: skip
    return rows


def raters(workspace: Workspace, study: str) -> list[RaterRow]:
    """Everybody who answered or skipped, the one who did most first."""
    by_rater: dict[str, list[Answered]] = defaultdict(list)
    for one in studies.standing(workspace, study):
        by_rater[one.person].append(one)
    skips: dict[str, list[datetime]] = defaultdict(list)
    for skip in workspace.answers.skips(study):
        skips[skip["person"]].append(skip["ended_at"])
    spent: dict[str, list[float]] = defaultdict(list)
    for (_, person), seconds in workspace.answers.spent(study).items():
        spent[person].append(seconds)
    same, contents = _same_as_others(workspace, study), _contents(workspace, study)
    rows = []
    for rater in {**by_rater, **skips}:
        answers = by_rater.get(rater, [])
        counting = [one for one in answers if one.kind not in _CHECKS]
        rows.append(
            RaterRow(
                rater, len(answers), rating.status(workspace, study, rater).left, len(skips.get(rater, ())),
                median(spent[rater]) if rater in spent else None,
                max([*(one.answered_at for one in answers), *skips.get(rater, ())]),
                _known(workspace, answers, "gold"), _known(workspace, answers, "attention"),
                habits.first_side(_first_won(counting)), habits.longer_side(*_lengths(contents, counting)[0]),
                _straight(counting), same.get(rater), rating.why_paused(workspace, study, rater),
            )
        )  # fmt: skip
    return sorted(rows, key=lambda one: (-one.done, one.rater))


def pace(workspace: Workspace, study: str) -> list[dict[str, Any]]:
    """Answers a day: date, rater, answers."""
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for one in studies.standing(workspace, study):
        if one.seconds is not None:
            counts[f"{one.answered_at:%Y-%m-%d}", one.person] += 1
    return [{"day": day, "rater": rater, "answers": count} for (day, rater), count in sorted(counts.items())]


class Habits(NamedTuple):
    """What all raters together do: how often the side shown first, and the longer side, won; ties do not count."""

    first_side: Figure
    longer: Figure


def all_habits(workspace: Workspace, study: str) -> Habits:
    """Position bias and length preference over everybody's comparisons, with intervals that redraw whole prompts."""
    answers = [one for one in studies.standing(workspace, study) if one.kind not in _CHECKS]
    items = workspace.studies.items(study)
    sided = [one for one in answers for _, _, choice, _ in one.marks.preferences if _seen(one) and choice in ("left", "right")]
    first = _first_won(answers).astype(np.float64)
    (left, right, outcome), prompts = _lengths(_contents(workspace, study), answers)
    longer = (outcome == 1.0) == (left > right)
    unequal = left != right
    return Habits(
        ranking.win_rate(first, np.array([items[one.item_id].prompt_id for one in sided], dtype=object), _rng()),
        ranking.win_rate(
            longer[unequal].astype(np.float64),
            np.array([items[one].prompt_id for one in prompts], dtype=object)[unequal],
            _rng(),
        ),
    )


# ---- inside


def _agreement(design: Design, given: dict[str, Answered]) -> float | None:
    return agreement_on_item(design, {person: one.marks for person, one in given.items()})


def _contents(workspace: Workspace, study: str) -> Mapping[str, Content]:
    return studies.kept(workspace, study, "contents", lambda: workspace.studies.contents(study))


def _asked(name: str, content: Content) -> str:
    asked = " ".join(content.prompt[-1].content.split())[:200] if content.prompt else ""
    return " ".join(part for part in (name, asked) if part)


def _known(workspace: Workspace, answers: list[Answered], kind: str) -> Share:
    """Of the items of this kind that could be checked, how many were answered as expected."""
    results = [
        rating.passes(expected_of(workspace.studies.item(one.item_id)), one.marks) for one in answers if one.kind == kind
    ]
    checked = [one for one in results if one is not None]
    return Share(sum(checked), len(checked))


def _seen(answer: Answered) -> bool:
    """Whether it is known in which order the responses were shown: of imported comparisons mostly it is not."""
    return bool(answer.shown)


def _first_won(answers: list[Answered]) -> NDArray[np.bool_]:
    won = [
        choice == "left"
        for one in answers
        for _, _, choice, _ in one.marks.preferences
        if _seen(one) and choice in ("left", "right")
    ]
    return np.array(won, dtype=np.bool_)


def _lengths(contents: Mapping[str, Content], answers: list[Answered]) -> tuple[Numbers, list[str]]:
    """Of each comparison that was decided: characters left and right and whether left won (rows), and its item."""
    rows, items = [], []
    for one in answers:
        for left, right, choice, _ in one.marks.preferences:
            texts = [contents[one.item_id].texts[side] for side in (left, right)]
            if choice in ("left", "right") and None not in texts:
                rows.append((*(len(text or "") for text in texts), float(choice == "left")))
                items.append(one.item_id)
    return np.array(rows, dtype=np.float64).reshape(-1, 3).T, items


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


def _rng() -> np.random.Generator:
    return np.random.default_rng(_SEED)  # the same answers give the same intervals
