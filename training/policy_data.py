"""What a policy's run is handed and what it writes, as tables.

    input/prompts.parquet      prompt_id, use (train | held out), prompt
    input/pairs.parquet        of runs that learn from pairs: see training/reward_data.py
    output/responses.parquet   prompt_id, point, sample, text, tokens, stopped, log_ratio, and for each reward model
                               `score/NAME` and `cut/NAME`

Prompts are JSON, [[role, content], ...]. `point` is the step of training at which the policy answered (0: the start), or the n
of best-of-n. `log_ratio` is log pi - log pi_start of the whole response in nats, null where it was not measured: its mean
over responses is the KL divergence from the start.
"""

import json
import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from training.rewards.base import Conversation, Message

PROMPTS, RESPONSES, SUMMARY, MODEL = "prompts.parquet", "responses.parquet", "summary.json", "model"
TRAIN, HELD_OUT = "train", "held out"
SCORE, CUT = "score/", "cut/"  # before a reward model's name, in the names of columns
PROMPT_SCHEMA = pa.schema([("prompt_id", pa.string()), ("use", pa.string()), ("prompt", pa.string())])
RESPONSE_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()), ("point", pa.int32()), ("sample", pa.int32()), ("text", pa.string()),
        ("tokens", pa.int32()), ("stopped", pa.bool_()), ("log_ratio", pa.float64()),
    ]
)  # fmt: skip


class Prompt(NamedTuple):
    """A prompt a policy answers."""

    prompt_id: str
    turns: Conversation


class Prompts(NamedTuple):
    """The prompts of a run: those it learns from, and those it is looked at with and never learns from."""

    train: list[Prompt]
    held_out: list[Prompt]


class Answer(NamedTuple):
    """A response as a row of responses.parquet."""

    prompt_id: str
    point: int
    sample: int
    text: str
    tokens: int
    stopped: bool
    log_ratio: float | None


def prompts(folder: Path) -> Prompts:
    """The prompts in a run's input folder, in the file's order. Raises ValueError for a use of another name."""
    parts: dict[str, list[Prompt]] = {TRAIN: [], HELD_OUT: []}
    table = pq.read_table(folder / PROMPTS)
    for prompt_id, use, text in zip(*(table.column(name).to_pylist() for name in PROMPT_SCHEMA.names), strict=True):
        if use not in parts:
            raise ValueError(f"prompt {prompt_id} is for {use!r}: expected {TRAIN!r} or {HELD_OUT!r}")
        parts[use].append(Prompt(prompt_id, tuple(Message(role, content) for role, content in json.loads(text))))
    return Prompts(parts[TRAIN], parts[HELD_OUT])


def prompts_hash(some: Sequence[Prompt]) -> str:
    """64 hex digits, the sha256 of these prompts in their order."""
    return sha256(json.dumps([(one.prompt_id, one.turns) for one in some]).encode()).hexdigest()


def write_prompts(folder: Path, found: Prompts) -> None:
    """Write a run's prompts."""
    rows = [
        {"prompt_id": one.prompt_id, "use": use, "prompt": json.dumps([list(turn) for turn in one.turns], ensure_ascii=False)}
        for use, some in ((TRAIN, found.train), (HELD_OUT, found.held_out))
        for one in some
    ]
    write_table(folder / PROMPTS, pa.Table.from_pylist(rows, PROMPT_SCHEMA))


def answers_table(answers: Sequence[Answer], scores: Mapping[str, tuple[Sequence[float], Sequence[bool]]]) -> pa.Table:
    """Answers with, by reward model, the score of each and whether its text was cut, as a table."""
    table = pa.Table.from_pylist([one._asdict() for one in answers], RESPONSE_SCHEMA)
    for name, (values, cut) in scores.items():
        table = table.append_column(SCORE + name, pa.array([float(one) for one in values], pa.float64()))
        table = table.append_column(CUT + name, pa.array([bool(one) for one in cut], pa.bool_()))
    return table


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file that appears whole or not at all."""
    half = path.with_suffix(".part")
    pq.write_table(table, half, compression="zstd")
    os.replace(half, path)


def read_answers(path: Path) -> list[Answer]:
    """The answers of a file, without scores."""
    columns: list[Any] = [pq.read_table(path, columns=[name]).column(0).to_pylist() for name in Answer._fields]
    return [Answer(*row) for row in zip(*columns, strict=True)]
