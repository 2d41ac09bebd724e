"""Several reward models as one: their mean, their worst, or the mean less their disagreement (arXiv 2310.02743).

All members are in memory at once: an ensemble needs what its members need together.
"""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from training.rewards.base import Batch, Conversation, Family, Numbers, Scorer, Work

_AT_ONCE = 256  # texts of a batch, which every member cuts to its own size


class Ensemble(Family):
    """Several reward models as one: the mean of their scores, the worst, or the mean less weight x variance."""

    name: ClassVar[str] = "ensemble"
    template: ClassVar[str] = "each member's own"
    tokenizer: ClassVar[str] = "each member's own"
    log_odds: ClassVar[bool] = False

    members: tuple[dict[str, Any], ...] = Field(
        min_length=2, description='the reward models, each {"family": its family, and its settings}'
    )
    how: str = Field(
        "mean",
        pattern="^(mean|worst|uncertainty)$",
        description="mean, worst (the lowest), or uncertainty (mean - weight x variance)",
    )
    weight: float = Field(0.1, ge=0, description="how much the members' variance takes off, with how=uncertainty")
    centres: tuple[float, ...] = Field(
        (), description="what is taken off each member's scores: their mean on reference texts; nothing by default"
    )
    scales: tuple[float, ...] = Field(
        (), description="what they are divided by then: their standard deviation on reference texts; 1 by default"
    )

    @model_validator(mode="after")
    def _fits(self) -> "Ensemble":
        for number in range(len(self.members)):
            self._member(number)
        if self.scales and (len(self.scales) != len(self.members) or not all(0 < one < np.inf for one in self.scales)):
            raise ValueError(f"scales are {list(self.scales)}: expected {len(self.members)} numbers above 0, one a member")
        if self.centres and (len(self.centres) != len(self.members) or not np.isfinite(self.centres).all()):
            raise ValueError(f"centres are {list(self.centres)}: expected {len(self.members)} numbers, one a member")
        return self

    def sources(self) -> Iterator[str]:
        for number in range(len(self.members)):
            yield from self._member(number).sources()

    def memory(self) -> int | None:
        needs = [self._member(number).memory() for number in range(len(self.members))]
        known = [one for one in needs if one is not None]
        return sum(known) if len(known) == len(needs) else None

    def load(self, *, device: str = "auto") -> Scorer:
        loaded = [self._member(number).load(device=device) for number in range(len(self.members))]
        scorers = [one for one in loaded if isinstance(one, Scorer)]
        centres, scales = self.centres or (0.0,) * len(scorers), self.scales or (1.0,) * len(scorers)
        return _EnsembleScorer(scorers, self.how, self.weight, centres, scales)

    def _member(self, number: int) -> Family:
        """A member as its family. Raises ValueError for one that is none, or that compares and so has no score."""
        from training.rewards.registry import family

        settings = dict(self.members[number])
        name = settings.pop("family", "")
        found = family(str(name), settings)
        if found.compares:
            raise ValueError(f"member {number + 1} is a {name} model, which compares and gives no score: it cannot be a member")
        return found


class _EnsembleScorer(Scorer):
    """A batch is some texts through every member, so that its numbers are final and work can be resumed after it."""

    def __init__(
        self, members: Sequence[Scorer], how: str, weight: float, centres: Sequence[float], scales: Sequence[float]
    ) -> None:
        self._members, self._how, self._weight = members, how, weight
        self._centres, self._scales = np.array(centres), np.array(scales)

    def prepare(self, prompts: Sequence[Conversation], responses: Sequence[Conversation]) -> Work:
        groups = list(_grouped(prompts, responses))
        works = [
            [one.prepare([prompts[place] for place in group], [responses[place] for place in group]) for one in self._members]
            for group in groups
        ]
        truncated = np.zeros(len(prompts), np.bool_)
        for group, some in zip(groups, works, strict=True):
            truncated[list(group)] = np.logical_or.reduce([one.truncated for one in some])
        batches = [Batch(tuple(group), sum(one.tokens for one in some)) for group, some in zip(groups, works, strict=True)]
        notes = dict.fromkeys(note for some in works for one in some for note in one.notes)
        digest = " ".join(one.digest for some in works for one in some).strip()
        return Work(batches, lambda number: self._joined([one.all() for one in works[number]]), truncated, list(notes), digest)

    def _joined(self, members: Sequence[Numbers]) -> Numbers:
        """(members, texts) to one number a text, eq. 4 to 6 of arXiv 2310.02743: mean, min, or mean - weight x variance."""
        scores = (np.stack(members) - self._centres[:, None]) / self._scales[:, None]
        if self._how == "worst":
            return np.asarray(scores.min(0), np.float64)
        return np.asarray(scores.mean(0) - (self._weight * scores.var(0) if self._how == "uncertainty" else 0.0), np.float64)


def _grouped(prompts: Sequence[Conversation], responses: Sequence[Conversation]) -> Iterator[list[int]]:
    """Places in groups of like length, the longest first; responses to one prompt stand together."""

    def size(conversation: Conversation) -> int:
        return sum(len(one.content) for one in conversation)

    order = sorted(range(len(prompts)), key=lambda at: (-size(prompts[at]), prompts[at], -size(responses[at]), at))
    for start in range(0, len(order), _AT_ONCE):
        yield order[start : start + _AT_ONCE]
