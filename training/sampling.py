"""Samples responses of a policy: prompts of like length together, a prompt's cache shared by its samples, the finished leave.

Which token comes is decided by one uniform number a step, drawn from (seed, the prompt's place, sample): the same whoever is
in the batch, and in the same place at every point of training, so that two looks differ by what the policy learned.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from training.batches import by_budget
from training.log_probabilities import keeping, positions_of
from training.policies import Policy
from training.rewards.packing import Ids

_ON_CPU, _ON_GPU = 16_384, 1 << 19  # tokens side by side
_LOGITS_ON_CPU, _LOGITS_ON_GPU = 1 << 24, 1 << 28  # and logits of a step
_SHARE = 5  # of a GPU's memory a fifth is for the cache
_BELOW_ONE = 1 - 2**-40

Tell = Callable[[int, int], None]  # responses that are done, and all of them


class Response(NamedTuple):
    """A sampled response: its tokens with the one that ended it, and whether one did."""

    ids: list[int]
    stopped: bool


class _Share(NamedTuple):
    """Prompts that are answered together, each `samples` times, the first of them number `first`."""

    places: list[int]
    first: int
    samples: int


def sampled(
    policy: Policy,
    prompts: Sequence[Ids],
    *,
    samples: int,
    max_tokens: int,
    temperature: float,
    seed: int,
    top_p: float = 1.0,
    top_k: int = 0,
    batch_tokens: int = 0,
    first: int = 0,
    places: Sequence[int] | None = None,
    tell: Tell | None = None,
) -> list[list[Response]]:
    """`samples` responses to each prompt, [prompt][sample], of at most `max_tokens` tokens.

    They depend on the seed, the prompt, its place and the sample's number alone. Samples are numbered from `first` and
    prompts by `places`, so that work done in parts gives what it would give at once. `top_p` is taken after `top_k`, and
    both after the temperature. Raises ValueError for an empty prompt, where the model cannot read so much, and for
    probabilities that are no numbers.
    """
    policy.check_fits(max((len(one) for one in prompts), default=0), max_tokens)
    if any(len(one) == 0 for one in prompts):
        raise ValueError("a prompt has no tokens: expected at least one, which a response goes on from")
    numbers = range(len(prompts)) if places is None else places
    found: list[list[Response]] = [[] for _ in prompts]
    done = 0
    lengths = [len(one) + max_tokens for one in prompts]
    for share in _shares(lengths, samples, batch_tokens or _suiting(policy), _most(policy)):
        keys = [(numbers[place], first + share.first + one) for place in share.places for one in range(share.samples)]
        rows = _Rows(policy, max_tokens, _uniforms(keys, seed, max_tokens), temperature, top_k, top_p)
        ended = rows.answered([prompts[place] for place in share.places], share.samples, _from(tell, done, samples, prompts))
        for number, place in enumerate(share.places):
            found[place] += ended[number * share.samples : (number + 1) * share.samples]
        done += len(ended)
    return found


def _from(tell: Tell | None, before: int, samples: int, prompts: Sequence[Ids]) -> Callable[[int], None]:
    def told(more: int) -> None:
        if tell is not None:
            tell(before + more, samples * len(prompts))

    return told


def _shares(lengths: Sequence[int], samples: int, budget: int, most: int) -> Iterator[_Share]:
    """The work in parts of at most `budget` tokens and `most` rows: whole prompts where they fit, else some samples of one
    prompt."""
    for places in by_budget([samples * one for one in lengths], budget=budget, at_most=max(1, most // samples)):
        at_once = min(samples, most, max(1, budget // lengths[places[0]])) if len(places) == 1 else samples
        for first in range(0, samples, at_once):
            yield _Share(places, first, min(at_once, samples - first))


def _suiting(policy: Policy) -> int:
    """Tokens side by side that suit the device: on a GPU what a share of its memory holds of their cache."""
    if policy.device.type != "cuda":
        return _ON_CPU
    config = policy.model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    a_token = 2 * config.num_hidden_layers * heads * width * policy.dtype.itemsize
    memory = torch.cuda.get_device_properties(policy.device).total_memory
    return int(min(_ON_GPU, max(1024, memory // _SHARE // a_token)))


def _most(policy: Policy) -> int:
    """Rows side by side whose logits of a step fit."""
    logits = _LOGITS_ON_GPU if policy.device.type == "cuda" else _LOGITS_ON_CPU
    return int(max(1, logits // policy.model.get_input_embeddings().weight.shape[0]))


def _uniforms(keys: Sequence[tuple[int, int]], seed: int, count: int) -> Tensor:
    """Uniform numbers in [0, 1), (rows, count) float64, by a counter keyed by seed, prompt and sample (Philox)."""
    drawn = [np.random.Generator(np.random.Philox(key=[seed, (place << 32) + sample])).random(count) for place, sample in keys]
    return torch.from_numpy(np.stack(drawn) * _BELOW_ONE)


class _Rows:
    """Responses that grow side by side."""

    def __init__(self, policy: Policy, max_tokens: int, uniforms: Tensor, temperature: float, top_k: int, top_p: float) -> None:
        self._policy, self._max, self._uniforms = policy, max_tokens, uniforms.to(policy.device)
        self._temperature, self._top_k, self._top_p = temperature, top_k, top_p
        self._look_every = 8 if policy.device.type == "cuda" else 1  # to look is to wait for the GPU
        self._tokens = torch.zeros(len(uniforms), max_tokens, dtype=torch.long, device=policy.device)
        self._stops = torch.tensor(policy.stops, dtype=torch.long, device=policy.device)
        self._lost = torch.zeros((), dtype=torch.bool, device=policy.device)  # whether a probability was no number

    @torch.no_grad()
    def answered(self, prompts: Sequence[Ids], samples: int, tell: Callable[[int], None]) -> list[Response]:
        """The responses, all samples of the first prompt first."""
        with self._policy.computing():
            self._grow(prompts, samples, tell)
        return [self._response(ids) for ids in self._tokens.tolist()]

    def _grow(self, prompts: Sequence[Ids], samples: int, tell: Callable[[int], None]) -> None:
        policy, model = self._policy, self._policy.model
        how: dict[str, Any] = {"use_cache": True, **keeping(model, 1)}
        ids, mask = _left_padded(prompts, policy.pad, policy.device)
        padded = len({len(one) for one in prompts}) > 1  # without padding a mask only costs
        read = model(input_ids=ids, attention_mask=mask if padded else None, position_ids=positions_of(mask), **how)
        cache, logits = read.past_key_values, read.logits[:, -1].repeat_interleave(samples, 0)
        cache.batch_repeat_interleave(samples)
        mask = mask.repeat_interleave(samples, 0)
        lengths = mask.sum(-1, keepdim=True)
        live = torch.arange(len(logits), device=policy.device)
        ended = torch.zeros(len(logits), dtype=torch.bool, device=policy.device)
        for step in range(self._max):
            tokens = self._drawn(logits, self._uniforms[live, step])
            self._tokens[live, step] = tokens
            ended |= torch.isin(tokens, self._stops)
            if step + 1 == self._max:
                break
            if (step + 1) % self._look_every == 0:
                self._check()
                stay = self._stay(live, ended, step + 1)
                tell(len(self._tokens) - int(len(live) if stay is None else len(stay)))
                if stay is not None:
                    if not len(stay):
                        break
                    cache.batch_select_indices(stay)
                    live, ended, tokens = live[stay], ended[stay], tokens[stay]
                    mask, lengths = mask[stay], lengths[stay]
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
            read = model(
                input_ids=tokens[:, None], attention_mask=mask if padded else None, position_ids=lengths + step,
                past_key_values=cache, **how,
            )  # fmt: skip
            logits = read.logits[:, -1]
        self._check()
        tell(len(self._tokens))

    def _stay(self, live: Tensor, ended: Tensor, count: int) -> Tensor | None:
        """The rows to go on with, where enough have ended (an eighth) for that to pay; None: all."""
        over = ended.tolist()
        if self._policy.stop_text:
            texts = self._tokens[live, :count].tolist()
            over = [one or self._policy.ended(ids) is not None for one, ids in zip(over, texts, strict=True)]
        if 8 * sum(over) < len(over) or not any(over):
            return None
        return torch.tensor([row for row, one in enumerate(over) if not one], dtype=torch.long, device=live.device)

    def _drawn(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        """A token for each row of logits, (rows,): the first whose cumulated probability passes the row's uniform number."""
        shares = shares_of(logits, self._temperature, self._top_k, self._top_p).cumsum(-1, dtype=torch.float64)
        self._lost |= ~shares[:, -1].isfinite().all()
        found = torch.searchsorted(shares, (uniforms * shares[:, -1])[:, None], right=True)[:, 0]
        return found.clamp(max=shares.shape[-1] - 1)

    def _check(self) -> None:
        if self._lost.item():
            raise ValueError("the policy gives probabilities that are no numbers: its weights overflow, or training broke them")

    def _response(self, ids: list[int]) -> Response:
        count = self._policy.ended(ids)
        return Response(ids[:count], count is not None)


def shares_of(logits: Tensor, temperature: float, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """The probabilities tokens are sampled with, (rows, vocabulary) float32.

    `top_k` leaves the k likeliest, `top_p` (arXiv 1904.09751) the fewest of the likeliest that together reach that share.
    """
    logits = logits.float() / temperature
    if 0 < top_k < logits.shape[-1]:
        least = logits.topk(top_k, -1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    shares = logits.softmax(-1)
    if top_p < 1:
        ordered, order = torch.sort(shares, dim=-1, descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered
        shares = shares.scatter(-1, order, ordered.masked_fill(before >= top_p, 0))
    return shares


def _left_padded(prompts: Sequence[Ids], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Prompts that end in one column, and which columns are tokens, (prompts, columns) int64 each."""
    width = max(len(one) for one in prompts)
    ids = torch.tensor([[pad] * (width - len(one)) + list(one) for one in prompts], dtype=torch.long)
    mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in prompts], dtype=torch.long)
    return ids.to(device), mask.to(device)
