"""Readers: a file, a folder, a hub id or an uploaded file, to pairs plus rejected lines; never stops half way."""

import csv
import gzip
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from curation.forms import FIELDS, pairs_of, value_of
from curation.pairs import Pair

if TYPE_CHECKING:
    import pyarrow as pa

ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".csv.gz", ".parquet")
_SPLITS = ("train", "test", "validation", "val", "dev")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class Row(NamedTuple):
    """One row of a dataset: the pair and where it stood. `line` counts from 1; `extra` is the other columns, as JSON.

    The rows of one record (a prompt with several answers) have its line and its extra in common.
    """

    pair: Pair
    subset: str
    split: str
    file: str
    line: int
    extra: str | None


class Reject(NamedTuple):
    """A row that could not be read, and why."""

    file: str
    line: int
    reason: str
    text: str


class Part(NamedTuple):
    """One file of a source with the subset and split its place names."""

    path: Path
    name: str
    subset: str
    split: str


@dataclass
class Source:
    """What an import reads: its parts in order. `limit` counts records; `share` is how much has been read, 0..1."""

    name: str
    parts: list[Part]
    mapping: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    share: float = 0.0

    def __post_init__(self) -> None:
        self._used = {self.mapping.get(name, name) for name in FIELDS}

    def rows(self) -> Iterator[Row | Reject]:
        """Every record in order, each as its rows, which are mostly one, or as a reject."""
        sizes = [_size(part.path) for part in self.parts]
        total, self.share = sum(sizes) or 1, 0.0
        for line, record, part in islice(self._records(sizes, total), self.limit):
            yield from self._rows_of(part, line, record)
        self.share = 1.0

    def _records(self, sizes: list[int], total: int) -> Iterator[tuple[int, Any, Part]]:
        done = 0
        for part, size in zip(self.parts, sizes, strict=True):

            def tell(share: float, done: int = done, size: int = size) -> None:
                self.share = min(1.0, (done + share * size) / total)

            for line, record in _records(part, size, tell):
                yield line, record, part
            done += size
            self.share = min(1.0, done / total)

    def _rows_of(self, part: Part, line: int, record: Any) -> Sequence[Row | Reject]:
        if isinstance(record, _Unreadable):
            return [Reject(part.name, line, record.reason, record.text[:2000])]
        if not isinstance(record, dict):
            reason = f"the row is {type(record).__name__}: expected an object with named columns"
            return [Reject(part.name, line, reason, str(record)[:2000])]
        try:
            pairs = pairs_of(record, self.mapping)
        except ValueError as error:
            shown = json.dumps(record, ensure_ascii=True, default=str)[:2000]
            return [Reject(part.name, line, str(error), shown)]
        subset, split = (value_of(record, self.mapping, name) for name in ("subset", "split"))
        subset, split = (given if isinstance(given, str) and given else None for given in (subset, split))
        place = (subset or part.subset, split or part.split, part.name, line, self._extra(record))
        return [Row(pair, *place) for pair in pairs]

    def _extra(self, record: dict[str, Any]) -> str | None:
        """The columns that no field is read from, as JSON."""
        if record.keys() <= self._used:
            return None
        extra = {key: value for key, value in record.items() if key not in self._used and isinstance(key, str)}
        return json.dumps(extra, ensure_ascii=True, default=str) if extra else None


def source_of(
    place: str, *, split: str | None = None, limit: int | None = None, mapping: Mapping[str, str] | None = None
) -> Source:
    """The source a path or a hub id names, resolved in that order; `split` keeps only that split's files.

    Raises ValueError when there is nothing to read, or a mapping names an unknown field.
    """
    for name in mapping or {}:
        if name not in FIELDS:
            raise ValueError(f"cannot map {name!r}: expected one of {', '.join(FIELDS)}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}: expected a number of rows, at least 1")
    path, name = Path(place).expanduser(), place
    if path.exists():
        name = path.resolve().name
    else:
        if not _HUB_ID.fullmatch(place):
            raise ValueError(f"no file or folder {place!r}: expected one, or a hub id such as Anthropic/hh-rlhf")
        path = _download(place)
    parts = _saved_parts(path) if _is_saved(path) else _file_parts(path)
    if not parts:
        raise ValueError(f"{place!r} holds no data: expected files ending in {' '.join(ENDINGS)}")
    if split is not None:
        found = sorted({part.split for part in parts})
        parts = [part for part in parts if part.split == split]
        if not parts:
            has = ", ".join(filter(None, found)) or "files that name none"
            raise ValueError(f"no split {split!r} in {place!r}: it has {has}")
    return Source(name, parts, mapping or {}, limit)


