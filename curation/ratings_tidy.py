"""The tidy form of ratings: one rating or one preference a record, one field a column.

Ratings: item, prompt, response, generator, rater, aspect, value. Preferences: item, prompt, left, right, left_generator,
right_generator, rater, choice (or strength, -3 to 3), aspect. Both also subset, seconds, at, claim, note, kind; ratings shown.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from curation.ratings_rows import (
    NAMES,
    OVERALL,
    PreferenceRow,
    RatingRow,
    Row,
    Unused,
    chosen,
    columns_of,
    is_strength,
    listed,
    moment_of,
    name_of,
    prompt_of,
    prompt_text,
    response_of,
    seconds_of,
    shown_of,
    value_of,
)
from curation.tables import Record

HOLDS = frozenset({*RatingRow._fields, *PreferenceRow._fields})
_ALWAYS = {"item", "rater", "aspect", "value"}  # written even where every row has the same in them
_TEXTS = {"response", "left", "right"}  # an empty one is not none


def fits(_record: Record) -> bool:
    """Any record may be tidy: its columns decide."""
    return True


def columns(records: Sequence[Record], mapping: Mapping[str, str]) -> dict[str, str]:
    """Field: column. Raises ValueError when the columns make neither a rating nor a preference."""
    seen = list(dict.fromkeys(name for record in records for name in record))
    found = columns_of(seen, mapping)
    compares = bool({"choice", "strength"} & found.keys()) and (_both(found) or "value" not in found)
    if compares:
        missing = [] if "rater" in found else ["rater"]
        missing += [] if _both(found) else ["left and right, or left_generator and right_generator"]
        missing += [] if {"item", "prompt", "left"} & found.keys() else ["item or prompt"]
    else:
        missing = [field for field in ("rater", "value") if field not in found]
        missing += [] if {"item", "prompt", "response"} & found.keys() else ["one of item, prompt, response"]
    if missing:
        what = "preferences" if compares else "ratings (or a choice or strength for preferences)"
        raise ValueError(
            f"the columns are {listed(seen)}: expected also {'; '.join(missing)} for {what}; map one with FIELD=COLUMN"
        )
    other = {"response", "generator", "value", "shown"} if compares else {"left", "right", *_OF_SIDES, "choice", "strength"}
    return {field: found[field] for field in NAMES if field in found and field not in other}


_OF_SIDES = ("left_generator", "right_generator")


def _both(found: Mapping[str, str]) -> bool:
    return {"left", "right"} <= found.keys() or set(_OF_SIDES) <= found.keys()


def rows_of(line: int, record: Record, columns: Mapping[str, str]) -> Iterator[Row | Unused]:
    """The one row of a record."""

    def cell(field: str) -> Any:
        return record.get(columns[field]) if field in columns else None

    head = (line, name_of(cell("item")), prompt_of(cell("prompt")))
    rater, aspect = name_of(cell("rater")), value_of(cell("aspect")) or OVERALL
    subset, kind, claim = name_of(cell("subset")), name_of(cell("kind")), name_of(cell("claim"))
    note = response_of(cell("note")) or ""
    seconds, at = seconds_of(cell("seconds")), moment_of(cell("at"))
    if "value" in columns:
        rated = (response_of(cell("response")), name_of(cell("generator")))
        value, shown = value_of(cell("value")), shown_of(cell("shown"))
        yield RatingRow(*head, *rated, rater, aspect, value, subset, seconds, at, shown, claim, note, kind)
    else:
        sides = (response_of(cell("left")), response_of(cell("right")))
        generators = (name_of(cell("left_generator")), name_of(cell("right_generator")))
        choice = chosen(cell("choice"), cell("strength"))
        yield PreferenceRow(*head, *sides, *generators, rater, choice, aspect, subset, seconds, at, claim, note, kind)


def records_of(rows: Sequence[Row]) -> tuple[list[Record], list[str]]:
    """Records and their columns; those that say nothing in any row are left out.

    Raises ValueError for ratings and preferences together: they are two tables.
    """
    if len({type(row) for row in rows}) > 1:
        raise ValueError("the rows are ratings and preferences: expected one kind, they are two tables")
    records = [_record(row) for row in rows]
    names = list(records[0]) if records else []
    said = {name for record in records for name, value in record.items() if value not in (None, "")}
    said |= {name for record in records for name in _TEXTS & record.keys() if record[name] is not None}
    return records, [name for name in names if name in _ALWAYS | said]


def _record(row: Row) -> Record:
    record = {**row._asdict(), "prompt": prompt_text(row.prompt), "at": row.at.isoformat() if row.at else None}
    del record["line"]
    if isinstance(row, PreferenceRow):
        strong = is_strength(row.choice)
        record |= {"choice": None if strong else row.choice, "strength": int(row.choice) if strong else None}
    return record
