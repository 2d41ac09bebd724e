"""What a filter is: named, described by its docstring, with validated parameters, turning pairs into flags."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict

from curation.pairs import Pair, Side


class Flag(NamedTuple):
    """One finding: how sure the filter is, in 0..1, and why, in a sentence."""

    pair_id: str
    filter: str
    side: Side
    score: float
    reason: str


class Filter(BaseModel, ABC):
    """One kind of noise. The fields are its parameters; `version` rises whenever the same parameters flag otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    version: ClassVar[int] = 1
    alone: ClassVar[bool] = True  # a pair is judged by itself; otherwise the filter wants the whole dataset at once

    @abstractmethod
    def flags(self, pairs: Iterable[Pair]) -> Iterator[Flag]:
        """What is suspicious about these pairs; at most one flag for each side of a pair."""

    def flag(self, pair: Pair, side: Side, score: float, reason: str) -> Flag:
        """A flag of this filter; the score is held within 0..1."""
        return Flag(pair.pair_id, self.name, side, min(1.0, max(0.0, score)), reason)

    @classmethod
    def description(cls) -> str:
        """What the filter looks for, as shown to people."""
        return " ".join((cls.__doc__ or "").split())
