"""The baseline to beat: the longer response is the better one."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from training.rewards.base import Batch, Conversation, Family, Scorer, Work

_AT_ONCE = 5000


class Length(Family):
    """The number of characters of the response, whatever it says: the baseline that a reward model has to beat."""

    name: ClassVar[str] = "length"
    template: ClassVar[str] = "none: characters are counted"
    tokenizer: ClassVar[str] = "none"
    log_odds: ClassVar[bool] = False

    def memory(self) -> int:
        return 0

    def load(self, *, device: str = "auto") -> Scorer:
        return _Length()


class _Length(Scorer):
    def prepare(self, prompts: Sequence[Conversation], responses: Sequence[Conversation]) -> Work:
        sizes = np.array([sum(len(one.content) for one in response) for response in responses], np.float64)
        cuts = [range(start, min(start + _AT_ONCE, len(sizes))) for start in range(0, len(sizes), _AT_ONCE)]
        return Work(
            [Batch(tuple(some), 0) for some in cuts], lambda number: sizes[list(cuts[number])], np.zeros(len(sizes), np.bool_)
        )
