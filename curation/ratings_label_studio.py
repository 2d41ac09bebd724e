"""Label Studio: the JSON export, a list of tasks with the annotations people made.

Followed: https://labelstud.io/guide/task_format (tasks, annotations, results), https://labelstud.io/tags/ (rating, number,
choices, pairwise, textarea), https://labelstud.io/templates/generative-pairwise-human-preference (prompt, answer1, answer2),
and, for what the pages leave open, of https://github.com/HumanSignal/label-studio: web/libs/editor/src/regions/Result.js
(which value a result of each type holds; pairwise: selected, left or right) and label_studio/tasks/serializers.py
(completed_by: a user's number or an object with the email).

Ours on top: from_name is the aspect; the data are called as tidy columns are; a rating of a task with two responses rates
the one its to_name names; what people wrote (textarea) is the note of everything else in their annotation. The lead_time
is the annotation's, so every row of it says the same seconds.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from curation.ratings_rows import (
    OVERALL,
    PreferenceRow,
    RatingRow,
    Row,
    Unused,
    aspect_of,
    chosen,
    columns_of,
    is_strength,
    moment_of,
    name_of,
    prompt_of,
    prompt_text,
    response_of,
    seconds_of,
    shortened,
    strength_of,
    value_of,
    whole,
)
from curation.tables import Record

_SAID = ("item", "prompt", "response", "generator", "left", "right", "left_generator", "right_generator", "subset", "kind")
_TEXTS = ("prompt", "response", "left", "right")
_WHOLE = ("rater", "seconds", "at", "note")  # of an annotation
HOLDS = frozenset({*_SAID, *_WHOLE, "aspect", "value", "choice"})
_VALUES = {"rating": "rating", "number": "number", "choices": "choices", "pairwise": "selected"}


def fits(record: Record) -> bool:
    """Whether this is a task with annotations."""
    return isinstance(record.get("data"), dict) and isinstance(record.get("annotations"), list)


def columns(records: Sequence[Record], mapping: Mapping[str, str]) -> dict[str, str]:
    """Field: the entry of a task's data that it is read from."""
    seen = (name for record in records if isinstance(record.get("data"), dict) for name in record["data"])
    return columns_of(dict.fromkeys(seen), mapping, _SAID)


def rows_of(line: int, record: Record, columns: Mapping[str, str]) -> Iterator[Row | Unused]:
    """Every result of every annotation of a task."""
    if not fits(record):
        raise ValueError("no data and annotations: expected a task of Label Studio's JSON export")
    task = _Task(line, record, columns)
    for annotation in record["annotations"]:
        try:
            yield from task.rows_of(annotation)
        except ValueError as error:
            yield Unused(line, str(error))


class _Task:
    """What the results of a task are about."""

    def __init__(self, line: int, record: Record, columns: Mapping[str, str]) -> None:
        self._line, self._columns, self._data = line, columns, record["data"]
        self._compares = all(columns.get(side) in self._data for side in ("left", "right"))
        self._item = name_of(self._cell("item")) or name_of(record.get("id"))
        self._prompt, self._said = prompt_of(self._cell("prompt")), (name_of(self._cell("subset")), name_of(self._cell("kind")))

    def rows_of(self, annotation: Any) -> Iterator[Row | Unused]:
        """The rows of one annotation; what one result lacks loses no other."""
        if not isinstance(annotation, dict) or not isinstance(annotation.get("result"), list):
            raise ValueError(f"an annotation is {shortened(annotation)}: expected an object with a result")
        if annotation.get("was_cancelled"):
            raise ValueError("an annotation was cancelled: the person skipped the task")
        rater = _rater(annotation.get("completed_by"))
        seconds, at = seconds_of(annotation.get("lead_time")), moment_of(annotation.get("created_at"))
        results = [result for result in annotation["result"] if isinstance(result, dict)]
        note = "\n".join(text for result in results if result.get("type") == "textarea" for text in _written(result))
        for result in results:
            if result.get("type") != "textarea":
                try:
                    row = self._row(result, rater)
                    yield row._replace(subset=self._said[0], seconds=seconds, at=at, note=note, kind=self._said[1])
                except ValueError as error:
                    yield Unused(self._line, str(error))

    def _row(self, result: Record, rater: str) -> Row:
        aspect, value = str(result.get("from_name") or OVERALL), _value(result)
        names = [name.strip() for name in str(result.get("to_name") or "").split(",")]
        of_sides = [side for side in ("left", "right") if [self._columns.get(side)] == names]
        if result["type"] != "pairwise" and (of_sides or not self._compares):
            side = of_sides[0] if of_sides else "response"
            generator = f"{side}_generator" if of_sides else "generator"
            return RatingRow(
                self._line, self._item, self._prompt, response_of(self._cell(side)), name_of(self._cell(generator)), rater,
                aspect, value_of(value),
            )  # fmt: skip
        if result["type"] == "rating":
            raise ValueError(f"{aspect!r} rates {', '.join(names)}: expected one of the two responses")
        strong = aspect_of(aspect)
        choice = chosen(value) if strong is None else chosen(None, value)
        sides, generators = self._sides(names)
        return PreferenceRow(self._line, self._item, self._prompt, *sides, *generators, rater, choice, strong or aspect)

    def _sides(self, names: list[str]) -> tuple[tuple[str | None, str | None], tuple[str, str]]:
        """The responses and generators compared: left is the one that to_name names first."""
        order = ("left", "right")
        known = [self._columns.get(side) for side in order]
        if len(names) == 2 and names != known and all(name in self._data for name in names):
            if names != known[::-1]:
                return (response_of(self._data[names[0]]), response_of(self._data[names[1]])), ("", "")
            order = ("right", "left")
        texts, generators = [self._cell(side) for side in order], [self._cell(f"{side}_generator") for side in order]
        return (response_of(texts[0]), response_of(texts[1])), (name_of(generators[0]), name_of(generators[1]))

    def _cell(self, field: str) -> Any:
        return self._data.get(self._columns[field]) if field in self._columns else None


