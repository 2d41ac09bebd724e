"""Reads prompts with their responses: log-probabilities, values and entropies of the response tokens, by one way of computing.

What is learned from and what it is compared with come from the same code, so that a ratio of the two starts at 1.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from training.log_probabilities import Aligned, response_logits
from training.losses import entropy_of, log_probs_of
from training.value_head import ValueHead

_PIECE = 1 << 25  # logits whose entropy is computed at once


class Reading(NamedTuple):
    """What a model says of response tokens, each (responses, tokens); a value is that before the token. After a response's
    end they mean nothing."""

    log_probs: Tensor
    values: Tensor | None
    entropy: Tensor | None


def read(
    model: Any, texts: Aligned, *, temperature: float, head: ValueHead | None = None, entropy: bool = False
) -> Reading:  # fmt: skip
    """What the model says of the response tokens; only their logits are computed. Gradients flow where they are wanted."""
    ids = texts.ids[:, texts.begin :]
    with _states(model) as seen:
        logits = response_logits(model, texts)
    return Reading(
        log_probs_of(logits, ids, temperature=temperature),
        head(seen[0][:, -ids.shape[1] - 1 : -1]) if head is not None else None,  # a token is foretold a place before its own
        _entropy(logits.detach(), temperature) if entropy else None,
    )


def by_length(places: Sequence[int], lengths: Sequence[int], *, batch: int) -> Iterator[list[int]]:
    """These places, at most `batch` at once, texts of like length together: the same places give the same cuts."""
    ordered = sorted(places, key=lambda place: (-lengths[place], place))
    for start in range(0, len(ordered), batch):
        yield ordered[start : start + batch]


def _entropy(logits: Tensor, temperature: float) -> Tensor:
    """Of each token, (texts, tokens), a piece at a time."""
    pieces = torch.split(logits.flatten(0, 1), max(1, _PIECE // logits.shape[-1]))
    return torch.cat([entropy_of(some, temperature=temperature) for some in pieces]).view(logits.shape[:2])


@contextmanager
def _states(model: Any) -> Iterator[list[Tensor]]:
    """What the layer that makes logits is given while the `with` lasts: the last hidden state, whatever the architecture."""
    seen: list[Tensor] = []
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        yield seen
    finally:
        hook.remove()
