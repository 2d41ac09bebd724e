"""Records to and from .jsonl, .csv and .parquet files, by ending; a file appears whole or not at all."""

import csv
import json
import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

Record = dict[str, Any]
ENDINGS = (".jsonl", ".csv", ".parquet")


def write(path: Path, records: Sequence[Record], columns: Sequence[str]) -> None:
    """Write these columns of every record. Raises ValueError for another ending or a folder that is not there."""
    _check(path)
    if not path.parent.is_dir():
        raise ValueError(f"no folder {str(path.parent)!r} to write {path.name!r} into")
    half = path.with_name(path.name + ".part")
    try:
        _WRITERS[path.suffix](half, records, columns)
        os.replace(half, path)
    finally:
        half.unlink(missing_ok=True)


def read(path: Path) -> list[Record]:
    """All records of a file. Raises ValueError when it is not there, has another ending, or cannot be read."""
    _check(path)
    if not path.is_file():
        raise ValueError(f"no file {str(path)!r}")
    try:
        return _READERS[path.suffix](path)
    except (ValueError, csv.Error, OSError) as error:
        raise ValueError(f"{str(path)!r} cannot be read: {str(error).splitlines()[0]}") from None


def _check(path: Path) -> None:
    if path.suffix not in ENDINGS:
        raise ValueError(f"{str(path)!r} ends in {path.suffix or 'nothing'!r}: expected {', '.join(ENDINGS)}")


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


def _write_jsonl(path: Path, records: Sequence[Record], columns: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps({name: _plain(record[name]) for name in columns}, ensure_ascii=False) + "\n")


def _write_csv(path: Path, records: Sequence[Record], columns: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for record in records:
            cells = (_plain(record[name]) for name in columns)
            writer.writerow([json.dumps(cell) if isinstance(cell, list) else cell for cell in cells])


def _write_parquet(path: Path, records: Sequence[Record], columns: Sequence[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({name: [record[name] for record in records] for name in columns}), path)


def _read_jsonl(path: Path) -> list[Record]:
    records = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise ValueError(f"line {number} is {type(record).__name__}: expected an object")
                records.append(record)
    return records


def _read_csv(path: Path) -> list[Record]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def _read_parquet(path: Path) -> list[Record]:
    import pyarrow.parquet as pq

    records: list[Record] = pq.read_table(path).to_pylist()
    return records


_WRITERS = {".jsonl": _write_jsonl, ".csv": _write_csv, ".parquet": _write_parquet}
_READERS = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}