def _rater(completed_by: Any) -> str:
    if isinstance(completed_by, dict):
        return name_of(completed_by.get("email")) or name_of(completed_by.get("id"))
    return name_of(completed_by)


def _written(result: Record) -> list[str]:
    value = result.get("value")
    text = value.get("text") if isinstance(value, dict) else None
    return [part for part in (text if isinstance(text, list) else [text]) if isinstance(part, str)]


def _value(result: Record) -> Any:
    kind, value = result.get("type"), result.get("value")
    if not isinstance(kind, str) or kind not in _VALUES or not isinstance(value, dict):
        raise ValueError(f"a result is of type {kind!r}: expected {', '.join(_VALUES)} or textarea")
    if "start" in value or result.get("item_index") is not None:
        raise ValueError(f"{result.get('from_name')!r} is about a part of the text: expected one about all of it")
    said = value.get(_VALUES[kind])
    if kind == "choices" and isinstance(said, list):
        if len(said) != 1:
            raise ValueError(f"{result.get('from_name')!r} is {shortened(said)}: expected one choice")
        return said[0]
    return said


def records_of(rows: Sequence[Row]) -> tuple[list[Record], list[str]]:
    """One task for what was rated or compared, with an annotation for each person's visit."""
    decided = all(row.choice in ("left", "right") for row in rows if isinstance(row, PreferenceRow))
    tasks: dict[tuple[Any, ...], Record] = {}
    visits: dict[tuple[Any, ...], Record] = {}
    for row in rows:
        said = {field: value for field, value in row._asdict().items() if field in _SAID}
        key = (type(row), *said.values())
        task = tasks.setdefault(key, {"data": _data(said), "annotations": [], "predictions": []})
        visit = (*key, *(getattr(row, field) for field in _WHOLE))
        if visit not in visits:
            visits[visit] = _annotation(row)
            task["annotations"].append(visits[visit])
        visits[visit]["result"].insert(len(visits[visit]["result"]) - bool(row.note), _result(row, decided))
    return list(tasks.values()), ["data", "annotations", "predictions"]


def _data(said: Mapping[str, Any]) -> Record:
    data = {**said, "prompt": prompt_text(said["prompt"])}
    return {field: value for field, value in data.items() if value is not None and (value != "" or field in _TEXTS)}


def _annotation(row: Row) -> Record:
    number = whole(row.rater)
    person: int | Record = number if isinstance(number, int) else {"email": number}
    wrote = {"from_name": "note", "to_name": _shown(row), "type": "textarea", "value": {"text": [row.note]}}
    at = row.at.isoformat() if isinstance(row.at, datetime) else None
    return {"completed_by": person, "result": [wrote] if row.note else [], "was_cancelled": False, "lead_time": row.seconds,
            "created_at": at}  # fmt: skip


def _shown(row: Row) -> str:
    return "response" if isinstance(row, RatingRow) else "left,right"


def _result(row: Row, decided: bool) -> Record:
    said = row.value if isinstance(row, RatingRow) else row.choice
    name, number = row.aspect, _number(said)
    if isinstance(row, PreferenceRow) and aspect_of(row.aspect) is not None:
        raise ValueError(f"an aspect is {row.aspect!r}, which the label-studio form cannot tell from a strength")
    if isinstance(row, PreferenceRow) and is_strength(said):
        name = strength_of(row.aspect)
    kind: str
    value: Record
    if number is not None:
        kind, value = "number", {"number": number}
    elif isinstance(row, PreferenceRow) and decided:
        kind, value = "pairwise", {"selected": said}
    else:
        kind, value = "choices", {"choices": [said]}
    return {"from_name": name, "to_name": _shown(row), "type": kind, "value": value}


def _number(said: str) -> int | float | None:
    """The number that is written exactly like this text, if there is one."""
    for kind in (int, float):
        try:
            number = kind(said)
        except ValueError:
            continue
        if str(number) == said and said not in ("nan", "inf", "-inf"):
            return number
    return None
