"""The files of a release: HH and TRL rows as JSONL and Parquet, a `datasets` folder, and checksums.

Every byte follows from the rows: no clock, no file name in a gzip header, no random fingerprint.
"""

import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from curation.pairs import Pair

Record = dict[str, Any]

_TEXT = pa.string()
_MESSAGES = pa.list_(pa.struct([("role", _TEXT), ("content", _TEXT)]))
_HH = pa.schema([("chosen", _TEXT), ("rejected", _TEXT)])
_TRL = pa.schema([("prompt", _MESSAGES), ("chosen", _MESSAGES), ("rejected", _MESSAGES)])
_SAVED = pa.schema([*_TRL, ("subset", _TEXT), ("pair_id", _TEXT)])
_BATCH = 5000
_FURTHER_TURNS = re.compile(r"\n\n(?:Human|Assistant):")


class Placed(NamedTuple):
    """A row of the dataset on its way out, with the pair as it was imported."""

    row: int
    subset: str
    split: str
    outcome: str  # kept, swapped, dropped
    pair: Pair

    @property
    def stays(self) -> bool:
        """Whether the row is in the release."""
        return self.outcome != "dropped"

    @property
    def released(self) -> Pair:
        """The pair as it is released: a swapped label is turned round."""
        return self.pair.swapped() if self.outcome == "swapped" else self.pair


class Written(NamedTuple):
    """Released rows whose responses hold further turns, and those that share no prompt (only in `hh/`)."""

    further: int
    promptless: int


class Names(NamedTuple):
    """What subsets and splits, which come from data, are called in paths."""

    subsets: dict[str, str]
    splits: dict[str, str]

    def stem(self, subset: str, split: str) -> str:
        """The path of a group's files below `hh` and `trl`, without their ending."""
        return "/".join(part for part in (self.subsets[subset], self.splits[split]) if part)


def names_of(subsets: Iterable[str], splits: Iterable[str]) -> Names:
    """Safe names, alike for the same names in the same order. No subset stays "", no split becomes "data"."""
    named = [one for one in dict.fromkeys(subsets) if one]
    known = list(dict.fromkeys(splits))
    # Hugging Face takes only word characters in the name of a split
    return Names({"": ""} | _safe(named, "-", "part"), _safe(known, "_", "data"))


def _safe(names: Sequence[str], joint: str, instead: str) -> dict[str, str]:
    """Each name as letters, digits, `_` and the joint; one that had to change, or differs only by case, ends in a hash."""
    safe: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted(names, key=lambda one: _plain(one, joint) != one):  # names that need no change keep theirs
        plain = _plain(name, joint) or instead
        digest = hashlib.sha256(name.encode()).hexdigest()
        unchanged = plain == (name or instead)
        candidates = [plain] if unchanged else []
        candidates += [f"{plain}{joint}{digest[:length]}" for length in (8, 16, 64)]
        safe[name] = next(one for one in candidates if one.lower() not in taken)
        taken.add(safe[name].lower())
    return {name: safe[name] for name in names}


def _plain(name: str, joint: str) -> str:
    return re.sub(rf"[^A-Za-z0-9_{joint}]+", joint, name).strip(joint)[:60]


def hh_row(pair: Pair) -> Record:
    """The two HH transcripts."""
    chosen, rejected = pair.transcripts()
    return {"chosen": chosen, "rejected": rejected}


def trl_row(pair: Pair) -> Record:
    """A conversational row with an explicit prompt, as TRL's reward and DPO trainers take it.

    A response stays one assistant message, also where its text holds further turns.
    """
    chosen, rejected = ([{"role": "assistant", "content": text}] for _, text in pair.sides())
    return {"prompt": _messages(pair), "chosen": chosen, "rejected": rejected}


def _messages(pair: Pair) -> list[Record]:
    # text before the first marker has no role; it stands first, where chat templates expect a system message
    return [{"role": turn.role or "system", "content": turn.content} for turn in pair.prompt]


