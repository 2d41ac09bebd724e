"""A Bradley-Terry head on sentence embeddings: the reward model that needs no download and trains in minutes on a CPU.

FOLDER/head.safetensors  weights (features,)        head.json  which features of which embeddings they weigh
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from training import loading
from training.embeddings import Embedder, asked
from training.rewards.base import Batch, Conversation, Family, Numbers, Scorer, Work
from training.rewards.sentence_features import manner, side

WEIGHTS, ABOUT = "head.safetensors", "head.json"
FEATURES = 1  # counted up when a feature changes: older heads are then refused
_BUDGET = 16_384  # tokens of a batch, which the embeddings cut further


class MinilmBT(Family):
    """A Bradley-Terry head on sentence embeddings: weak, small, and trained in minutes on a CPU."""

    name: ClassVar[str] = "minilm-bt"
    template: ClassVar[str] = "none: the last turns asked and the response are embedded one by one"
    tokenizer: ClassVar[str] = "that of the embeddings"

    source: str = Field(min_length=1, description="the folder of a trained head")

    def sources(self) -> Iterator[str]:
        yield self.source

    def memory(self) -> int | None:
        folder = Path(self.source).expanduser()
        return loading.memory_of(_about(folder)["embeddings"], dtype="float32") if (folder / ABOUT).is_file() else None

    def load(self, *, device: str = "auto") -> Scorer:
        """Raises ValueError for a folder that holds no head, one of other features, or of other embeddings than are here."""
        folder = Path(self.source).expanduser()
        about = _about(folder)
        embedder = Embedder(about["embeddings"])
        if about["key"] != embedder.key:
            raise ValueError(
                f"{self.source!r} was trained on the embeddings {about['key']!r}, here are {embedder.key!r}: train it anew"
            )
        weights = dict(loading.tensors(loading.Place(folder), {"weights"})).get("weights")
        if weights is None:
            raise ValueError(f"{self.source!r} is no head: expected a tensor named weights in {WEIGHTS}")
        width = features([("", "")], *[list(embedder.read([""]))] * 2).shape[1]
        if weights.shape != (width,):
            raise ValueError(f"{self.source!r} has {weights.numel():,} weights: expected {width:,}, one for each feature")
        return HeadScorer(embedder, weights.numpy().astype(np.float64))


def save(folder: Path, weights: Numbers, embedder: Embedder, embeddings: str, told: dict[str, Any]) -> None:
    """Write a head; `told` is what else is known of its making."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({"weights": np.ascontiguousarray(weights)}, folder / WEIGHTS)
    about = {"features": FEATURES, "embeddings": embeddings, "key": embedder.key, **told}
    (folder / ABOUT).write_text(json.dumps(about, indent=1), encoding="utf-8")


def _about(folder: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ValueError(f"{str(folder)!r} is no head on embeddings: expected {ABOUT} and {WEIGHTS} in it") from None
    if about.get("features") != FEATURES or not {"embeddings", "key"} <= about.keys():
        raise ValueError(f"{str(folder)!r} weighs features {about.get('features')}, here they are {FEATURES}: train it anew")
    return about


class HeadScorer(Scorer):
    """Scores are w . f(prompt, response); a text beyond the embeddings' length is cut at its end."""

    def __init__(self, embedder: Embedder, weights: Numbers) -> None:
        self._embedder, self._weights = embedder, weights

    def prepare(self, prompts: Sequence[Conversation], responses: Sequence[Conversation]) -> Work:
        texts = [said(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]
        counts = dict.fromkeys(text for both in texts for text in both)
        sizes, cut = self._embedder.lengths(list(counts))
        size, long = dict(zip(counts, sizes, strict=True)), dict(zip(counts, cut, strict=True))
        batches = list(_batches(texts, size))
        truncated = np.array([long[question] or long[answer] for question, answer in texts], np.bool_)
        return Work(batches, lambda number: self._scores([texts[place] for place in batches[number].places]), truncated)

    def _scores(self, texts: Sequence[tuple[str, str]]) -> Numbers:
        unique = list(dict.fromkeys(text for both in texts for text in both))
        rows = dict(zip(unique, self._embedder.read(unique), strict=True))
        return features(texts, [rows[question] for question, _ in texts], [rows[answer] for _, answer in texts]) @ self._weights


def said(prompt: Conversation, response: Conversation) -> tuple[str, str]:
    """What was asked and what was answered, as two texts."""
    return asked(prompt), "\n\n".join(one.content for one in response)


def features(texts: Sequence[tuple[str, str]], prompts: Sequence[Any], responses: Sequence[Any]) -> Numbers:
    """What a head weighs, (n, features), of texts as `said` gives them and their embeddings."""
    answers = side([answer for _, answer in texts], np.asarray(prompts), np.asarray(responses))
    return np.concatenate([answers, np.array([manner(*both) for both in texts])], axis=1).astype(np.float64)


def _batches(texts: Sequence[tuple[str, str]], size: dict[str, int]) -> Iterator[Batch]:
    """Responses to one prompt together, so that it is read once; of like length within the budget, the longest first."""
    groups: dict[str, list[int]] = {}
    for place, (question, _) in enumerate(texts):
        groups.setdefault(question, []).append(place)
    order = sorted(groups, key=lambda question: (-max(size[texts[place][1]] for place in groups[question]), question))
    places: list[int] = []
    tokens = 0
    for question in order:
        more = size[question] + sum(size[answer] for answer in dict.fromkeys(texts[place][1] for place in groups[question]))
        if places and tokens + more > _BUDGET:
            yield Batch(tuple(places), tokens)
            places, tokens = [], 0
        places += groups[question]
        tokens += more
    if places:
        yield Batch(tuple(places), tokens)
