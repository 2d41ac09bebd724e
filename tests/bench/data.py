"""A folder in HH-RLHF's layout with as many pairs as wanted: real data repeated with edits, so that no pair is there twice."""

import gzip
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def real_rows() -> tuple[str, list[tuple[str, str]]]:
    """Where the pairs come from, and chosen and rejected of each: HH-RLHF's test set, else the project's sample."""
    folder = Path(os.environ.get("ELEPHANT_DATA", ROOT / ".." / "shared" / "data")) / "hh-rlhf"
    files = sorted(folder.glob("*/test.jsonl.gz"))
    if not files:
        lines = (ROOT / "data" / "sample.jsonl").read_text(encoding="utf-8").splitlines()
        return "the sample (no HH-RLHF at hand)", [_sides(line) for line in lines]
    rows = []
    for file in files:
        with gzip.open(file, "rt", encoding="utf-8") as opened:
            rows.extend(_sides(line) for line in opened)
    return "HH-RLHF's test set", rows


def make(folder: Path, wanted: int) -> str:
    """Write `wanted` pairs into folder/bench/train.jsonl.gz; returns where they come from."""
    source, rows = real_rows()
    (folder / "bench").mkdir(parents=True)
    with gzip.open(folder / "bench" / "train.jsonl.gz", "wt", encoding="utf-8", compresslevel=1) as file:
        for chosen, rejected in itertools.islice(_edited(rows), wanted):
            file.write(json.dumps({"chosen": chosen, "rejected": rejected}, ensure_ascii=False) + "\n")
    return source


def _sides(line: str) -> tuple[str, str]:
    record = json.loads(line)
    return record["chosen"], record["rejected"]


def _edited(rows: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The rows again and again; each time round the first turn says which round it is, alike on both sides."""
    for number in itertools.count():
        for chosen, rejected in rows:
            mark = f"\n\nHuman: ({number}) " if number else "\n\nHuman: "
            yield chosen.replace("\n\nHuman: ", mark, 1), rejected.replace("\n\nHuman: ", mark, 1)
