"""Studies: set one up, change what may be changed, add items, close and reopen; every step is an event that stays."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from curation.pairs import prompt_id_of, response_id_of
from curation.store.answers import Answered
from curation.store.studies import NewItem, StudyEvent
from curation.study_design import READY, Aspect, Design, changes, check_widens
from curation.workspace import Workspace

NAME_LENGTH = 80
T = TypeVar("T")


class Study(NamedTuple):
    """A study as a list shows it. `items` are those that count, `to_all` the gold, attention and warm-up items."""

    study: str
    design: Design
    items: int
    to_all: int
    answers: int
    raters: int
    closed: bool
    created_at: Any


def create(workspace: Workspace, study: str, design: Design, person: str) -> None:
    """A new study without items. Raises ValueError for a name that cannot be used or is taken."""
    name = study.strip()
    if not name or len(name) > NAME_LENGTH or not name.isprintable() or "/" in name:
        raise ValueError(f"the name {study!r} cannot be used: expected up to {NAME_LENGTH} characters without '/'")
    workspace.studies.create(name, design.model_dump_json(), person, workspace.clock())


def design_of(workspace: Workspace, study: str) -> Design:
    """The design in force."""
    return workspace.studies.design(study, Design.model_validate_json)


def frozen(workspace: Workspace, study: str) -> bool:
    """Whether an answer was ever given in the study, also if it was taken back."""
    workspace.studies.check(study)
    return workspace.answers.count(study) > 0


def change(workspace: Workspace, study: str, design: Design, person: str) -> dict[str, tuple[object, object]]:
    """Put a new design in force; returns what differs. Raises ValueError when answers forbid the change."""
    old = design_of(workspace, study)
    different = changes(old, design)
    if not different:
        return {}
    with workspace.raters.quiet() as answering:  # no first answer comes in between the look and the change
        if answering or frozen(workspace, study):
            check_widens(old, design)
        _check_asked(design, ((one.item_id, one.responses) for one in workspace.studies.items(study).values()))
        workspace.studies.record(StudyEvent(study, "design", "", design.model_dump_json(), person, workspace.clock()))
    return different


def add_items(workspace: Workspace, study: str, items: Sequence[NewItem], person: str, *, words: str) -> int:
    """Add items; those the study has already are left alone. Returns how many are new. `words` say where they are from."""
    workspace.studies.check(study)
    if not items:
        raise ValueError(f"there is no item to add: {words}")
    check_items(design_of(workspace, study), items)
    kinds = {kind: sum(one.kind == kind for one in items) for kind in dict.fromkeys(one.kind for one in items)}
    detail = json.dumps({"from": words, "items": kinds}, ensure_ascii=False)
    return workspace.studies.add_items(study, items, StudyEvent(study, "items", "", detail, person, workspace.clock()))


def close(workspace: Workspace, study: str, person: str) -> None:
    """Take no more answers. What was answered stays; drafts stay too."""
    _record(workspace, study, "closed", person)


def reopen(workspace: Workspace, study: str, person: str) -> None:
    """Take answers again."""
    _record(workspace, study, "reopened", person)


def let_on(workspace: Workspace, study: str, rater: str, person: str) -> None:
    """Let a paused rater go on; the pause rules count anew from here."""
    _record(workspace, study, "let on", person, concerns=rater)


def kept(workspace: Workspace, study: str, name: str, make: Callable[[], T]) -> T:
    """What `make` gives, kept in memory until the study changes: the bootstrap of a large study takes seconds."""
    now = (workspace.answers.mark(study), workspace.studies.generation)
    key = f"study/{study}/{name}"
    held = workspace.held.get(key)
    if held is None or held[0] != now:
        held = (now, make())
        workspace.held[key] = held
    found: T = held[1]
    return found


def standing(workspace: Workspace, study: str) -> list[Answered]:
    """The answers that stand in a study, kept until it changes."""
    return kept(workspace, study, "standing", lambda: workspace.answers.standing(study))


def by_item(workspace: Workspace, study: str) -> dict[str, dict[str, Answered]]:
    """The same by item and rater."""
    found: dict[str, dict[str, Answered]] = {}
    for one in standing(workspace, study):
        found.setdefault(one.item_id, {})[one.person] = one
    return found


def all_studies(workspace: Workspace) -> list[Study]:
    """Every study, the oldest first."""
    found = []
    for name, _, created_at in workspace.studies.all():
        items = workspace.studies.items(name).values()
        count = sum(one.kind == "item" for one in items)
        answers, raters = workspace.answers.tally(name)
        closed = workspace.studies.closed(name)
        found.append(Study(name, design_of(workspace, name), count, len(items) - count, answers, raters, closed, created_at))
    return found


def record_of(workspace: Workspace, study: str) -> list[dict[str, str]]:
    """What happened to a study, for people: when, who, what."""
    lines, before = [], None
    for event in workspace.studies.events(study):
        what = event.kind + (f": {event.concerns}" if event.concerns else "")
        if event.kind == "design":
            design = Design.model_validate_json(event.detail)
            what = (
                "created" if before is None else "; ".join(_told(name, *pair) for name, pair in changes(before, design).items())
            )
            before = design
        elif event.kind == "items":
            detail = json.loads(event.detail)
            counts = ", ".join(f"{count} {kind}" for kind, count in detail["items"].items())
            what = f"items added: {counts}; {detail['from']}"
        elif event.detail:
            what += f" ({event.detail})"
        lines.append({"when": f"{event.at:%Y-%m-%d %H:%M}", "who": event.person, "what": what})
    return lines


def aspects_named(names: Sequence[str], *, points: int | None = None) -> tuple[Aspect, ...]:
    """Aspects by name: the ready ones, and others with a plain question; all on a scale of `points` where it is given."""
    found = []
    for name in names:
        one = READY.get(name) or Aspect(name=name, question=f"How would you rate its {name}?")
        found.append(one if points is None else one.model_copy(update={"points": points}))
    return tuple(Aspect.model_validate(one.model_dump()) for one in found)


def aspect_rows(aspects: Sequence[Aspect]) -> list[dict[str, Any]]:
    """Aspects as rows of a table that people edit: name, question, points, and the words with a bar between them."""
    return [
        {"name": one.name, "question": one.question, "points": one.points, "words": " | ".join(one.anchors)} for one in aspects
    ]


def aspects_of_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The plain values of the aspects that such rows tell of; rows without a name are left out."""
    return [
        {
            "name": str(one["name"]).strip(), "question": one.get("question") or "", "points": one.get("points") or 5,
            "anchors": [word.strip() for word in (one.get("words") or "").split("|") if word.strip()],
        }
        for one in rows
        if str(one.get("name") or "").strip()
    ]  # fmt: skip


