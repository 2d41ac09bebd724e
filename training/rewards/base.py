"""What a reward model is here: anything that gives a response to a prompt a score, or two responses a preference.

A family is a settings object that can be written into a registry and a run's config; `load` opens its weights.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Numbers = NDArray[np.float64]


class Message(NamedTuple):
    """One turn of a conversation."""

    role: str  # user, assistant, system
    content: str


Conversation = tuple[Message, ...]  # a prompt; or a response, which is one assistant message, seldom with further turns


class Batch(NamedTuple):
    """Texts that are computed together: their places among those given, and the tokens that takes, padding included."""

    places: tuple[int, ...]
    tokens: int


@dataclass
class Work:
    """Texts made ready for a model and cut into batches. The same texts give the same batches, so work can be resumed.

    `run(number)` computes one batch and returns its numbers in the order of its places. `truncated` says of each text
    whether it was too long for the model and lost its beginning. `counted` is what only shows while batches are computed:
    `run` adds to it, and who keeps the numbers of a batch keeps its counts too.
    """

    batches: Sequence[Batch]
    run: Callable[[int], Numbers]
    truncated: NDArray[np.bool_]
    notes: list[str] = field(default_factory=list)  # for people: what was done otherwise than usual
    digest: str = ""  # of what the model reads, where the same texts may be read otherwise another day
    counted: Counter[str] = field(default_factory=Counter)  # by the words that follow the number

    @property
    def tokens(self) -> int:
        """Tokens that all batches compute, padding included."""
        return sum(one.tokens for one in self.batches)

    def counts(self, *, none_too: bool = True) -> list[str]:
        """What was counted so far, in words; without `none_too` only what was found."""
        return [f"{count:,} {words}" for words, count in self.counted.items() if count or none_too]

    def all(self) -> Numbers:
        """The numbers of all texts, batch after batch."""
        values = np.full(len(self.truncated), np.nan)
        for number, batch in enumerate(self.batches):
            values[list(batch.places)] = self.run(number)
        return values


class Scores(NamedTuple):
    """Numbers of texts, how many were cut, and tokens computed."""

    values: Numbers
    truncated: int
    tokens: int


class Scorer(ABC):
    """A loaded reward model that gives one response a number, the higher the better, on a scale of its own."""

    @abstractmethod
    def prepare(self, prompts: Sequence[Conversation], responses: Sequence[Conversation]) -> Work:
        """The work of scoring each response to the prompt at the same place. Raises ValueError where one cannot be read."""

    def score(self, prompts: Sequence[Conversation], responses: Sequence[Conversation]) -> Scores:
        """The scores, (n,)."""
        return _done(self.prepare(prompts, responses))


class Comparer(ABC):
    """A loaded reward model that compares two responses to one prompt."""

    @abstractmethod
    def prepare(self, prompts: Sequence[Conversation], first: Sequence[Conversation], second: Sequence[Conversation]) -> Work:
        """The work of comparing; its numbers are P(first is better), 0..1, the mean over both orders."""

    def prefer(self, prompts: Sequence[Conversation], first: Sequence[Conversation], second: Sequence[Conversation]) -> Scores:
        """P(first is better), (n,)."""
        return _done(self.prepare(prompts, first, second))


def _done(work: Work) -> Scores:
    return Scores(work.all(), int(work.truncated.sum()), work.tokens)


class Family(BaseModel):
    """One kind of reward model: which one it is and how it is to be read. The fields are its settings.

    `template` says how a conversation becomes the model's text, `tokenizer` whose tokens it is read in.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    compares: ClassVar[bool] = False
    template: ClassVar[str]
    tokenizer: ClassVar[str] = "its own"
    log_odds: ClassVar[bool] = True  # whether sigma of a difference of scores is meant as P(the first is better)

    @classmethod
    def description(cls) -> str:
        """What the family is, the first sentence of its docstring."""
        return " ".join((cls.__doc__ or "").split("\n\n")[0].split())

    def sources(self) -> Iterator[str]:
        """The models it rests on, each named as `training.models.located` takes them."""
        return iter(())

    def memory(self) -> int | None:
        """Bytes its weights take when loaded; None where that is not known before they are here."""
        return None

    @abstractmethod
    def load(self, *, device: str = "auto") -> Scorer | Comparer:
        """Open the weights. Raises ValueError with a sentence where they are not what the family expects."""


class Weighted(Family):
    """A family whose models have weights: a folder, a built-in name, or an id on the hub."""

    source: str = Field(min_length=1, description="the model: a folder, a built-in name, or an id on the hub")
    revision: str = Field("", description="the hub's revision; by default the newest, which registering pins")
    max_length: int | None = Field(
        None, ge=8, description="tokens read at most; the beginning of a longer text is cut. By default what the model can"
    )
    dtype: str = Field(
        "auto", pattern="^(auto|float32|bfloat16)$", description="auto: bfloat16 on a GPU, float32 on a CPU; or either by name"
    )
    remote_code: str = Field(
        "", description="the model's name once more, as consent to run the code that its repository brings"
    )
    batch_tokens: int = Field(0, ge=0, description="tokens computed at once, padding included; 0: what suits the device")

    def sources(self) -> Iterator[str]:
        yield self.source

    def memory(self) -> int | None:
        from training import loading

        return loading.memory_of(self.source, self.revision, self.dtype)
