"""Log-probabilities of responses by a forward pass, however long the prompts beside them are.

Responses of a batch begin in one column: prompts are padded on the left, responses on the right, so that logits are computed
for the columns of responses alone. Positions count tokens, not columns.
"""

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from training.batches import by_budget
from training.rewards.packing import Ids

_ON_CPU, _ON_GPU = 1 << 26, 1 << 29  # logits held at once
_PIECE = 1 << 25  # logits widened to float32 at once


class Aligned(NamedTuple):
    """Texts side by side, (texts, columns) each; responses begin at column `begin`."""

    ids: Tensor
    mask: Tensor  # 1 for a token, 0 for padding, int64
    positions: Tensor  # from 0, counted over tokens
    begin: int

    @property
    def responses(self) -> Tensor:
        """Which of the columns from `begin` on hold a token of a response, (texts, columns - begin), bool."""
        return self.mask[:, self.begin :].bool()


def aligned(prompts: Sequence[Ids], responses: Sequence[Ids], *, pad: int, device: torch.device) -> Aligned:
    """Prompts and their responses as one batch. A response may be empty, a prompt may not."""
    begin = max(len(one) for one in prompts)
    width = begin + max(1, *(len(one) for one in responses))
    ids = torch.full((len(prompts), width), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        first, last = begin - len(prompt), begin + len(response)
        ids[row, first:last] = torch.tensor([*prompt, *response], dtype=torch.long)
        mask[row, first:last] = 1
    ids, mask = ids.to(device), mask.to(device)
    return Aligned(ids, mask, positions_of(mask), begin)


def positions_of(mask: Tensor) -> Tensor:
    """The position of each token among those of its row, from 0; padding gets that of the token before, or 0."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


def response_logits(model: Any, read: Aligned, **arguments: Any) -> Tensor:
    """The logits that predict each column of the responses, (texts, columns - begin, vocabulary), as the model gives them."""
    count = read.ids.shape[1] - read.begin
    output = model(
        input_ids=read.ids, attention_mask=read.mask, position_ids=read.positions, use_cache=False,
        **keeping(model, count + 1), **arguments,
    )  # fmt: skip
    logits: Tensor = output.logits[:, -(count + 1) : -1]
    return logits


def keeping(model: Any, count: int) -> dict[str, int]:
    """The argument that asks a model for the logits of the last columns alone, where it takes it."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    return {"logits_to_keep": count} if "logits_to_keep" in inspect.signature(plain.forward).parameters else {}


@torch.no_grad()
def log_probs(
    model: Any, prompts: Sequence[Ids], responses: Sequence[Ids], *, pad: int, temperature: float = 1.0, batch_tokens: int = 0
) -> list[Tensor]:
    """log p of every token of each response after its prompt, at this temperature: (len(response),) float32 on the CPU each.

    At most `batch_tokens` are computed at once, padding included; 0: what suits the device.
    """
    device = model.get_input_embeddings().weight.device
    vocabulary = model.get_input_embeddings().weight.shape[0]
    limit = (_ON_GPU if device.type == "cuda" else _ON_CPU) // vocabulary
    budget = max(1, min(batch_tokens or limit, limit))
    found = [torch.zeros(0)] * len(prompts)
    for places in by_budget([len(p) + len(r) for p, r in zip(prompts, responses, strict=True)], budget=budget):
        some = [responses[place] for place in places]
        read = aligned([prompts[place] for place in places], some, pad=pad, device=device)
        computed = _of_tokens(response_logits(model, read), read.ids[:, read.begin :], temperature).cpu()
        for row, place in enumerate(places):
            found[place] = computed[row, : len(some[row])].clone()
    return found


def _of_tokens(logits: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """log p of these ids under logits (texts, columns, vocabulary), widened to float32 a piece at a time."""
    size = max(1, _PIECE // logits.shape[-1])
    pieces = zip(torch.split(logits.flatten(0, 1), size), torch.split(ids.flatten(), size), strict=True)
    found = [-cross_entropy(some.float() / temperature, wanted, reduction="none") for some, wanted in pieces]
    return torch.cat(found).view(ids.shape)