def design_from(values: dict[str, Any]) -> Design:
    """A design of plain values. Raises ValueError with one sentence that names what is wrong."""
    try:
        return Design.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = str(first["msg"]).removeprefix("Value error, ")
        raise ValueError(f"{where + ': ' if where else ''}{message}, got {first['input']!r}" if where else message) from None


def check_items(design: Design, items: Sequence[NewItem]) -> None:
    """Raises ValueError when nothing would be asked of an item under this design."""
    _check_asked(design, ((one.name or one.item_id, _responses(one)) for one in items))


def _responses(item: NewItem) -> list[str]:
    prompt_id = prompt_id_of(item.prompt)
    return list(dict.fromkeys(response_id_of(prompt_id, one.response) for one in item.responses))


def _check_asked(design: Design, items: Iterable[tuple[str, Sequence[str]]]) -> None:
    """Raises ValueError when nothing would be asked of an item: a rater could only submit nothing."""
    if design.rates:
        return
    for name, responses in items:
        if len(responses) != 2:
            raise ValueError(f"item {name!r} has {len(responses)} different responses: expected 2 to compare")


def _record(workspace: Workspace, study: str, kind: str, person: str, *, concerns: str = "", detail: str = "") -> None:
    workspace.studies.check(study)
    workspace.studies.record(StudyEvent(study, kind, concerns, detail, person, workspace.clock()))


def _told(name: str, before: object, after: object) -> str:
    return f"{name}: {_short(before)} → {_short(after)}"


def _short(value: object) -> str:
    words = " ".join(str(value).split())
    return words if len(words) <= 60 else words[:59] + "…"
