"""Comparing two responses in both orders, whose mean counts: a model that reads two at once prefers a side by habit."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.batches import by_budget
from training.rewards.base import Batch, Comparer, Conversation, Numbers, Work

if TYPE_CHECKING:
    import torch

LENGTH = "tokens read at most, by default {:,}; of longer texts the prompt's beginning is cut, then the responses' ends"
_CPU_TOKENS, _GPU_TOKENS = 4096, 32768


class Read(NamedTuple):
    """A prompt and two responses as a model's tokens; `marks` are places in them that it reads from."""

    ids: list[int]
    truncated: bool
    marks: tuple[int, ...] = ()


class BothOrders(Comparer):
    """A comparer that reads prompt, first and second as one text. Batches hold both orders of their pairs."""

    budget: int  # tokens computed at once, padding included

    @abstractmethod
    def read(self, prompt: Conversation, first: Conversation, second: Conversation) -> Read:
        """The three as the model reads them, cut to its length."""

    @abstractmethod
    def wins(self, texts: Sequence[Read]) -> Numbers:
        """P(the one that stands first is better) in the model's view, for each text."""

    def prepare(self, prompts: Sequence[Conversation], first: Sequence[Conversation], second: Sequence[Conversation]) -> Work:
        ahead = [self.read(*three) for three in zip(prompts, first, second, strict=True)]
        behind = [self.read(*three) for three in zip(prompts, second, first, strict=True)]
        lengths = [max(len(one.ids), len(other.ids)) for one, other in zip(ahead, behind, strict=True)]
        plan = list(by_budget(lengths, budget=self.budget // 2))
        batches = [Batch(tuple(places), 2 * len(places) * max(lengths[place] for place in places)) for places in plan]
        truncated = np.array([one.truncated or other.truncated for one, other in zip(ahead, behind, strict=True)], np.bool_)

        def run(number: int) -> Numbers:
            both = self.wins([*(ahead[place] for place in plan[number]), *(behind[place] for place in plan[number])])
            half = len(plan[number])
            return (both[:half] + 1 - both[half:]) / 2

        return Work(batches, run, truncated, ["each pair is compared in both orders, and the mean counts"])


def budget_of(wanted: int, device_type: str) -> int:
    """Tokens computed at once: what was asked for, else what suits the device."""
    return wanted or (_GPU_TOKENS if device_type == "cuda" else _CPU_TOKENS)


def fitted(source: int, first: int, second: int, room: int) -> tuple[int, int, int]:
    """How many tokens of prompt and responses are kept in `room`: the responses before the prompt.

    Of the prompt a quarter of the room stays in any case, where it has that much; what is left is halved between the
    responses, and what one of them does not need is the other's.
    """
    source = min(source, max(room - first - second, room // 4))
    rest = room - source
    return source, min(first, max(rest // 2, rest - second)), min(second, max(rest // 2, rest - first))


def padded(ids: Sequence[Sequence[int]], pad: int | None, where: "torch.device") -> tuple["torch.Tensor", "torch.Tensor"]:
    """Tokens and mask, (texts, tokens), padded at the end."""
    import torch

    width = max(map(len, ids))
    tokens = torch.tensor([[*one, *[pad or 0] * (width - len(one))] for one in ids], device=where)
    mask = torch.tensor([[1] * len(one) + [0] * (width - len(one)) for one in ids], device=where)
    return tokens, mask
