"""Scoring by a reward model: our runs beside the plain way, two padded passes over the pairs in the order of the file.

    python -m tests.bench scoring

A 135M model (SmolLM2 with a fresh score head, or one of its shape with random weights where the package is not installed)
over 256 pairs, both ways in turn in one process, on one thread pool. Tokens are those computed, padding included.
"""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from tests.bench import data
from tests.bench.measure import table
from training.rewards.base import Conversation, Message

_PAIRS, _BATCH, _TURNS = 256, 16, 1  # a turn takes ten minutes on two cores


def run(folder: Path, *, pairs: int = _PAIRS, turns: int = _TURNS) -> None:
    """Print pairs a second and tokens computed, and how far the scores are apart."""
    import torch

    from training.rewards.classifier import Classifier

    folder.mkdir(parents=True, exist_ok=True)
    source, rows = data.real_rows()
    chosen, rejected = _conversations(rows, pairs)
    model, tokenizer = _model(folder)
    scorer: Any = Classifier(source=str(folder), max_length=2048).load(device="cpu")
    ours: list[float] = []
    plain: list[float] = []
    results: dict[str, Any] = {}
    for _ in range(turns):  # in turn, as the machine's speed drifts
        for name, times, act in (
            ("ours", ours, lambda: _ours(scorer, chosen, rejected)),
            ("plain", plain, lambda: _plain(model, tokenizer, chosen, rejected)),
        ):
            began = time.perf_counter()
            results[name] = act()
            times.append(time.perf_counter() - began)
    (scores, tokens), (expected, padded) = results["ours"], results["plain"]
    once = sum(len(ids) for ids in _ids(tokenizer, chosen)) + sum(len(ids) for ids in _ids(tokenizer, rejected))
    table(
        f"Scoring {pairs} pairs of {source} by a model of {sum(one.numel() for one in model.parameters()) / 1e6:.0f}M, "
        f"{torch.get_num_threads()} threads, median of {turns} turn(s)",
        ("", "pairs/s", "tokens computed", "ratio of time", "ratio of tokens"),
        [
            ("two padded passes, file order, batches of 16", f"{pairs / median(plain):.2f}", f"{padded:,}", "1.0", "1.0"),
            (
                "score run", f"{pairs / median(ours):.2f}", f"{tokens:,}", f"{median(plain) / median(ours):.2f}",
                f"{padded / tokens:.2f}",
            ),
            ("(the texts without padding or sharing)", "", f"{once:,}", "", f"{padded / once:.2f}"),
        ],
    )  # fmt: skip
    print(f"\nlargest difference of a score: {np.abs(scores - expected).max():.1e}")  # noqa: T201


def _conversations(rows: list[tuple[str, str]], pairs: int) -> tuple[list[tuple[Conversation, Conversation]], ...]:
    """The first turns of each pair as prompt, the last as response, spread evenly over the file."""
    from curation.pairs import Pair

    found: tuple[list[Any], list[Any]] = ([], [])
    for one in rows[:: max(1, len(rows) // pairs)][:pairs]:
        pair = Pair.of_texts(*one)
        prompt = tuple(Message(turn.role or "system", turn.content) for turn in pair.prompt)
        for side, response in zip(found, (pair.chosen, pair.rejected), strict=True):
            side.append((prompt, (Message("assistant", response.text),)))
    return found


def _model(folder: Path) -> tuple[Any, Any]:
    """A classifier of SmolLM2's shape, saved to the folder so that the score run opens it as it opens any other."""
    import torch
    from transformers import AutoModelForSequenceClassification

    from training import loading

    place = loading.place_of("smollm2")
    tokenizer = loading.tokenizer_of(place)
    torch.manual_seed(0)
    model, _ = loading.opened(AutoModelForSequenceClassification, place, loading.device_of("cpu"), torch.float32, num_labels=1)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer


def _ours(scorer: Any, chosen: list[Any], rejected: list[Any]) -> tuple[np.ndarray[Any, Any], int]:
    prompts, responses = zip(*chosen, *rejected, strict=True)
    work = scorer.prepare(prompts, responses)
    return work.all(), work.tokens


def _plain(model: Any, tokenizer: Any, chosen: list[Any], rejected: list[Any]) -> tuple[np.ndarray[Any, Any], int]:
    """What a script does: chosen, then rejected, sixteen at a time as they come, padded to the longest of each batch."""
    import torch

    found, tokens = [], 0
    for side in (chosen, rejected):
        ids = _ids(tokenizer, side)
        for start in range(0, len(ids), _BATCH):
            batch = tokenizer.pad({"input_ids": ids[start : start + _BATCH]}, padding_side="right", return_tensors="pt")
            tokens += batch["input_ids"].numel()
            with torch.inference_mode():
                found.append(model(**batch).logits[:, 0].numpy())
    return np.concatenate(found), tokens


def _ids(tokenizer: Any, side: list[Any]) -> list[list[int]]:
    render: Callable[[Any], str] = lambda one: tokenizer.apply_chat_template(  # noqa: E731
        [message._asdict() for message in (*one[0], *one[1])], tokenize=False
    )
    found: list[list[int]] = tokenizer([render(one) for one in side], add_special_tokens=False)["input_ids"]
    return found
