"""Scores responses, or compares pairs of them, by one reward model, as a background run: `python -m training.score RUN_FOLDER`.

    input/texts.parquet       response_id, prompt, response        for a model that scores
    input/duels.parquet       first_id, second_id, prompt, first, second        for a model that compares
    output/scores.parquet     response_id, score, truncated
    output/preferences.parquet    first_id, second_id, preference (P(first is better), 0..1), truncated
    output/summary.json       what was done; it is written last

Prompts and responses are JSON, [[role, content], ...]. Every batch that is done is kept, so a resumed run computes none twice.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from training import engine, loading
from training.rewards.base import Comparer, Conversation, Family, Message, Work
from training.rewards.registry import family
from training.run import Run, say, write_json

TEXTS, DUELS, SCORES, PREFERENCES, SUMMARY = (
    "texts.parquet", "duels.parquet", "scores.parquet", "preferences.parquet", "summary.json"
)  # fmt: skip
_DONE = "done.jsonl"


class Scoring(BaseModel):
    """What a scoring run is told: the reward model by its name in the registry, and what that name means.

    `pairs` is how many pairs the texts belong to, or responses where they belong to none: progress is told in them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reward_model: str
    family: str
    settings: dict[str, Any]
    pairs: int
    unit: str = "pairs"
    of: dict[str, Any] = {}  # what the texts are: a dataset, release, study, probes
    fingerprint: str = ""  # of the model's files when it was registered; "" where none were here
    device: str = "auto"


def score(run: Run) -> None:
    """The job. Raises ValueError, with nothing written to output/, where the model cannot be used or a number is none."""
    settings = Scoring.model_validate(run.config())
    run.tell(0, settings.pairs, settings.unit, f"opening {settings.reward_model}", seconds=0)
    began = time.monotonic()
    chosen = family(settings.family, settings.settings)
    _check_fingerprint(settings, chosen)
    model = chosen.load(device=settings.device)
    say(f"{settings.reward_model} opened in {time.monotonic() - began:.1f} s")
    columns = _columns(run.input / (DUELS if isinstance(model, Comparer) else TEXTS))
    ids, texts = columns[: 2 if isinstance(model, Comparer) else 1], columns[2 if isinstance(model, Comparer) else 1 :]
    run.tell(0, settings.pairs, settings.unit, "reading the texts", seconds=0)
    conversations = [[conversation(text) for text in column] for column in texts]
    work = model.prepare(*conversations)
    cut = int(work.truncated.sum())
    say(f"{len(ids[0]):,} to do, {cut:,} of them longer than the model reads; {work.tokens:,} tokens in all")
    for note in work.notes:
        say(note)
    values, seconds = _computed(run, settings, work, ids)
    for count in work.counts():
        say(count)
    table = _table(ids, values, work, compares=isinstance(model, Comparer))
    _write(run.output / (PREFERENCES if isinstance(model, Comparer) else SCORES), table)
    summary = {
        "reward_model": settings.reward_model, "texts": len(values), "truncated": cut, "tokens": work.tokens,
        "seconds": round(seconds, 3), "notes": [*work.notes, *work.counts()], "found": work.counts(none_too=False),
    }  # fmt: skip
    write_json(run.output / SUMMARY, summary)
    words = f"{len(values):,} scored" + (f", {cut:,} cut to the model's length" if cut else "")
    run.tell(settings.pairs, settings.pairs, settings.unit, "; ".join([words, *work.counts(none_too=False)]))


def conversation(text: str) -> Conversation:
    """A conversation from its JSON."""
    return tuple(Message(role, content) for role, content in json.loads(text))


def _check_fingerprint(settings: Scoring, chosen: Family) -> None:
    """Raise ValueError where the files are not those that were registered: a name means one model for ever."""
    now = loading.fingerprint_of_all(chosen.sources()) if settings.fingerprint else ""
    if now != settings.fingerprint:
        raise ValueError(
            f"the files of {settings.reward_model!r} have changed since it was registered ({settings.fingerprint}, now {now}): "
            "register them under another name"
        )


