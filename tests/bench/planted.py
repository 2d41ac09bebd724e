"""Planting: known noise put among real pairs by a seed, with a key that says what stands where."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import NamedTuple

from curation.pairs import Pair, Side
from curation.sources import Row, source_of
from tests.bench.data import ROOT
from tests.bench.noise import KINDS, Kind

_MARKERS = ("\n\nHuman:", "\n\nAssistant:")
_DRAWS = 20  # other pairs that are tried before a pair is left alone
_PLANTED_AT_MOST = 0.6  # of all rows, so that enough background is left


class Plant(NamedTuple):
    """What was planted in a row; `of` is the row of the pair it was copied from."""

    kind: str
    side: Side
    of: int | None = None


@dataclass(frozen=True)
class Planted:
    """A dataset with noise in it: the pairs by row, and the key."""

    pairs: list[Pair]
    key: Mapping[int, Plant]

    def rows(self, kind: str) -> set[int]:
        """Where this kind was planted."""
        return {row for row, plant in self.key.items() if plant.kind == kind}

    @property
    def background(self) -> set[int]:
        """Rows as they came: nothing was planted there, and no copy was made of them."""
        copied = {plant.of for plant in self.key.values()}
        return set(range(len(self.pairs))) - self.key.keys() - copied


def good_pairs() -> tuple[str, list[Pair]]:
    """Where the pairs come from, and the pairs with their subsets: HH-RLHF's test set whole, else the sample's clean ones."""
    folder = Path(os.environ.get("ELEPHANT_DATA", ROOT / ".." / "shared" / "data")) / "hh-rlhf"
    if any(folder.glob("*/test.jsonl.gz")):
        rows = source_of(str(folder), split="test").rows()
        return "HH-RLHF's test set", [replace(row.pair, subset=row.subset) for row in rows if isinstance(row, Row)]
    return "the sample's clean pairs (no HH-RLHF at hand)", sample_pairs()


def sample_pairs() -> list[Pair]:
    """The clean pairs of the project's own sample; helpful and harmless ones are its subsets."""
    texts, keys = (
        [json.loads(line) for line in (ROOT / "data" / name).read_text(encoding="utf-8").splitlines()]
        for name in ("sample.jsonl", "sample_key.jsonl")
    )
    clean = [(text, key) for text, key in zip(texts, keys, strict=True) if key["noise"] == "none"]
    return [replace(Pair.of_texts(**text), subset=key["kind"]) for text, key in clean]


def drawn(pairs: Sequence[Pair], wanted: int, seed: int) -> list[Pair]:
    """As many pairs as wanted, or all, drawn at random and kept in their order."""
    chosen = sorted(Random(f"{seed} background").sample(range(len(pairs)), min(wanted, len(pairs))))
    return [pairs[row] for row in chosen]


def most_each(pairs: int, kinds: Sequence[Kind] = KINDS) -> int:
    """How often each kind can be planted in so many pairs with enough of them left as background."""
    return int(pairs * _PLANTED_AT_MOST) // sum(2 if kind.copies else 1 for kind in kinds)


def plant(pairs: Sequence[Pair], *, each: int, seed: int, kinds: Sequence[Kind] = KINDS) -> Planted:
    """Each kind planted in `each` pairs, no pair twice; where too few lend themselves to a kind, in those that do."""
    made, key = list(pairs), dict[int, Plant]()
    ordinary = [row for row, pair in enumerate(pairs) if _is_ordinary(pair)]
    used = set[int]()  # planted in, or copied from
    for kind in kinds:
        rng = Random(f"{seed} {kind.name}")
        wanted = each
        for row in rng.sample(ordinary, len(ordinary)):
            if not wanted:
                break
            if row in used:
                continue
            donors = [
                other for other in rng.choices(ordinary, k=_DRAWS) if other != row and not (kind.copies and other in used)
            ]
            for other in donors:
                noisy = kind.make(pairs[row], pairs[other], rng)
                if noisy is None:
                    continue
                # read back as an import will read it
                made[row] = replace(Pair.of_texts(*noisy.pair.transcripts()), subset=noisy.pair.subset)
                key[row] = Plant(kind.name, noisy.side, other if kind.copies else None)
                used |= {row, other} if kind.copies else {row}
                wanted -= 1
                break
    return Planted(made, dict(sorted(key.items())))


def swap(pairs: Sequence[Pair], *, share: float, seed: int) -> Planted:
    """The label turned round in exactly this share of each subset's pairs, among those whose sides differ."""
    made, key = list(pairs), dict[int, Plant]()
    for subset, size in Counter(pair.subset for pair in pairs).items():
        rng = Random(f"{seed} swapped {subset} {share}")
        differ = [row for row, pair in enumerate(pairs) if pair.subset == subset and pair.chosen != pair.rejected]
        for row in rng.sample(differ, round(share * size)):
            made[row] = pairs[row].swapped()
            key[row] = Plant("swapped", "pair")
    return Planted(made, dict(sorted(key.items())))


def _is_ordinary(pair: Pair) -> bool:
    """Two single answers to one prompt, so that it is known what a kind of noise does to it."""
    answers = pair.prompt and pair.chosen.lead and pair.rejected.lead
    return bool(answers) and not any(mark in text for _, text in pair.sides() for mark in _MARKERS)
