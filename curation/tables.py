"""Records to and from .jsonl, .csv, .json (also with .gz) and .parquet files, by ending; a file appears whole or not at all."""

import csv
import gzip
import json
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

Record = dict[str, Any]
ENDINGS = (".jsonl", ".csv", ".parquet", ".json", ".jsonl.gz", ".csv.gz", ".json.gz")


class Unreadable(NamedTuple):
    """A record that cannot be read, and why."""

    reason: str


def write(path: Path, records: Sequence[Record], columns: Sequence[str]) -> None:
    """Write these columns of every record. Raises ValueError for another ending or a folder that is not there."""
    kind = kind_of(path)
    if not path.parent.is_dir():
        raise ValueError(f"no folder {str(path.parent)!r} to write {path.name!r} into")
    half = path.with_name(path.name + ".part")
    try:
        if kind == "parquet":
            _write_parquet(half, records, columns)
        else:
            with _opened(half, path.suffix == ".gz", "w") as file:
                _WRITERS[kind](file, records, columns)
        os.replace(half, path)
    finally:
        half.unlink(missing_ok=True)


def read(path: Path) -> list[Record]:
    """All records of a file. Raises ValueError when it is not there, has another ending, or cannot be read."""
    kind = _kind_of_file(path)
    try:
        if kind == "parquet":
            return _read_parquet(path)
        with _opened(path, path.suffix == ".gz", "r") as file:
            if kind == "csv":
                return list(csv.DictReader(file))
            return [_readable(number, record) for number, record in _JSON_READERS[kind](file)]
    except (ValueError, csv.Error, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{str(path)!r} cannot be read: {str(error).splitlines()[0]}") from None


def numbered(path: Path) -> Iterator[tuple[int, Record | Unreadable]]:
    """Every record with its number from 1; one that cannot be read stands there as such and loses no other.

    A byte that is not UTF-8 stands in its text as half a character. Raises ValueError when the file is not there, has
    another ending, or is not of its kind at all.
    """
    kind = _kind_of_file(path)
    if kind == "parquet":
        yield from enumerate(read(path), start=1)
        return
    number = 0
    try:
        with _opened(path, path.suffix == ".gz", "r", errors="surrogateescape") as file:
            for number, record in _numbered_csv(file) if kind == "csv" else _JSON_READERS[kind](file):
                yield number, record
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} cannot be read: {str(error).splitlines()[0]}") from None
    except (OSError, EOFError, zlib.error) as error:
        yield number + 1, Unreadable(f"the file cannot be read from here on: {error}")


def kind_of(path: Path) -> str:
    """Which of csv, json, jsonl, parquet a file is by its ending. Raises ValueError for another."""
    ending = next((ending for ending in ENDINGS if path.name.endswith(ending)), None)
    if ending is None:
        raise ValueError(f"{str(path)!r} ends in {path.suffix or 'nothing'!r}: expected {', '.join(ENDINGS)}")
    return ending.split(".")[1]


def _kind_of_file(path: Path) -> str:
    kind = kind_of(path)
    if not path.is_file():
        raise ValueError(f"no file {str(path)!r}")
    csv.field_size_limit(sys.maxsize)  # responses are longer than the 128 KiB it allows
    return kind


def _opened(path: Path, packed: bool, mode: str, *, errors: str = "strict") -> IO[str]:
    encoding = "utf-8-sig" if mode == "r" else "utf-8"
    if packed:
        return cast(IO[str], gzip.open(path, mode + "t", encoding=encoding, errors=errors, newline=""))
    return path.open(mode, encoding=encoding, errors=errors, newline="")


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


def _write_jsonl(file: IO[str], records: Sequence[Record], columns: Sequence[str]) -> None:
    for record in records:
        file.write(json.dumps({name: _plain(record[name]) for name in columns}, ensure_ascii=False) + "\n")


def _write_json(file: IO[str], records: Sequence[Record], columns: Sequence[str]) -> None:
    json.dump([{name: _plain(record[name]) for name in columns} for record in records], file, ensure_ascii=False, indent=1)


def _write_csv(file: IO[str], records: Sequence[Record], columns: Sequence[str]) -> None:
    writer = csv.writer(file)
    writer.writerow(columns)
    for record in records:
        cells = (_plain(record[name]) for name in columns)
        writer.writerow([json.dumps(cell) if isinstance(cell, list) else cell for cell in cells])


def _write_parquet(path: Path, records: Sequence[Record], columns: Sequence[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({name: [record[name] for record in records] for name in columns}), path)


def _readable(number: int, record: Record | Unreadable) -> Record:
    if isinstance(record, Unreadable):
        raise ValueError(f"record {number} is {record.reason}")
    return record


def _numbered_jsonl(file: Iterable[str]) -> Iterator[tuple[int, Record | Unreadable]]:
    for number, line in enumerate((line for line in file if line.strip()), start=1):
        try:
            yield number, _object(json.loads(line))
        except (ValueError, RecursionError) as error:
            yield number, Unreadable(f"not JSON: {error}")


def _numbered_json(file: IO[str]) -> Iterator[tuple[int, Record | Unreadable]]:
    """A list of records; an object of columns, or of records by name; one record; or, as in .jsonl, lines."""
    text = file.read()
    try:
        found = _rows(json.loads(text))
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Extra data"):
            raise
        yield from _numbered_jsonl(text.split("\n"))
        return
    for number, value in enumerate(found, start=1):
        yield number, _object(value)


def _rows(document: Any) -> list[Any]:
    if isinstance(document, list):
        return document
    values = list(document.values()) if isinstance(document, dict) else []
    if values and all(isinstance(value, list) for value in values):
        if len(values) == 1 and all(isinstance(value, dict) for value in values[0]):
            return cast(list[Any], values[0])
        if len({len(value) for value in values}) == 1:
            return [dict(zip(document, row, strict=True)) for row in zip(*values, strict=True)]
    if values and all(isinstance(value, dict) for value in values):
        return values
    return [document]


def _object(value: Any) -> Record | Unreadable:
    return value if isinstance(value, dict) else Unreadable(f"{type(value).__name__}: expected an object")


def _numbered_csv(file: IO[str]) -> Iterator[tuple[int, Record | Unreadable]]:
    reader, number = csv.DictReader(file, strict=True), 0
    while True:
        number += 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, Unreadable(f"not CSV: {error}")
            continue
        if None in record or None in record.values():
            yield number, Unreadable(f"a row without the header's {len(reader.fieldnames or ())} columns")
        else:
            yield number, record


def _read_parquet(path: Path) -> list[Record]:
    import pyarrow.parquet as pq

    records: list[Record] = pq.read_table(path).to_pylist()
    return records


_WRITERS = {"jsonl": _write_jsonl, "csv": _write_csv, "json": _write_json}
_JSON_READERS = {"jsonl": _numbered_jsonl, "json": _numbered_json}
