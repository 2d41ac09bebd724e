"""Human ratings and preferences in and out of files: tidy tables, Argilla, Label Studio, MT-bench and FastChat.

A record that cannot be used is named with its reason and loses no other; who rated the same twice is for a later stage.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from curation import ratings_argilla, ratings_fastchat, ratings_label_studio, ratings_mt_bench, ratings_tidy, tables
from curation.ratings_rows import PreferenceRow, RatingRow, Read, Row, Unused, check
from curation.tables import Record


class Form(Protocol):
    """What a module of one form offers. `HOLDS` are the fields that survive being written in it, none where it is only read."""

    @property
    def HOLDS(self) -> frozenset[str]: ...
    def fits(self, record: Record, /) -> bool: ...
    def columns(self, records: Sequence[Record], mapping: Mapping[str, str], /) -> dict[str, str]: ...
    def rows_of(self, line: int, record: Record, columns: Mapping[str, str], /) -> Iterator[Row | Unused]: ...
    def records_of(self, rows: Sequence[Row], /) -> tuple[list[Record], list[str]]: ...


FORMS: Mapping[str, Form] = {  # in the order in which "auto" tries them
    "argilla": ratings_argilla,
    "label-studio": ratings_label_studio,
    "fastchat": ratings_fastchat,
    "mt-bench": ratings_mt_bench,
    "tidy": ratings_tidy,
}
_NESTED = ("argilla", "label-studio", "mt-bench")  # lists and objects in their records: JSON alone holds them
_AS_WRITTEN = ("response", "left", "right", "note")  # the other texts are names, without spaces around them
_EMPTY = {**RatingRow._field_defaults, **PreferenceRow._field_defaults, "generator": "", "left_generator": "",
          "right_generator": "", "prompt": None, "response": None, "left": None, "right": None, "item": ""}  # fmt: skip


def read(path: Path, *, form: str = "auto", mapping: Mapping[str, str] = {}) -> Read:
    """Read a .csv, .jsonl, .json (each also with .gz) or .parquet file; `mapping` is FIELD: COLUMN.

    Raises ValueError for a file that cannot be read at all, an unknown form, and columns that say too little.
    """
    _check_form(form, ("auto", *FORMS))
    numbered = list(tables.numbered(path))
    records = [record for _, record in numbered if isinstance(record, dict)]
    if not numbered:
        raise ValueError(f"{str(path)!r} holds no record")
    if not records:
        return Read([], [Unused(line, record.reason) for line, record in numbered if not isinstance(record, dict)], form)
    name = next(name for name, one in FORMS.items() if one.fits(records[0])) if form == "auto" else form
    columns = FORMS[name].columns(records, mapping)
    rows: list[Row] = []
    unused: list[Unused] = []
    for line, record in numbered:
        if isinstance(record, dict):
            _take(FORMS[name].rows_of(line, record, columns), line, rows, unused)
        else:
            unused.append(Unused(line, record.reason))
    return Read(rows, unused, name, columns)


def _take(found: Iterator[Row | Unused], line: int, rows: list[Row], unused: list[Unused]) -> None:
    try:
        for one in found:
            if isinstance(one, Unused):
                unused.append(one)
                continue
            try:
                rows.append(check(one))
            except ValueError as error:
                unused.append(Unused(line, str(error)))
    except ValueError as error:
        unused.append(Unused(line, str(error)))


def write(path: Path, rows: Sequence[Row], *, form: str = "tidy", without: Collection[str] = ()) -> int:
    """Write rows and return how many. `without` names fields to leave out, where the form cannot hold them.

    Raises ValueError where `read` would not give the same rows back: a field or a text the form has no place for. Only
    lines change, the order of nested forms, and MT-bench's aspect "overall", which comes back as the turn judged.
    """
    _check_form(form, tuple(FORMS))
    if not FORMS[form].HOLDS:
        raise ValueError(f"the {form} form is only read: expected {', '.join(name for name in FORMS if FORMS[name].HOLDS)}")
    rows = [_left_out(row, without) for row in rows]
    kind = tables.kind_of(path)
    if form in _NESTED and kind not in ("json", "jsonl"):
        raise ValueError(f"{str(path)!r} is a table: expected .json or .jsonl, which alone hold the {form} form")
    for number, row in enumerate(rows, start=1):
        _check_held(number, row, form)
    records, names = FORMS[form].records_of(rows)
    if kind == "csv":
        _check_told_apart(records, names)
    tables.write(path, records, names)
    return len(rows)


def _check_form(form: str, known: Sequence[str]) -> None:
    if form not in known:
        raise ValueError(f"the form is {form!r}: expected one of {', '.join(known)}")


def _left_out(row: Row, without: Collection[str]) -> Row:
    unknown = set(without) - _EMPTY.keys()
    if unknown:
        raise ValueError(f"cannot leave out {', '.join(sorted(unknown))}: expected some of {', '.join(_EMPTY)}")
    return row._replace(**{field: _EMPTY[field] for field in without if field in row._fields})


def _check_held(number: int, row: Row, form: str) -> None:
    values = row._asdict().items()
    try:
        check(row)
        for field, value in values:
            name = isinstance(value, str) and field not in _AS_WRITTEN
            if name and (value != value.strip() or (field == "aspect" and not value)):
                raise ValueError(f"{field} is {value!r}: expected a name without spaces around it")
        if row.at is not None and row.at.tzinfo is None:
            raise ValueError(f"its time is {row.at.isoformat()!r}: expected one with a zone")
    except ValueError as error:
        raise ValueError(f"row {number} cannot be written: {error}") from None
    homeless = [field for field, value in values if field not in FORMS[form].HOLDS and value != _EMPTY.get(field)]
    if homeless := [field for field in homeless if field != "line"]:
        listed = ", ".join(homeless)
        raise ValueError(f"row {number} has {listed}, for which the {form} form has no place: leave it out by name")


def _check_told_apart(records: Sequence[Record], names: Sequence[str]) -> None:
    for name in {"response", "left", "right"} & set(names):
        if any(record[name] is None for record in records):
            raise ValueError(f"some rows have a {name} and some have none, which a .csv cannot tell from empty: use .jsonl")
