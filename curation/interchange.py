"""Pairs between processes: Parquet files that a run reads fast, one row a pair."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from curation.pairs import Pair, Response, unpacked

# What a file of pairs holds, as SQL selects it: see store/pairs.py
COLUMNS = (
    "pair_id", "prompt_id", "chosen_id", "rejected_id", "rows", "subset", "turns",
    "chosen_text", "chosen_lead", "rejected_text", "rejected_lead",
)  # fmt: skip


def count(path: Path) -> int:
    """How many pairs the file holds."""
    return int(pq.ParquetFile(path).metadata.num_rows)


def batches(path: Path, *, size: int = 2000) -> Iterator[list[Pair]]:
    """The pairs of the file in order, some at a time, so that memory does not grow with the dataset."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=size, columns=list(COLUMNS)):
            columns = [batch.column(name).to_pylist() for name in COLUMNS]
            yield [_pair(*row) for row in zip(*columns, strict=True)]


def _pair(
    pair_id: str, prompt_id: str, chosen_id: str, rejected_id: str, rows: list[int], subset: str,
    turns: str, chosen_text: str, chosen_lead: str, rejected_text: str, rejected_lead: str,
) -> Pair:  # fmt: skip
    prompt = unpacked(turns)
    chosen, rejected = Response(chosen_text, chosen_lead), Response(rejected_text, rejected_lead)
    ids = (pair_id, prompt_id, chosen_id, rejected_id)
    return Pair.known(prompt, chosen, rejected, *ids, rows=tuple(rows), subset=subset)