def holds_turns(pair: Pair) -> bool:
    """Whether the text of a response holds the marker of a further turn."""
    return any(_FURTHER_TURNS.search(text) for _, text in pair.sides())


def write_rows(folder: Path, rows: Iterable[Placed], names: Names) -> Written:
    """Write `hh/` and `trl/`, one JSONL and one Parquet file for each subset and split; groups must not come back.

    A group of which no row stays gets empty files. A row without a shared prompt is left out of `trl/`.
    """
    further = promptless = 0
    for (subset, split), group in groupby(rows, key=lambda one: (one.subset, one.split)):
        stem = names.stem(subset, split)
        with _Twins(folder / "hh" / stem, _HH) as hh, _Twins(folder / "trl" / stem, _TRL) as trl:
            for one in group:
                if one.stays:
                    pair = one.released
                    hh.add(hh_row(pair))
                    if pair.prompt:
                        trl.add(trl_row(pair))
                    promptless += not pair.prompt
                    further += holds_turns(pair)
    return Written(further, promptless)


def write_dataset(folder: Path, rows: Iterable[Placed], names: Names) -> None:
    """Write `dataset/`, which `datasets.load_from_disk` opens: TRL rows by split. Splits must not come back.

    Written here and not by `save_to_disk`, which draws a random fingerprint and wants all rows in a file first.
    """
    for split, group in groupby(rows, key=lambda one: one.split):
        place = folder / "dataset" / names.splits[split]
        place.mkdir(parents=True)
        data = place / "data-00000-of-00001.arrow"
        with pa.OSFile(str(data), "wb") as file, pa.ipc.new_stream(file, _SAVED) as stream:
            for records in _batches(_saved_row(one) for one in group if one.stays and one.pair.prompt):
                stream.write_table(pa.Table.from_pylist(records, _SAVED))
        _write_json(place / "state.json", _state(data))
        _write_json(place / "dataset_info.json", {"description": "", "features": _FEATURES})
    _write_json(folder / "dataset" / "dataset_dict.json", {"splits": list(names.splits.values())})


def _saved_row(one: Placed) -> Record:
    # pair_id stays the imported one, also where the label was swapped: labels.jsonl and the dataset know it by that
    return {**trl_row(one.released), "subset": one.subset, "pair_id": one.pair.pair_id}


_VALUE = {"dtype": "string", "_type": "Value"}
_FEATURES: Record = {field.name: _VALUE if field.type == _TEXT else [{"role": _VALUE, "content": _VALUE}] for field in _SAVED}


def _state(data: Path) -> Record:
    return {
        "_data_files": [{"filename": data.name}],
        "_fingerprint": _sha256(data)[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": data.parent.name,
    }


def write_lines(path: Path, records: Iterable[Record]) -> None:
    """Write one JSON object a line."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(_line(record) for record in records)


def checksums(folder: Path) -> list[Record]:
    """Every file of the folder: path, bytes, sha256."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return [
        {"path": file.relative_to(folder).as_posix(), "bytes": file.stat().st_size, "sha256": _sha256(file)} for file in files
    ]


class _Twins:
    """The same rows as gzipped JSONL and as Parquet."""

    def __init__(self, stem: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._waiting: list[Record] = []
        stem.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as opened:
            raw = opened.enter_context(stem.with_suffix(".jsonl.gz").open("wb"))
            self._lines = opened.enter_context(gzip.GzipFile("", "wb", 6, raw, mtime=0))
            self._table = opened.enter_context(pq.ParquetWriter(stem.with_suffix(".parquet"), schema, compression="zstd"))
            self._files = opened.pop_all()

    def __enter__(self) -> "_Twins":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._files:
            if kind is None:
                self._flush()

    def add(self, record: Record) -> None:
        self._waiting.append(record)
        if len(self._waiting) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._lines.write("".join(map(_line, self._waiting)).encode())
            self._table.write_table(pa.Table.from_pylist(self._waiting, self._schema))
            self._waiting = []


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    batch: list[Record] = []
    for record in records:
        batch.append(record)
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _line(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _write_json(path: Path, value: Record) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
