"""Argilla 2: records as `Dataset.records.to_json`, `to_list` and `to_dict` write them, and the flat layout of a hub dataset.

Followed: https://docs.argilla.io/latest/how_to_guides/import_export/, .../reference/argilla/records/records/ and, for the
keys, argilla/src/argilla/records/_io/_generic.py and _resource.py of https://github.com/argilla-io/argilla:
nested `{"id", "fields", "metadata", "responses": {QUESTION: [{"value", "user_id"}]}}`, flat `QUESTION.responses`,
`QUESTION.responses.users`, `QUESTION.responses.status`. Ours on top: the question's name is the aspect; the fields (and
metadata) are called as tidy columns are; a record with a left and a right response holds preferences; a question called
strength, or ending in _strength, is answered with -3 to 3.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from curation.ratings_rows import (
    PreferenceRow,
    RatingRow,
    Row,
    Unused,
    aspect_of,
    chosen,
    columns_of,
    is_strength,
    name_of,
    prompt_of,
    prompt_text,
    response_of,
    shortened,
    strength_of,
    value_of,
    whole,
)
from curation.tables import Record

_SAID = ("item", "prompt", "response", "generator", "left", "right", "left_generator", "right_generator", "subset", "kind")
_FIELDS = ("prompt", "response", "left", "right")  # the others of these stand in the metadata
HOLDS = frozenset({*_SAID, "rater", "aspect", "value", "choice"})
_ANSWERS = ".responses"
_Answer = tuple[str, Any, Any, Any]  # question, value, user, status


def fits(record: Record) -> bool:
    """Whether this is a record of Argilla's, nested or flat."""
    nested = isinstance(record.get("fields"), dict) and isinstance(record.get("responses"), dict)
    return nested or any(name.endswith(_ANSWERS) and f"{name}.users" in record for name in record)


def columns(records: Sequence[Record], mapping: Mapping[str, str]) -> dict[str, str]:
    """Field: the record's field, or entry of its metadata, that it is read from."""
    return columns_of(dict.fromkeys(name for record in records for name in _said(record)), mapping, _SAID)


def rows_of(line: int, record: Record, columns: Mapping[str, str]) -> Iterator[Row | Unused]:
    """Every answer to every question of a record."""
    if isinstance(record.get("fields"), dict) and not isinstance(record.get("responses"), dict):
        raise ValueError(f"the responses are {shortened(record.get('responses'))}: expected an object of questions")
    said = _said(record)

    def cell(field: str) -> Any:
        return said.get(columns[field]) if field in columns else None

    item = name_of(cell("item")) or name_of(record.get("id"))
    prompt, subset, kind = prompt_of(cell("prompt")), name_of(cell("subset")), name_of(cell("kind"))
    sides = response_of(cell("left")), response_of(cell("right"))
    generators = name_of(cell("left_generator")), name_of(cell("right_generator"))
    rated = response_of(cell("response")), name_of(cell("generator"))
    for question, value, user, status in _answers(record):
        try:
            if status not in (None, "submitted"):
                raise ValueError(f"the answer to {question!r} is {status}: only submitted ones count")
            rater = "" if user == "None" else name_of(user)  # str(None) is how Argilla writes that it does not know
            if None in sides:
                yield RatingRow(line, item, prompt, *rated, rater, question, value_of(value), subset=subset, kind=kind)
                continue
            aspect, choice = _compared(question, value)
            yield PreferenceRow(line, item, prompt, *sides, *generators, rater, choice, aspect, subset=subset, kind=kind)
        except ValueError as error:
            yield Unused(line, str(error))


def records_of(rows: Sequence[Row]) -> tuple[list[Record], list[str]]:
    """One record for what was rated or compared, with everyone's answers, as `Dataset.records.from_json` takes them."""
    records: dict[tuple[Any, ...], Record] = {}
    for row in rows:
        said: dict[str, Any] = {field: value for field, value in row._asdict().items() if field in _SAID}
        key = (type(row), *said.values())
        record = records.setdefault(key, _record({**said, "prompt": prompt_text(row.prompt)}))
        question, value = _asked(row)
        record["responses"].setdefault(question, []).append({"value": value, "user_id": row.rater})
    return list(records.values()), ["id", "fields", "metadata", "suggestions", "responses", "vectors", "_server_id"]


def _said(record: Record) -> dict[str, Any]:
    """All that a record says beside its answers: its fields and metadata, by name."""
    if isinstance(record.get("fields"), dict):
        metadata = record.get("metadata")
        return {**(metadata if isinstance(metadata, dict) else {}), **record["fields"]}
    return {name: value for name, value in record.items() if "." not in name}


def _answers(record: Record) -> Iterator[_Answer]:
    nested = record.get("responses")
    if isinstance(nested, dict):
        for question, given in nested.items():
            if not isinstance(given, list) or not all(isinstance(answer, dict) for answer in given):
                raise ValueError(f"the answers to {question!r} are {shortened(given)}: expected a list of value and user_id")
            yield from ((question, answer.get("value"), answer.get("user_id"), answer.get("status")) for answer in given)
        return
    for name, values in record.items():
        if name.endswith(_ANSWERS) and values:
            users, states = record.get(f"{name}.users") or [], record.get(f"{name}.status")
            states = states or [None] * (len(values) if isinstance(values, list) else 0)
            lists = isinstance(values, list) and isinstance(users, list) and isinstance(states, list)
            if not lists or not len(values) == len(users) == len(states):
                raise ValueError(f"{name} is {shortened(values)} of {shortened(users)}: expected two lists of one length")
            yield from ((name.removesuffix(_ANSWERS), *answer) for answer in zip(values, users, states, strict=True))


def _compared(question: str, value: Any) -> tuple[str, str]:
    """The aspect and the choice of an answer about two responses."""
    aspect = aspect_of(question)
    return (question, chosen(value)) if aspect is None else (aspect, chosen(None, value))


def _asked(row: Row) -> tuple[str, int | str]:
    """The question and the answer of a row; a whole number is written as one."""
    if isinstance(row, RatingRow):
        return row.aspect, whole(row.value)
    if aspect_of(row.aspect) is not None:
        raise ValueError(f"an aspect is {row.aspect!r}, which the argilla form cannot tell from a question of strength")
    return (strength_of(row.aspect), int(row.choice)) if is_strength(row.choice) else (row.aspect, row.choice)


def _record(said: Mapping[str, Any]) -> Record:
    def given(names: Iterable[str]) -> Record:
        return {name: said[name] for name in names if said.get(name) not in (None, "")}

    fields = {name: said[name] for name in _FIELDS if said.get(name) is not None}
    metadata = given(name for name in _SAID if name not in (*_FIELDS, "item"))
    return {"id": said["item"] or None, "fields": fields, "metadata": metadata, "suggestions": {}, "responses": {},
            "vectors": {}, "_server_id": None}  # fmt: skip