def _download(hub_id: str) -> Path:
    """The files of a dataset on the hub; no code of it is run."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    patterns = [f"*{ending}" for ending in ENDINGS] + ["*.arrow", "dataset_info.json", "state.json"]
    try:
        return Path(snapshot_download(hub_id, repo_type="dataset", allow_patterns=patterns))
    except (HfHubHTTPError, OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"no file or folder {hub_id!r} here, and the hub did not give it: {reason}") from None


def _file_parts(path: Path) -> list[Part]:
    if path.is_file():
        return [Part(path, path.name, "", _split_of(path))] if path.name.endswith(ENDINGS) else []
    parts = []
    for file in sorted(path.rglob("*")):
        inside = file.relative_to(path)
        if not file.is_file() or not file.name.endswith(ENDINGS) or any(name.startswith(".") for name in inside.parts):
            continue
        folders = [name for name in inside.parts[:-1] if name != "data"]
        parts.append(Part(file, inside.as_posix(), "/".join(folders), _split_of(file)))
    return parts


def _split_of(path: Path) -> str:
    stem = re.split(r"[.-]", path.name)[0]
    return stem if stem in _SPLITS else ""


def _is_saved(path: Path) -> bool:
    return path.is_dir() and any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))


def _saved_parts(path: Path) -> list[Part]:
    """What `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote."""
    if (path / "state.json").is_file():
        return [Part(path, path.name, "", "")]
    names = json.loads((path / "dataset_dict.json").read_text())["splits"]
    return [Part(path / name, name, "", name) for name in names]


# ---- records of one part


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


class _Unreadable(NamedTuple):
    reason: str
    text: str


_Tell = Callable[[float], None]  # told how much of the part has been read, 0..1
_Records = Iterator[tuple[int, Any]]


def _records(part: Part, size: int, tell: _Tell) -> _Records:
    name = part.path.name
    if part.path.is_dir():
        yield from _saved(part.path, tell)
    elif name.endswith(".parquet"):
        yield from _parquet(part.path, tell)
    else:
        with part.path.open("rb") as raw:
            file: Iterable[bytes] = gzip.open(raw) if name.endswith(".gz") else raw  # noqa: SIM115  closed with raw
            lines = _lines(file, lambda: tell(raw.tell() / (size or 1)))
            plain = name.removesuffix(".gz")
            yield from (_csv(lines) if plain.endswith(".csv") else _json(lines, whole=plain.endswith(".json")))


def _lines(file: Iterable[bytes], tell: Callable[[], None]) -> Iterator[bytes | _Unreadable]:
    """The lines of a file; a damaged or truncated one ends in a reject instead of an exception."""
    try:
        for number, line in enumerate(file, start=1):
            if number % 256 == 0:
                tell()
            yield line
    except (OSError, EOFError, zlib.error) as error:
        yield _Unreadable(f"the file cannot be read from here on: {error}", "")


def _json(lines: Iterator[bytes | _Unreadable], *, whole: bool) -> _Records:
    numbered = _not_blank(lines)
    if whole:
        head = list(islice(numbered, 2))
        values = [line if isinstance(line, _Unreadable) else _value(line) for _, line in head]
        if values and (len(values) == 1 or _begins_document(head[0][1], values)):
            read = [line for _, line in chain(head, numbered)]
            broken = next((line for line in read if isinstance(line, _Unreadable)), None)
            yield from _json_document(broken or _value(b"".join(line for line in read if isinstance(line, bytes))))
            return
        numbered = chain(head, numbered)
    for number, line in numbered:
        yield number, line if isinstance(line, _Unreadable) else _value(line)


def _begins_document(line: bytes | _Unreadable, values: list[Any]) -> bool:
    """Whether a .json file's first two lines are those of one JSON value, and not a row each."""
    if isinstance(values[0], _Unreadable) and isinstance(line, bytes):
        return line.rstrip().endswith((b"[", b"{", b",", b":")) or not isinstance(values[1], dict)
    return isinstance(values[0], list)


def _not_blank(lines: Iterator[bytes | _Unreadable]) -> Iterator[tuple[int, bytes | _Unreadable]]:
    """The lines that hold something, with their numbers, without a byte order mark."""
    for number, line in enumerate(lines, start=1):
        if number == 1 and isinstance(line, bytes):
            line = line.removeprefix(b"\xef\xbb\xbf")
        if isinstance(line, _Unreadable) or line.strip():
            yield number, line


def _json_document(value: Any) -> _Records:
    """A file that is one JSON value: a list of rows, or an object with one list of rows in it."""
    if isinstance(value, dict) and not {"chosen", "rejected"} & value.keys():
        lists = [rows for rows in value.values() if isinstance(rows, list)]
        value = lists[0] if len(lists) == 1 else [value]
    rows = value if isinstance(value, list) else [value]
    yield from enumerate(rows, start=1)


def _value(line: bytes) -> Any:
    try:
        return json.loads(line)
    except UnicodeDecodeError as error:
        return _Unreadable(f"not UTF-8 at byte {error.start}", line.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        return _Unreadable(f"not JSON: {error}", line.decode("utf-8", "replace"))


def _csv(lines: Iterator[bytes | _Unreadable]) -> _Records:
    csv.field_size_limit(sys.maxsize)
    broken: list[_Unreadable] = []  # the file cannot be read any further
    strange: list[str] = []  # what was not UTF-8 in the lines of the row being read

    def texts() -> Iterator[str]:
        for number, line in enumerate(lines):
            if isinstance(line, _Unreadable):
                broken.append(line)
                return
            try:
                yield line.decode("utf-8" if number else "utf-8-sig")
            except UnicodeDecodeError as error:
                strange.append(f"not UTF-8 at byte {error.start} of line {number + 1}")
                yield line.decode("utf-8", "replace")

    reader = csv.DictReader(texts(), strict=True)
    while True:
        first = reader.line_num + 1 if reader.line_num else 2  # of the row that comes now; the header is line 1
        strange.clear()
        try:
            record = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            yield first, _Unreadable(f"not CSV: {error}", "")
            continue
        if strange:
            yield first, _Unreadable(strange[0], str(record))
        elif None in record or None in record.values():
            reason = f"the row does not have the header's {len(reader.fieldnames or ())} columns"
            yield first, _Unreadable(reason, str(record))
        else:
            yield first, record
    for damage in broken:
        yield reader.line_num + 1, damage


def _parquet(path: Path, tell: _Tell) -> _Records:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1000):
                for record in _rows(batch):
                    number += 1
                    yield number, record
                tell(number / file.metadata.num_rows)
    except (pa.ArrowException, OSError) as error:
        yield number + 1, _Unreadable(f"not Parquet from here on: {error}", "")


def _rows(batch: "pa.RecordBatch") -> list[Any]:
    """The rows of a batch; where a text is not UTF-8 that row alone is lost."""
    try:
        rows: list[Any] = batch.to_pylist()
        return rows
    except UnicodeDecodeError as error:
        if batch.num_rows == 1:
            return [_Unreadable(f"not UTF-8 at byte {error.start} of a text", "")]
        return [row for index in range(batch.num_rows) for row in _rows(batch.slice(index, 1))]


def _saved(path: Path, tell: _Tell) -> _Records:
    import pyarrow as pa
    from datasets import Dataset

    number = 0
    try:
        rows = Dataset.load_from_disk(str(path))
        for record in rows:
            number += 1
            if number % 256 == 0:
                tell(number / len(rows))
            yield number, record
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        yield number + 1, _Unreadable(f"not a saved dataset from here on: {error}", "")
