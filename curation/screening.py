"""Screening: filters over all pairs of a dataset, as a background run: `python -m curation.screening RUN_FOLDER`."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from curation import interchange
from curation.filters.base import Filter, Flag
from curation.filters.registry import configured
from curation.pairs import Pair
from training import engine
from training.run import Run, write_json

PAIRS, FLAGS, SUMMARY = "pairs.parquet", "flags.parquet", "summary.json"
_SCHEMA = pa.schema(
    [
        ("pair_id", pa.string()),
        ("filter", pa.string()),
        ("side", pa.string()),
        ("score", pa.float64()),
        ("reason", pa.string()),
    ]
)
_CHUNK = 10  # batches between two checkpoints


class Screening(BaseModel):
    """What a screening run is told: the dataset it looks at and each filter's parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    filters: dict[str, dict[str, Any]]


def screen(run: Run) -> None:
    """The job: reads input/pairs.parquet, writes output/flags.parquet and output/summary.json.

    Each finished stretch is kept in checkpoints/, so a resumed run looks at no pair twice.
    """
    settings = Screening.model_validate(run.config())
    filters = [configured(name, parameters) for name, parameters in settings.filters.items()]
    pairs = run.input / PAIRS
    total = interchange.count(pairs)
    alone, whole = [one for one in filters if one.alone], [one for one in filters if not one.alone]
    passes = bool(alone) + len(whole)
    done, parts = 0, []
    if alone:
        batches = interchange.batches(pairs)
        for number in count():
            chunk = list(islice(batches, _CHUNK))
            if not chunk:
                break
            part = run.checkpoints / f"alone-{number:05}.parquet"
            parts.append(part)
            if not part.exists():
                _write(part, _flags_of(run, alone, chunk, done, total, passes))
            done += sum(map(len, chunk))
    for one in whole:
        part = run.checkpoints / f"whole-{one.name}.parquet"
        parts.append(part)
        if not part.exists():
            _write(part, one.flags(_told(run, one, pairs, done, total, passes)))
        done += total
    flagged = _join(parts, run.output / FLAGS)
    counts = {one.name: {"version": one.version, "screened": total, "flagged": flagged[one.name]} for one in filters}
    write_json(run.output / SUMMARY, counts)
    run.tell(total, total, "pairs", f"{sum(flagged.values()):,} findings")


def summary(run: Run) -> dict[str, dict[str, int]]:
    """What each filter of a finished run did: its version, distinct pairs screened and flagged."""
    loaded: dict[str, dict[str, int]] = json.loads((run.output / SUMMARY).read_text())
    return loaded


def _flags_of(
    run: Run, filters: list[Filter], chunk: Iterable[list[Pair]], done: int, total: int, passes: int
) -> Iterator[Flag]:
    for batch in chunk:
        for one in filters:
            yield from one.flags(batch)
        done += len(batch)
        run.tell(done // passes, total, "pairs", ", ".join(one.name for one in filters))


def _told(run: Run, one: Filter, pairs: Path, done: int, total: int, passes: int) -> Iterator[Pair]:
    for batch in interchange.batches(pairs):
        yield from batch
        done += len(batch)
        run.tell(done // passes, total, "pairs", one.name)


def _write(path: Path, flags: Iterable[Flag]) -> None:
    """Write flags to a file that appears whole or not at all."""
    half = path.with_suffix(".part")
    columns = list(zip(*flags, strict=True)) or [()] * len(_SCHEMA)
    arrays = [pa.array(column, kind.type) for column, kind in zip(columns, _SCHEMA, strict=True)]
    pq.write_table(pa.table(arrays, schema=_SCHEMA), half)
    half.rename(path)


def _join(parts: list[Path], path: Path) -> Counter[str]:
    """Put the parts into one file; returns how many distinct pairs each filter flags."""
    table = pa.concat_tables([pq.read_table(part) for part in parts]) if parts else _SCHEMA.empty_table()
    half = path.with_suffix(".part")
    pq.write_table(table, half)
    half.rename(path)
    found = set(zip(table["filter"].to_pylist(), table["pair_id"].to_pylist(), strict=True))
    return Counter(name for name, _ in found)


if __name__ == "__main__":
    engine.main(screen)