def _computed(run: Run, settings: Scoring, work: Work, ids: Sequence[Sequence[str]]) -> tuple[np.ndarray[Any, Any], float]:
    """Every number, those of an earlier try and those still missing; and the seconds this try computed."""
    kept = _Kept(run.checkpoints / _DONE, work)
    values = np.full(len(work.truncated), np.nan)
    total = work.tokens or len(values)
    done = fresh = 0
    began = time.monotonic()
    for number, batch in enumerate(work.batches):
        places, size = list(batch.places), batch.tokens if work.tokens else len(batch.places)
        if number in kept.values:
            values[places] = kept.values[number]
            work.counted.update(kept.counted[number])
        else:
            before = work.counted.copy()
            values[places] = _run(work, number, settings.reward_model)
            _check(values[places], [[column[place] for place in places] for column in ids], settings.reward_model)
            kept.add(number, values[places].tolist(), work.counted - before)
            fresh += size
        done += size
        rate = fresh / max(time.monotonic() - began, 1e-6)
        told = f"{rate:,.0f} tokens/s" if fresh and work.tokens else ""
        at = min(settings.pairs - 1, int(settings.pairs * done / max(1, total)))
        run.tell(at, settings.pairs, settings.unit, told, left=(total - done) / rate if fresh else None)
    kept.close()
    return values, time.monotonic() - began


def _run(work: Work, number: int, name: str) -> np.ndarray[Any, Any]:
    """One batch. Raises MemoryError with what to change where the GPU's memory is full."""
    try:
        return work.run(number)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":
            raise
        tokens = work.batches[number].tokens
        raise MemoryError(
            f"the GPU's memory is full with {tokens:,} tokens of {name} at once: register it with a smaller batch_tokens "
            f"({max(512, tokens // 4):,}, say), or a smaller max_length"
        ) from error


class _Kept:
    """The numbers of finished batches and what was counted in them, a line each, on disk when they are computed.

    The first line names the plan: numbers of another plan (another batch size, other tokens) are not taken for ours.
    """

    def __init__(self, path: Path, work: Work) -> None:
        planned = f"{work.digest} {[one.places for one in work.batches]}"
        plan = blake2b(planned.encode(), digest_size=8).hexdigest()
        self.values: dict[int, list[float]] = {}
        self.counted: dict[int, dict[str, int]] = {}
        lines = list(_whole_lines(path))
        if lines and lines[0] == {"plan": plan}:
            self.values = {one["batch"]: one["values"] for one in lines[1:]}
            self.counted = {one["batch"]: one.get("counted", {}) for one in lines[1:]}
            self._file = path.open("ab")
            if path.stat().st_size and not _ends_whole(path):
                self._file.write(b"\n")  # after half a line, which nobody reads
        else:
            self._file = path.open("wb")
            self._write({"plan": plan})

    def add(self, number: int, values: list[float], counted: Mapping[str, int]) -> None:
        self._write({"batch": number, "values": values, **({"counted": dict(counted)} if counted else {})})

    def close(self) -> None:
        self._file.close()

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for line in path.read_bytes().split(b"\n"):
        try:
            found = json.loads(line)
        except ValueError:  # half a line, of a process that was stopped while it wrote
            continue
        if isinstance(found, dict):
            yield found


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _check(values: np.ndarray[Any, Any], ids: list[list[str]], name: str) -> None:
    for place in np.flatnonzero(~np.isfinite(values)):
        what = " and ".join(column[place] for column in ids)
        raise ValueError(
            f"{name} gave {values[place]} for response {what}: expected a number. Weights that overflow in bfloat16 often do "
            "not in float32 (dtype=float32)"
        )


def _columns(path: Path) -> list[list[str]]:
    table = pq.read_table(path)
    return [table.column(name).to_pylist() for name in table.column_names]


def _table(ids: Sequence[Sequence[str]], values: np.ndarray[Any, Any], work: Work, *, compares: bool) -> pa.Table:
    names = ["first_id", "second_id", "preference"] if compares else ["response_id", "score"]
    columns = [*(pa.array(one, pa.string()) for one in ids), pa.array(values), pa.array(work.truncated)]
    return pa.table(columns, [*names, "truncated"])


def _write(path: Path, table: pa.Table) -> None:
    half = path.with_suffix(".part")
    pq.write_table(table, half)
    os.replace(half, path)


if __name__ == "__main__":
    engine.main(score)
