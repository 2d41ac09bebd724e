"""The pairs a reward model is trained on and tried on, as a run is handed them, and what is counted of them.

    input/pairs.parquet    pair_id, split (train | held out), subset, prompt, chosen, rejected, margin

Prompt, chosen and rejected are JSON, [[role, content], ...]; margin is a preference strength, or null.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.rewards.base import Conversation, Message

PAIRS, MODEL = "pairs.parquet", "model"  # what a run is handed, and the folder of what it makes
TRAIN, HELD_OUT = "train", "held out"
COLUMNS = ("pair_id", "split", "subset", "prompt", "chosen", "rejected", "margin")


class Preference(NamedTuple):
    """A prompt with a response that was preferred to another."""

    pair_id: str
    split: str
    subset: str
    prompt: Conversation
    chosen: Conversation
    rejected: Conversation
    margin: float | None = None

    def written(self) -> str:
        """The pair as one line of JSON: what a data hash is made of."""
        return json.dumps(self, ensure_ascii=False)


class Split(NamedTuple):
    """The two parts of a run's pairs, each in the file's order."""

    train: list[Preference]
    held_out: list[Preference]

    def hash(self) -> str:
        """64 hex digits, the sha256 of every pair used, in order: ids, splits, sides as they were given, margins."""
        digest = sha256()
        for pair in (*self.train, *self.held_out):
            digest.update(pair.written().encode("utf-8", "surrogatepass") + b"\n")
        return digest.hexdigest()

    def counts(self) -> dict[str, Any]:
        """How many pairs each part holds, and of which subsets."""
        return {
            name: {"n": len(pairs), "subsets": dict(sorted(Counter(pair.subset for pair in pairs).items()))}
            for name, pairs in (("train", self.train), ("held_out", self.held_out))
        }


def read(folder: Path) -> Split:
    """The pairs in a run's input folder.

    Raises ValueError for a column that is missing, a split of another name, or no pair to train on.
    """
    import pyarrow.parquet as pq

    table = pq.read_table(folder / PAIRS)
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise ValueError(f"{PAIRS} has no column {', '.join(missing)}: expected {', '.join(COLUMNS)}")
    parts: dict[str, list[Preference]] = {TRAIN: [], HELD_OUT: []}
    for values in zip(*(table.column(name).to_pylist() for name in COLUMNS), strict=True):
        pair_id, split, subset, prompt, chosen, rejected, margin = values
        if split not in parts:
            raise ValueError(f"pair {pair_id} is in the split {split!r}: expected {TRAIN!r} or {HELD_OUT!r}")
        asked, one, other = (_conversation(text) for text in (prompt, chosen, rejected))
        parts[split].append(Preference(pair_id, split, subset or "", asked, one, other, margin))
    if not parts[TRAIN]:
        raise ValueError(f"no pair to train on: expected some in the split {TRAIN!r} of {PAIRS}")
    return Split(parts[TRAIN], parts[HELD_OUT])


def _conversation(text: str) -> Conversation:
    return tuple(Message(role, content) for role, content in json.loads(text))


class Tally(NamedTuple):
    """Held-out pairs, and in how many of them the chosen response scored higher, or as high."""

    n: int
    right: int
    ties: int

    @classmethod
    def of(cls, margins: Iterable[float]) -> "Tally":
        """Of score(chosen) - score(rejected) of each pair."""
        found = np.asarray(list(margins), np.float64)
        return cls(len(found), int((found > 0).sum()), int((found == 0).sum()))

    @property
    def accuracy(self) -> float | None:
        """A tie counts one half; None where there is no pair."""
        return (self.right + self.ties / 2) / self.n if self.n else None

    def record(self) -> dict[str, Any]:
        return {**self._asdict(), "accuracy": self.accuracy}


class Trained(NamedTuple):
    """What training made besides the model's folder: how it is registered, what it was made of, and how it fares.

    `margins` are score(chosen) - score(rejected) of the held-out pairs used, in order, by the model as it was saved.
    """

    family: str
    settings: dict[str, Any]  # the family's, without its source
    used: Split
    margins: NDArray[np.float64]
    too_long: dict[str, int]  # pairs of either part that have a text longer than the model reads
    base: dict[str, Any]  # what it was made from: name, fingerprint, licence
    steps: int = 0
    notes: tuple[str, ...] = ()

    def tally(self) -> Tally:
        """How many held-out pairs are right."""
        return Tally.of(self.margins)

    def by_subset(self) -> dict[str, Tally]:
        """The same for each subset of the held-out pairs."""
        return {name: Tally.of(margins) for name, margins in sorted(_grouped(self.used.held_out, self.margins).items())}


def _grouped(pairs: Sequence[Preference], margins: NDArray[np.float64]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for pair, margin in zip(pairs, margins.tolist(), strict=True):
        found.setdefault(pair.subset, []).append(margin)
    return found
