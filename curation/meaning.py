"""Search by meaning: the pairs of a dataset that are nearest to a text or to a pair, by their sentence embeddings."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curation import interchange
from curation.readings import Readings
from curation.store.pairs import RowView
from curation.workspace import Workspace
from training.embeddings import PACKAGED, Embedder, asked

_KEPT = 2  # datasets held in memory
_making = Lock()


class NotRead(ValueError):
    """Texts of the dataset have no embedding yet: a screening with a filter that reads them makes it."""


class Near(NamedTuple):
    """A pair that is near: cosine similarity (1: the same direction), what of it is nearest, and its first row."""

    similarity: float
    where: str  # prompt, chosen, rejected, or pair
    row: RowView


@dataclass(frozen=True)
class Index:
    """The embeddings of a dataset's distinct pairs: unit vectors of prompt, chosen and rejected, each (pairs, dimensions)."""

    pair_ids: list[str]
    prompts: NDArray[np.float16]
    chosen: NDArray[np.float16]
    rejected: NDArray[np.float16]

    def near_text(self, vector: NDArray[np.float32], limit: int) -> list[tuple[str, float, str]]:
        """The pairs with a part nearest to this vector: pair_id, cosine, which part."""
        parts = ("prompt", "chosen", "rejected")
        cosines = np.stack([_dot(one, vector) for one in (self.prompts, self.chosen, self.rejected)])
        best = cosines.max(axis=0)
        return [(self.pair_ids[at], float(best[at]), parts[int(cosines[:, at].argmax())]) for at in _highest(best, limit)]

    def near_pair(self, pair_id: str, limit: int) -> list[tuple[str, float, str]]:
        """The pairs most like this one: half for the prompts, half for the responses, in whichever order they match best."""
        at = self.pair_ids.index(pair_id)
        prompt, chosen, rejected = (one[at].astype(np.float32) for one in (self.prompts, self.chosen, self.rejected))
        straight = _dot(self.chosen, chosen) + _dot(self.rejected, rejected)
        turned = _dot(self.chosen, rejected) + _dot(self.rejected, chosen)
        likeness = _dot(self.prompts, prompt) / 2 + np.maximum(straight, turned) / 4
        likeness[at] = -np.inf
        return [(self.pair_ids[one], float(likeness[one]), "pair") for one in _highest(likeness, limit) if one != at]


def search(workspace: Workspace, dataset: str, text: str, *, limit: int = 20) -> list[Near]:
    """The pairs nearest in meaning to a text. Raises NotRead where the dataset's texts have no embeddings yet."""
    index = _index(workspace, dataset)
    return _shown(workspace, dataset, index.near_text(_query(_model(workspace, dataset), text), limit))


def neighbours(workspace: Workspace, dataset: str, pair_id: str, *, limit: int = 10) -> list[Near]:
    """The pairs of the dataset most like this one. Raises NotRead as `search` does, ValueError where it is not one of them."""
    index = _index(workspace, dataset)
    if pair_id not in index.pair_ids:
        raise ValueError(f"no pair {pair_id!r} in {dataset!r}")
    return _shown(workspace, dataset, index.near_pair(pair_id, limit))


def _shown(workspace: Workspace, dataset: str, found: Sequence[tuple[str, float, str]]) -> list[Near]:
    rows: dict[str, RowView] = {}
    for row in workspace.pairs.page(dataset, limit=10_000, pairs=[pair_id for pair_id, _, _ in found]):
        rows.setdefault(row.pair_id, row)
    return [Near(similarity, where, rows[pair_id]) for pair_id, similarity, where in found]


def _index(workspace: Workspace, dataset: str) -> Index:
    held: dict[str, Index] = workspace.held.setdefault("meaning", {})
    model = _model(workspace, dataset)
    key = f"{dataset} {workspace.pairs.dataset(dataset).content_hash} {model}"
    with _making:  # the second person who asks waits for the first one's
        if key not in held:
            made = _made(workspace, dataset, model)
            while len(held) >= _KEPT:
                held.pop(next(iter(held)))
            held[key] = made
        return held[key]


def _model(workspace: Workspace, dataset: str) -> str:
    """The model whose embeddings the dataset was last screened with."""
    screened = {one.filter: json.loads(one.parameters) for one in workspace.flags.current(dataset)}
    named = [screened[name].get("model") for name in ("vague", "contested", "indistinct") if name in screened]
    return next((name for name in named if name), PACKAGED)


def _made(workspace: Workspace, dataset: str, model: str) -> Index:
    readings = Readings(_embedder(model), workspace.cache / "readings")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pairs.parquet"
        workspace.pairs.export(dataset, file)
        texts = {
            text
            for batch in interchange.batches(file)
            for pair in batch
            for text in (asked(pair.prompt), pair.chosen.text, pair.rejected.text)
        }
        unread = len(readings.missing(texts))
        if unread:
            raise NotRead(
                f"{unread:,} of {len(texts):,} texts of {dataset!r} are not read yet: "
                "screen it with vague or contested, which do so"
            )
        ids: list[str] = []
        parts: list[list[Any]] = [[], [], []]
        for batch in interchange.batches(file):
            ids += [pair.pair_id for pair in batch]
            columns = (
                [asked(one.prompt) for one in batch],
                [one.chosen.text for one in batch],
                [one.rejected.text for one in batch],
            )
            for part, column in zip(parts, columns, strict=True):
                part.append(readings(column).astype(np.float16))
    return Index(ids, *(np.concatenate(part) for part in parts))


def _dot(rows: NDArray[np.float16], vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosines of unit vectors, some rows at a time: half-precision numbers are widened before they are multiplied."""
    step = 16_384
    return np.concatenate([rows[at : at + step].astype(np.float32) @ vector for at in range(0, len(rows), step)])


def _highest(values: NDArray[np.float32], limit: int) -> list[int]:
    order = np.argsort(-values, kind="stable")[:limit]
    return [int(one) for one in order]


@lru_cache(maxsize=2)
def _embedder(model: str) -> Embedder:
    return Embedder(model)


@lru_cache(maxsize=256)
def _query(model: str, text: str) -> NDArray[np.float32]:
    vector: NDArray[np.float32] = _embedder(model).read([text])[0]
    return vector
