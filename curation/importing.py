"""Importing: read a source into staged Parquet without any lock, then take it in with one short transaction."""

import shutil
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from curation.pairs import Pair
from curation.sources import Reject, Row, Source
from curation.store.pairs import Dataset
from curation.workspace import Workspace

_TEXT = pa.string()
_SCHEMAS = {
    "prompts": pa.schema([("prompt_id", _TEXT), ("turns", _TEXT)]),
    "responses": pa.schema([("response_id", _TEXT), ("prompt_id", _TEXT), ("text", _TEXT), ("lead", _TEXT)]),
    "pairs": pa.schema([("pair_id", _TEXT), ("prompt_id", _TEXT), ("chosen_id", _TEXT), ("rejected_id", _TEXT)]),
    "dataset_rows": pa.schema(
        [("dataset", _TEXT), ("row", pa.int32()), ("pair_id", _TEXT), ("subset", _TEXT), ("split", _TEXT),
         ("file", _TEXT), ("line", pa.int32()), ("extra", _TEXT)]
    ),
    "rejects": pa.schema([("dataset", _TEXT), ("file", _TEXT), ("line", pa.int32()), ("reason", _TEXT), ("text", _TEXT)]),
}  # fmt: skip


class Imported(NamedTuple):
    """What an import did. `new` is False when the same content was there already under this name."""

    dataset: str
    rows: int
    rejected: int
    distinct: int
    new: bool
    seconds: float


def import_source(
    workspace: Workspace,
    source: Source,
    name: str,
    *,
    progress: Callable[[float, str], None] = lambda share, words: None,
) -> Imported:
    """Import a source as the dataset `name`. Importing the same content again changes nothing.

    Raises ValueError when no row could be read, or when the name is taken by other content. Interrupted at any
    point it leaves the workspace as it was.
    """
    if not name.strip() or len(name) > 100 or not name.isprintable() or "/" in name:
        raise ValueError(f"the name {name!r} cannot be used: expected up to 100 characters without '/'")
    began = time.perf_counter()
    folder = workspace.cache / f"import-{uuid4().hex}"
    folder.mkdir(parents=True)
    try:
        with ThreadPoolExecutor(1) as thread:  # compressing and writing needs no interpreter: reading goes on meanwhile
            staging = _Staging(folder, name, thread)
            for number, row in enumerate(source.rows(), start=1):
                staging.take(row)
                if number % 500 == 0:
                    progress(source.share * 0.9, f"{number:,} rows read")
            staging.close()
        if not staging.rows:
            raise ValueError(_nothing(source, staging))
        progress(0.9, f"storing {staging.rows:,} rows")
        known = {one.dataset: one for one in workspace.pairs.datasets()}.get(name)
        if known is not None and known.content_hash != staging.content_hash:
            raise ValueError(
                f"there is a dataset {name!r} with other content ({known.imported:,} rows of {known.source}): "
                "give this one another name"
            )
        if known is None:
            now = datetime.now(UTC)
            described = Dataset(name, source.name, staging.content_hash, staging.rows, staging.rejected, now)
            workspace.pairs.add(described, folder)
        progress(1.0, f"{staging.rows:,} rows, {staging.rejected:,} rejected")
        took = time.perf_counter() - began
        return Imported(name, staging.rows, staging.rejected, staging.distinct, known is None, took)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _nothing(source: Source, staging: "_Staging") -> str:
    if staging.first_reject is None:
        return f"{source.name!r} holds no rows"
    first = staging.first_reject
    return f"none of the {staging.rejected:,} rows could be read; {first.file} line {first.line}: {first.reason}"


class _Staging:
    """Rows on their way in: each piece of content once, in one Parquet file a table."""

    def __init__(self, folder: Path, dataset: str, thread: Executor) -> None:
        self.rows = self.rejected = 0
        self.first_reject: Reject | None = None
        self._dataset = dataset
        self._hash = blake2b(digest_size=16)
        self._tables = {name: _Table(folder / f"{name}.parquet", schema, thread) for name, schema in _SCHEMAS.items()}
        self._seen: set[str] = set()
        self._pairs = 0

    @property
    def content_hash(self) -> str:
        """32 hex digits of all rows in order, with subset and split."""
        return self._hash.hexdigest()

    @property
    def distinct(self) -> int:
        """How many distinct pairs there are."""
        return self._pairs

    def take(self, row: Row | Reject) -> None:
        if isinstance(row, Reject):
            self.first_reject = self.first_reject or row
            self.rejected += 1
            reason, text = (_storable(part) for part in (row.reason, row.text))
            self._tables["rejects"].add((self._dataset, _storable(row.file), row.line, reason, text))
            return
        pair = row.pair
        if self._first_time(pair.pair_id):
            self._pairs += 1
            self._content(pair)
        self._hash.update(f"{pair.pair_id}{row.subset}\0{row.split}\n".encode("utf-8", "surrogatepass"))
        place = (_storable(row.subset), _storable(row.split), _storable(row.file), row.line, row.extra)
        self._tables["dataset_rows"].add((self._dataset, self.rows, pair.pair_id, *place))
        self.rows += 1

    def close(self) -> None:
        for table in self._tables.values():
            table.close()

    def _content(self, pair: Pair) -> None:
        if self._first_time(pair.prompt_id):
            self._tables["prompts"].add((pair.prompt_id, pair.packed_prompt))
        for response_id, response in ((pair.chosen_id, pair.chosen), (pair.rejected_id, pair.rejected)):
            if self._first_time(response_id):
                self._tables["responses"].add((response_id, pair.prompt_id, response.text, response.lead))
        self._tables["pairs"].add((pair.pair_id, pair.prompt_id, pair.chosen_id, pair.rejected_id))

    def _first_time(self, content_id: str) -> bool:
        before = len(self._seen)
        self._seen.add(content_id)
        return len(self._seen) > before


class _Table:
    def __init__(self, path: Path, schema: pa.Schema, thread: Executor, *, batch: int = 5000) -> None:
        self._path, self._schema, self._batch = path, schema, batch
        self._rows: list[tuple[Any, ...]] = []
        self._writer: pq.ParquetWriter | None = None
        self._thread = thread
        self._writing: Future[None] | None = None

    def add(self, row: tuple[Any, ...]) -> None:
        self._rows.append(row)
        if len(self._rows) >= self._batch:
            self._flush()

    def close(self) -> None:
        if self._rows:
            self._flush()
        self._written()
        if self._writer is not None:
            self._writer.close()

    def _flush(self) -> None:
        columns = zip(*self._rows, strict=True)
        arrays = [pa.array(values, kind.type) for values, kind in zip(columns, self._schema, strict=True)]
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, self._schema, compression="lz4")
        self._written()
        self._writing = self._thread.submit(self._writer.write_table, pa.Table.from_arrays(arrays, schema=self._schema))
        self._rows = []

    def _written(self) -> None:
        """Wait for the batch before this one, and raise what went wrong with it."""
        if self._writing is not None:
            self._writing.result()


def _storable(text: str) -> str:
    """A text a column can hold: half characters, which UTF-8 cannot, are written as their code."""
    return text.encode("utf-8", "backslashreplace").decode()
