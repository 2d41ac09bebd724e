"""The duplicate filter at growing sizes, which should cost the same for each pair: `python -m tests.bench duplicates`.

Beside it datasketch, where that is installed, as its documentation uses it: the same shingles into MinHash, each asked of
an LSH index and then put into it.
"""

import importlib.util
import random
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curation.interchange import COLUMNS
from curation.pairs import Pair, Response, turn
from tests.bench import data, measure

_PLANTED = 0.02  # share of pairs that have a near duplicate beside them, up to one word in twenty another
_OTHERWISE = 0.4  # share of words that are others each time the real pairs are gone through again
_AT_MOST = 40_000  # pairs given to datasketch, which takes minutes for more
OURS = """
import sys
from pathlib import Path
from curation.filters.duplicate import Duplicate
from curation.interchange import batches
folder, filter = Path(sys.argv[1]), Duplicate()
flags = filter.flags(pair for batch in batches(folder / "pairs.parquet") for pair in batch)
(folder / "found").write_text(" ".join(flag.pair_id for flag in flags if flag.score >= filter.threshold))
"""
DATASKETCH = """
import sys
from pathlib import Path
from datasketch import MinHash, MinHashLSH
from curation.interchange import batches
folder, index, found = Path(sys.argv[1]), MinHashLSH(threshold=0.7, num_perm=128), set()
for batch in batches(folder / "pairs.parquet"):
    for pair in batch:
        parts = [text.lower().split() for text in (pair.prompt[-1].content, pair.chosen.text, pair.rejected.text)]
        sketch = MinHash(num_perm=128)
        sketch.update_batch({" ".join(two).encode() for words in parts for two in zip(["", *words], [*words, ""])})
        near = index.query(sketch)
        found.update(near, [pair.pair_id] if near else ())
        index.insert(pair.pair_id, sketch, check_duplication=False)
(folder / "found").write_text(" ".join(found))
"""


def run(folder: Path, sizes: Sequence[int] = (10_000, 40_000, 160_000)) -> None:
    """Measure at each size and print."""
    rows, source = [], ""
    tools = {"ours": OURS, "datasketch": DATASKETCH}
    if importlib.util.find_spec("datasketch") is None:
        print("datasketch is not installed, so it is not measured")  # noqa: T201
        del tools["datasketch"]
    first: dict[str, float] = {}  # seconds a pair takes at the smallest size
    for size in sizes:
        place = folder / f"duplicates-{size}"
        place.mkdir(parents=True)
        source, planted, sides = _write(place / "pairs.parquet", size)
        for tool, script in tools.items():
            if tool == "datasketch" and size > _AT_MOST:
                continue
            cost = measure.child("-c", script, str(place))
            found = set((place / "found").read_text().split())
            each = cost.seconds / size
            rows.append(
                (
                    tool, f"{size:,}", f"{cost.seconds:.1f}", f"{size / cost.seconds:,.0f}", f"{cost.peak:,.0f}",
                    f"{each / first.setdefault(tool, each):.2f}x", f"{len(planted & found):,} of {len(planted):,}",
                    f"{len(found - planted - sides):,}",
                )
            )  # fmt: skip
    headings = ("filter", "pairs", "seconds", "pairs/s", "peak MB", "time per pair", "planted pairs found", "others flagged")
    measure.table(f"Near duplicates ({source}, words replaced at random; {_PLANTED:.0%} planted)", headings, rows)


def _write(path: Path, size: int) -> tuple[str, set[str], set[str]]:
    """Write pairs as the filter reads them; returns where they come from, the planted ones and those they were made of."""
    source, rows = data.real_rows()
    planted, sides = set(), set()
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as file:
        pairs = enumerate(islice(_pairs(rows), size))
        while some := list(islice(pairs, 5000)):
            file.write_table(pa.Table.from_pylist([_row(number, pair) for number, (pair, _) in some], _SCHEMA))
            for _, (pair, made_of) in some:
                if made_of:
                    planted.add(pair.pair_id)
                    sides.add(made_of)
    return source, planted, sides


def _pairs(rows: list[tuple[str, str]]) -> Iterator[tuple[Pair, str]]:
    """The real pairs again and again, each time with many words replaced; here and there one again with few replaced.

    With each the pair it was made of, if any.
    """
    rng = random.Random(1)
    real = [Pair.of_texts(*sides) for sides in rows]
    words = sorted({word for pair in real[:1000] for word in pair.chosen.text.split()})
    for times in count():
        for pair in real:
            base = _edited(rng, pair, words, _OTHERWISE) if times else pair
            yield base, ""
            if rng.random() < _PLANTED and len(base.chosen.text.split()) >= 20 <= len(base.rejected.text.split()):
                again = _edited(rng, base, words, rng.uniform(0, 0.05))
                if again.pair_id != base.pair_id:
                    yield (again.swapped() if rng.random() < 0.5 else again), base.pair_id


def _edited(rng: random.Random, pair: Pair, words: list[str], share: float) -> Pair:
    """The pair with this share of the words of its last turn and responses replaced."""

    def edit(text: str) -> str:
        return " ".join(rng.choice(words) if rng.random() < share else word for word in text.split(" "))

    last = turn("user", edit(pair.prompt[-1].content))
    return Pair((*pair.prompt[:-1], last), Response(edit(pair.chosen.text)), Response(edit(pair.rejected.text)))


_SCHEMA = pa.schema([(name, pa.list_(pa.int64()) if name == "rows" else pa.string()) for name in COLUMNS])


def _row(number: int, pair: Pair) -> dict[str, object]:
    return {
        "pair_id": pair.pair_id, "prompt_id": pair.prompt_id, "chosen_id": pair.chosen_id, "rejected_id": pair.rejected_id,
        "rows": [number], "subset": "", "turns": pair.packed_prompt,
        "chosen_text": pair.chosen.text, "chosen_lead": pair.chosen.lead,
        "rejected_text": pair.rejected.text, "rejected_lead": pair.rejected.lead,
    }  # fmt: skip
