"""Screening: filters over all pairs of a dataset, as a background run: `python -m curation.screening RUN_FOLDER`."""

import json
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from curation import interchange
from curation.filters.base import Filter, Flag, ReadingFilter, nothing_read
from curation.filters.registry import configured
from curation.pairs import Pair
from curation.readings import Readings
from training import engine
from training.run import Cancelled, Run, write_json

PAIRS, FLAGS, SUMMARY = "pairs.parquet", "flags.parquet", "summary.json"
_SCHEMA = pa.schema(
    [
        ("pair_id", pa.string()),
        ("filter", pa.string()),
        ("side", pa.string()),
        ("score", pa.float64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
_CHUNK = 10  # batches between two checkpoints
_RULES = 0.1  # milliseconds a pair takes, roughly, for all rules together; so for a filter that has its readings


class Screening(BaseModel):
    """What a screening run is told: the dataset it looks at and each filter's parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    filters: dict[str, dict[str, Any]]


class FiltersFailed(Exception):
    """Some filters could not do their work; what the others found is written all the same."""


def screen(run: Run) -> None:
    """The job: reads input/pairs.parquet, writes output/flags.parquet and output/summary.json.

    What is finished is kept, a stretch of pairs or a whole filter in checkpoints/ and what models read in the
    workspace's cache, so a resumed run does nothing twice. A filter that fails loses only its own findings: raises
    FiltersFailed at the end.
    """
    settings = Screening.model_validate(run.config())
    filters = [configured(name, parameters) for name, parameters in settings.filters.items()]
    _Job(run, filters).do()


def cache_of(run: Run) -> Path:
    """Where the workspace keeps what models read: runs/ID and cache/ stand in the same folder."""
    return run.folder.parent.parent / "cache" / "readings"


def summary(run: Run) -> dict[str, dict[str, Any]]:
    """What each filter of a run did: its version, distinct pairs screened and flagged, and which model read for it.

    Only filters that finished are named; empty when none has.
    """
    file = run.output / SUMMARY
    loaded: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.exists() else {}
    return loaded


class _Job:
    """One run's work, in steps: the rules together, then each other filter by itself, its texts read before."""

    def __init__(self, run: Run, filters: list[Filter]) -> None:
        self.run, self.filters = run, filters
        self.pairs = run.input / PAIRS
        self.total = interchange.count(self.pairs)
        self.failed: dict[str, str] = {}
        self.readings: dict[str, Readings] = {}  # by model
        again = self._stumbled()
        self.rules = [one for one in filters if one.judges_alone() and one.name not in again]
        self.others = [one for one in filters if one not in self.rules]
        self.progress = _Progress(run, self.total)

    def do(self) -> None:
        reading = self._readers()
        self.progress.plan("rules", _RULES * self.total if self.rules else 0)
        for one in self.others:
            self.progress.plan(one.name, _RULES * self.total)
        self._plan_readings(reading)
        parts = self._rules()
        for one in self.others:
            part = self.run.checkpoints / f"whole-{one.name}.parquet"
            if not part.exists() and one.name not in self.failed:
                self._guarded(one, self._other, one, reading.get(one.name), part)
            parts += [part] if part.exists() else []
            self.progress.finish(one.name)
        self._end(parts)

    def _rules(self) -> list[Path]:
        """The filters that judge each pair by itself, stretch by stretch; returns the files with what they found."""
        parts: list[Path] = []
        if not self.rules:
            return parts
        batches, done = interchange.batches(self.pairs), 0
        for number in count():
            chunk = list(islice(batches, _CHUNK))
            if not chunk:
                break
            part = self.run.checkpoints / f"alone-{number:05}.parquet"
            parts.append(part)
            if not part.exists():
                found: list[Flag] = []
                for batch in chunk:
                    for one in self.rules:
                        if one.name not in self.failed:
                            self._guarded(one, self._rule, one, batch, found)
                    done += len(batch)
                    self.progress.tell("rules", done / self.total, ", ".join(one.name for one in self.rules))
                if self.failed:  # before this stretch counts as done
                    write_json(self.run.checkpoints / "stumbled.json", sorted(self._stumbled() | set(self.failed)))
                _write(part, found)
            else:
                done += sum(map(len, chunk))
        self.progress.finish("rules")
        return parts

    def _rule(self, one: Filter, batch: list[Pair], found: list[Flag]) -> None:
        found.extend(list(one.flags(batch)))  # all of a batch or, where it fails, none

    def _stumbled(self) -> set[str]:
        """Filters that failed amid the stretches of an earlier try: this time they go over everything by themselves."""
        file = self.run.checkpoints / "stumbled.json"
        return set(json.loads(file.read_text())) if file.exists() else set()

    def _readers(self) -> dict[str, Readings]:
        """For each filter that wants texts read and is not finished, the readings of its model."""
        found: dict[str, Readings] = {}
        for one in self.others:
            if isinstance(one, ReadingFilter) and not (self.run.checkpoints / f"whole-{one.name}.parquet").exists():
                self._guarded(one, self._reader, one, found)
        return found

    def _reader(self, one: ReadingFilter, found: dict[str, Readings]) -> None:
        reader = one.reader()
        if reader is not None:
            found[one.name] = self.readings.setdefault(reader.key, Readings(reader, cache_of(self.run)))

    def _plan_readings(self, reading: dict[str, Readings]) -> None:
        """How much each model has to read, so that the time it takes can be told beforehand."""
        wanted: dict[str, set[str]] = defaultdict(set)
        filters = [one for one in self.others if isinstance(one, ReadingFilter) and one.name in reading]
        for batch in interchange.batches(self.pairs) if filters else ():
            for one in filters:
                if one.name not in self.failed:
                    self._guarded(one, self._wants, one, batch, wanted[reading[one.name].reader.key])
            self.progress.alive("looking what there is to read")
        for one in filters:
            key = reading[one.name].reader.key
            if key in wanted and one.name not in self.failed:
                self._guarded(one, self._plan_reading, reading[one.name], wanted.pop(key))

    def _wants(self, one: ReadingFilter, batch: list[Pair], wanted: set[str]) -> None:
        wanted.update(text for pair in batch for text in one.texts(pair))

    def _plan_reading(self, readings: Readings, texts: set[str]) -> None:
        unread = readings.missing(texts)
        self.progress.plan(readings.reader.key, readings.reader.cost * sum(map(len, unread.values())) / 1000)

    def _other(self, one: Filter, readings: Readings | None, part: Path) -> None:
        """A filter that wants the whole dataset, and its model's readings first."""
        told = self._told(one.name)
        if not isinstance(one, ReadingFilter):
            _write(part, one.flags(told))
            return
        if readings is not None:
            key, words = readings.reader.key, readings.reader.described

            def tell(done: int, total: int) -> None:
                self.progress.tell(key, done / total if total else 1.0, f"{words} reads, for {one.name}")

            texts = (text for batch in interchange.batches(self.pairs) for pair in batch for text in one.texts(pair))
            readings.fill(chain(one.fixed, texts), tell)
            self.progress.finish(key)
        findings = list(one.judged(told, readings or nothing_read, self.run.input))
        said = ["" if readings is None else readings.reader.described, one.remark(len(findings), self.total)]
        _write(part, findings, "; ".join(filter(None, said)))

    def _told(self, name: str) -> Iterator[Pair]:
        done = 0
        for batch in interchange.batches(self.pairs):
            yield from batch
            done += len(batch)
            self.progress.tell(name, done / self.total, name)

    def _guarded(self, one: Filter, act: Callable[..., None], *arguments: Any) -> None:
        """Do it; what goes wrong with a filter is written down and ends with that filter."""
        try:
            act(*arguments)
        except Cancelled:
            raise
        except Exception as error:  # noqa: BLE001  whatever it was, the other filters go on
            traceback.print_exc()
            self.failed[one.name] = f"{type(error).__name__}: {' '.join(str(error).split())}"

    def _end(self, parts: list[Path]) -> None:
        finished = [one for one in self.filters if one.name not in self.failed]
        stretches = [part for part in parts if part.name.startswith("alone-")]
        whole = [part for part in parts if part not in stretches]
        counts = _join(stretches, {one.name for one in self.rules}, whole, finished, self.run.output / FLAGS)
        read_by = {part.stem.removeprefix("whole-"): _read_by(part) for part in whole}
        write_json(
            self.run.output / SUMMARY,
            {
                one.name: {
                    "version": one.version, "screened": self.total, "flagged": counts[one.name],
                    "read_by": read_by.get(one.name, ""),
                }
                for one in finished
            },
        )  # fmt: skip
        self.run.tell(self.total, self.total, "pairs", f"{sum(counts.values()):,} flagged")
        if self.failed:
            kept = "; what the other filters found is kept" if finished else ""
            raise FiltersFailed(", ".join(f"{name}: {error}" for name, error in self.failed.items()) + kept)


class _Progress:
    """How far a run is, in pairs, its steps weighed by the time they take."""

    def __init__(self, run: Run, total: int) -> None:
        self._run, self._total = run, total
        self._weights: dict[str, float] = {}
        self._shares: dict[str, float] = {}

    def plan(self, step: str, milliseconds: float) -> None:
        self._weights[step] = self._weights.get(step, 0.0) + milliseconds

    def tell(self, step: str, share: float, words: str) -> None:
        self._shares[step] = share
        self.alive(words)

    def finish(self, step: str) -> None:
        self._shares[step] = 1.0

    def alive(self, words: str) -> None:
        whole = sum(self._weights.values())
        done = sum(weight * self._shares.get(step, 0.0) for step, weight in self._weights.items())
        at = int(self._total * done / whole) if whole else 0
        self._run.tell(min(at, self._total - 1), self._total, "pairs", words)


def _write(path: Path, flags: Iterable[Flag], read_by: str = "") -> None:
    """Write findings, and which model read for them, to a file that appears whole or not at all."""
    half = path.with_suffix(".part")
    columns = list(zip(*flags, strict=True)) or [()] * len(_SCHEMA)
    arrays = [pa.array(column, kind.type) for column, kind in zip(columns, _SCHEMA, strict=True)]
    pq.write_table(pa.table(arrays, schema=_SCHEMA.with_metadata({"read_by": read_by})), half)
    half.rename(path)


def _read(path: Path) -> pa.Table:
    """A file of findings; one written before they had details is given empty ones."""
    table = pq.read_table(path).replace_schema_metadata()
    if "detail" not in table.column_names:
        table = table.append_column("detail", pa.array([""] * table.num_rows, pa.string()))
    return table


def _read_by(path: Path) -> str:
    found: bytes = (pq.read_schema(path).metadata or {}).get(b"read_by", b"")
    return found.decode()


def _join(stretches: list[Path], rules: set[str], whole: list[Path], finished: list[Filter], path: Path) -> dict[str, int]:
    """Put what the finished filters found into one file; returns how many distinct pairs each of them flags."""
    names = pa.array([one.name for one in finished], pa.string())
    tables = [_SCHEMA.empty_table()]
    for part in stretches:
        table = _read(part)
        tables.append(table.filter(pc.is_in(table["filter"], pa.array(sorted(rules), pa.string()))))
    tables += [_read(part) for part in whole]
    table = pa.concat_tables(tables)
    table = table.filter(pc.is_in(table["filter"], names))
    half = path.with_suffix(".part")
    pq.write_table(table, half)
    half.rename(path)
    counts = {}
    for one in finished:
        flagged = table.filter((pc.field("filter") == one.name) & (pc.field("score") >= one.threshold))
        counts[one.name] = pc.count_distinct(flagged["pair_id"]).as_py()
    return counts


if __name__ == "__main__":
    engine.main(screen)
