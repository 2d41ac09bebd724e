"""Toxicity: our reader beside a plain loop of Detoxify.predict, on a checkpoint of BERT-base's size with random weights.

Random weights cost what trained ones cost. Run alone: `python -c "from tests.bench import toxicity; toxicity.run(120)"`.
"""

import hashlib
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from curation import toxicity
from curation.pairs import Pair
from curation.readings import Readings
from tests.bench import data, measure

_PLAIN_BATCH = 32
_VOCABULARY = 12_000


def run(count: int) -> None:
    """Measure over this many texts and print: what each way of reading takes, and how far their scores differ."""
    import torch
    from detoxify import Detoxify

    source, texts = _texts(count)
    unique = list(dict.fromkeys(texts))
    with tempfile.TemporaryDirectory(prefix="elephant-bench-") as name:
        weights = _checkpoint(Path(name, "base"), texts)
        theirs = Detoxify(checkpoint=str(weights), huggingface_config_path=str(weights.parent), device=toxicity.device())
        reader = toxicity.chosen(str(weights.parent))

        def plain() -> np.ndarray:
            parts = [theirs.predict(texts[at : at + _PLAIN_BATCH]) for at in range(0, len(texts), _PLAIN_BATCH)]
            return np.concatenate([np.array([np.atleast_1d(one) for one in part.values()]).T for part in parts])

        def ours() -> np.ndarray:
            readings = Readings(reader)
            readings.fill(texts)
            return readings(texts)

        for warm in (theirs.predict, reader.read):
            warm(texts[:4])
        expected, base = _timed(plain)
        sorted_only, alone = _timed(lambda: reader.read(texts))
        all_ours, whole = _timed(ours)
        words = toxicity.WordList("")
        words.read(texts[:4])
        _, listed = _timed(lambda: words.read(texts))
    thousands = sum(map(len, texts)) / 1000
    rows = [
        (
            what, f"{count / took.seconds:,.1f}", f"{1000 * took.seconds / thousands:,.1f}",
            f"{base.seconds / took.seconds:.1f}x", f"{base.cpu / took.cpu:.1f}x", far,
        )
        for what, took, far in (
            (f"Detoxify.predict, batches of {_PLAIN_BATCH} as they come", base, "-"),
            ("our reader, sorted by length", alone, _far(sorted_only, expected)),
            ("our reader, each text once, kept as float16", whole, _far(all_ours, expected)),
            ("the word list", listed, "-"),
        )
    ]  # fmt: skip
    where = f"{toxicity.device()}, {torch.get_num_threads()} threads"
    title = f"Toxicity of {count:,} texts ({len(unique):,} unique, {sum(map(len, texts)):,} characters) of {source}; {where}"
    measure.table(
        title, ("what", "texts/s", "ms per 1,000 characters", "ratio", "ratio of CPU time", "largest difference"), rows
    )


class _Took(NamedTuple):
    seconds: float
    cpu: float  # of all threads: steadier than the clock on a machine that others use too


def _timed(act: Callable[[], np.ndarray]) -> tuple[np.ndarray, _Took]:
    began, cpu = time.perf_counter(), time.process_time()
    return act(), _Took(time.perf_counter() - began, time.process_time() - cpu)


def _far(scores: np.ndarray, expected: np.ndarray) -> str:
    return f"{np.abs(scores - expected).max():.1e}"


def _texts(count: int) -> tuple[str, list[str]]:
    """Last prompts and both responses of pairs drawn from all over the data, in the order of the data, as a loop meets them."""
    source, rows = data.real_rows()
    drawn = sorted(random.Random(0).sample(range(len(rows)), min(len(rows), -(-count // 3))))
    pairs = [Pair.of_texts(*rows[place]) for place in drawn]
    return source, [
        text
        for pair in pairs
        for text in (pair.prompt[-1].content if pair.prompt else "", pair.chosen.text, pair.rejected.text)
    ][:count]


def _checkpoint(folder: Path, texts: Sequence[str]) -> Path:
    """A Detoxify checkpoint of BERT-base's size, its name with the right hash, its vocabulary made of the texts' words."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    folder.mkdir()
    pieces = Counter(word for text in texts for word in re.findall(r"\w+|[^\w\s]", text.lower()))
    letters = sorted({letter for piece in pieces for letter in piece})
    words = [word for word, _ in pieces.most_common(_VOCABULARY) if len(word) > 1]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters), *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    BertTokenizer(str(folder / "vocab.txt"), model_max_length=512).save_pretrained(folder)
    config = BertConfig(num_labels=6)
    config.save_pretrained(folder)
    torch.manual_seed(0)
    model = BertForSequenceClassification(config)
    names = {"model_type": str(folder), "model_name": "BertForSequenceClassification", "tokenizer_name": "BertTokenizer"}
    classes = ["toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"]
    about = {"dataset": {"args": {"classes": classes}}, "arch": {"args": {**names, "num_classes": len(classes)}}}
    unnamed = folder / "unnamed"
    torch.save({"config": about, "state_dict": model.state_dict()}, unnamed)
    with unnamed.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return unnamed.rename(folder / f"base-{digest[:8]}.ckpt")
