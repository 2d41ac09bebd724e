"""What a filter is: named, described by its docstring, with validated parameters, turning pairs into findings."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from curation.pairs import Pair, Side
from curation.readings import Reader, Readings

Numbers = NDArray[np.float32]
Read = Callable[[Sequence[str]], Numbers]  # a row of numbers for each text


class Flag(NamedTuple):
    """One finding: how sure the filter is, in 0..1, and why, in a sentence. `detail` holds its numbers as JSON."""

    pair_id: str
    filter: str
    side: Side
    score: float
    reason: str
    detail: str = ""


class Filter(BaseModel, ABC):
    """One kind of noise. The fields are its parameters; `version` rises whenever the same parameters find otherwise.

    A finding whose score reaches `threshold` is a flag; those below are kept, so that another threshold can be tried
    without screening again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    version: ClassVar[int] = 1
    alone: ClassVar[bool] = True  # a pair is judged by itself; otherwise the filter wants the whole dataset at once

    threshold: float = Field(0.0, ge=0, le=1, description="the score from which a finding is a flag")

    @abstractmethod
    def flags(self, pairs: Iterable[Pair]) -> Iterator[Flag]:
        """What is suspicious about these pairs; at most one finding for each side of a pair."""

    def judges_alone(self) -> bool:
        """Whether these parameters leave a filter that judges each pair by itself and reads nothing."""
        return self.alone

    def flag(self, pair: Pair, side: Side, score: float, reason: str, detail: str = "") -> Flag:
        """A finding of this filter; the score is held within 0..1."""
        return Flag(pair.pair_id, self.name, side, min(1.0, max(0.0, score)), reason, detail)

    @classmethod
    def description(cls) -> str:
        """What the filter looks for, as shown to people."""
        return " ".join((cls.__doc__ or "").split())


def several(pairs: Iterable[Pair], size: int = 500) -> Iterator[list[Pair]]:
    """The pairs, some at a time."""
    left = iter(pairs)
    while some := list(islice(left, size)):
        yield some


class ReadingFilter(Filter):
    """A filter that judges by numbers a model gives texts, such as their embeddings. The whole dataset is read before
    the first pair is judged, so that each text is read once, whoever wants it."""

    alone: ClassVar[bool] = False
    fixed: ClassVar[tuple[str, ...]] = ()  # texts of its own, which it compares others with

    @abstractmethod
    def reader(self) -> Reader | None:
        """The model that reads for this filter; None where its parameters leave only rules."""

    @abstractmethod
    def texts(self, pair: Pair) -> Sequence[str]:
        """What the filter wants read of a pair."""

    @abstractmethod
    def judged(self, pairs: Iterable[Pair], read: Read, given: Path | None = None) -> Iterator[Flag]:
        """The findings about these pairs. `given` is the run's folder of input, where a filter may find more to go by."""

    def remark(self, found: int, total: int) -> str:
        """What people should know of a screening with so many findings in so many pairs; mostly nothing."""
        return ""

    def flags(self, pairs: Iterable[Pair]) -> Iterator[Flag]:
        """What is suspicious about these pairs, which are read and judged at once; nothing read is kept."""
        held = list(pairs)
        reader = self.reader()
        readings = Readings(reader) if reader else None
        if readings is not None:
            readings.fill([*self.fixed, *(text for pair in held for text in self.texts(pair))])
        yield from self.judged(held, readings or nothing_read)


def nothing_read(texts: Sequence[str]) -> Any:
    """The readings of a filter that has no model: there are none to ask for."""
    raise RuntimeError(f"{len(texts)} texts are wanted of a filter that reads none")
