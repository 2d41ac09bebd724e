"""Embedding: our reader beside one SentenceTransformer.encode over all texts: `python -m tests.bench embedding`.

The texts are those a screening reads of real pairs, with the repeats the data has; each way runs in its own process.
"""

import json
import os
import random
from pathlib import Path

from curation.pairs import Pair
from tests.bench import data, measure
from training.embeddings import asked

OURS = """
import json, sys
from pathlib import Path
from training.embeddings import Embedder
from curation.readings import Readings
texts = json.loads(Path(sys.argv[1]).read_text())
readings = Readings(Embedder(), Path(sys.argv[2]))
readings.fill(texts)
print(len(readings(texts)))
"""
PLAIN = """
import json, sys
from pathlib import Path
from sentence_transformers import SentenceTransformer
from training.models import located
texts = json.loads(Path(sys.argv[1]).read_text())
model = SentenceTransformer(located("minilm").place)
print(len(model.encode(texts, normalize_embeddings=True, show_progress_bar=False)))
"""


def run(folder: Path, count: int = 700) -> None:
    """Measure over the texts of this many pairs and print."""
    folder.mkdir(parents=True, exist_ok=True)
    source, rows = data.real_rows()
    pairs = [Pair.of_texts(*row) for row in random.Random(0).sample(rows, min(count, len(rows)))]
    texts = [text for pair in pairs for text in (asked(pair.prompt), pair.chosen.text, pair.rejected.text)]
    file = folder / "texts.json"
    file.write_text(json.dumps(texts))
    os.environ["HF_HUB_OFFLINE"] = "1"
    nothing = folder / "nothing.json"
    nothing.write_text("[]")
    idle = measure.child("-c", OURS, str(nothing), str(folder / "none"))  # importing is no part of reading
    one = folder / "one.json"
    one.write_text('["one"]')
    loading = measure.child("-c", PLAIN, str(one))
    plain = measure.child("-c", PLAIN, str(file))
    first = measure.child("-c", OURS, str(file), str(folder / "cache"))
    again = measure.child("-c", OURS, str(file), str(folder / "cache"))
    base = plain.cpu - loading.cpu
    measure.table(
        f"Embedding {len(texts):,} texts of {len(pairs):,} pairs ({len(set(texts)):,} unique; {source}), less loading",
        ("way", "seconds", "CPU seconds", "peak MB", "ratio (CPU)"),
        [
            (
                "one SentenceTransformer.encode", f"{plain.seconds - loading.seconds:.1f}", f"{base:.1f}",
                f"{plain.peak:,.0f}", "1.0x",
            ),
            (
                "ours, first time", f"{first.seconds - loading.seconds:.1f}", f"{first.cpu - loading.cpu:.1f}",
                f"{first.peak:,.0f}", f"{base / (first.cpu - loading.cpu):.2f}x",
            ),
            (
                "ours, again (from the disk)", f"{again.seconds - idle.seconds:.1f}", f"{max(0.0, again.cpu - idle.cpu):.1f}",
                f"{again.peak:,.0f}", f"{base / max(0.05, again.cpu - idle.cpu):.0f}x",
            ),
        ],
    )  # fmt: skip
