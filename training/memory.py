"""The memory a run will take: bytes, by the longest texts that are likely in a batch and by what is held of them at once.

Measured against runs on CPUs (tests/test_alignment_times.py); of GPUs it follows what the trainers and kernels there hold.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from training.machine import Machine
from training.sizes import Counts, Size, steps_of

OF_DATA = ("sft", "dpo")  # kinds that read whole responses of the data, unless these pairs are sampled
NUMBER = {"cpu": 4, "gpu": 2}  # bytes of a weight as it is opened, and of what is computed of it
_ALONE = {"cpu": 0.6e9, "gpu": 1.5e9}  # bytes of a process before it has opened a model
_WIDTHS_KEPT, _INNER_KEPT = 10, 4  # see _kept
_AUTOCAST = 3  # bytes of what is kept on a GPU, in the mean: some of it is bfloat16, sums and norms are float32
_HEAP, _BLOCK = 1.75, 1 << 25  # of the C library's malloc, which keeps smaller blocks than that in a heap: see _allocated
_TILE = (4096, 32_768)  # tokens and vocabulary that TRL's head computes at once
_TILES = {"cpu": 8.25 * 4, "gpu": 2}  # bytes of a logit there: see _head
_SIDE_BY_SIDE, _STEP = {"cpu": 16_384, "gpu": 1 << 19}, {"cpu": 1 << 24, "gpu": 1 << 28}  # tokens, logits: training/sampling.py
_AT_A_TIME = {"cpu": 64, "gpu": 4096}  # responses to held-out prompts: training/looks.py
_READ, _PIECE = {"cpu": 1 << 26, "gpu": 1 << 29}, 1 << 25  # logits: training/log_probabilities.py
_SCORED = {"cpu": 4096, "gpu": 65_536}  # tokens a reward model reads at once


def of_policy(kind: str, told: Mapping[str, Any], counts: Counts, policy: Size, scorers: Sequence[Size], on: Machine) -> int:
    """Bytes of a run that makes a policy, or answers of it. The first of the scorers is what is optimised, if anything is."""
    rank, learns = int(told.get("lora_rank", 0)), kind not in ("generate", "best-of-n")
    held = _held(policy, rank, on) if learns else NUMBER[on.kind] * policy.weights
    most = max(_answering(kind, told, counts, policy, on), _learning(kind, told, counts, policy, on) if learns else 0)
    beside = NUMBER[on.kind] * scorers[0].weights if scorers and kind in ("ppo", "rloo") else 0  # others come when it is gone
    scoring = max((_scoring(one, on) for one in scorers), default=0)
    scoring += NUMBER[on.kind] * policy.weights if kind == "dpo" else 0
    return int(_ALONE[on.kind] + max(held + most + beside, scoring))


def of_head(base: Size, on: Machine) -> int:
    """Bytes of a run that only reads texts, with weights in float32."""
    return int(_ALONE[on.kind] + 4 * base.weights + _passing(_SCORED[on.kind], base, on))


def of_reward(told: Mapping[str, Any], counts: Counts, base: Size, on: Machine, *, pairs: int) -> int:
    """Bytes of a run that trains a reward model on so many pairs, in float32; no start is held beside it."""
    rank = int(told["lora_rank"])
    whole = [prompt + response for prompt, response in _drawn(counts)]
    most = _within(min(longest_of(whole, min(pairs, counts.train)), told["max_length"]), base)
    held = 4 * base.weights + 16 * _changes(base, rank) if rank else 16 * base.weights
    return int(_ALONE[on.kind] + held + _kept(2 * int(told["batch_pairs"]), most, base, on))


def longest_of(lengths: Sequence[float], texts: int) -> float:
    """The length that the longest of so many texts has about, where texts are as these: their quantile n / (n + 1)."""
    return float(np.quantile(lengths, texts / (texts + 1), method="higher"))


def _drawn(counts: Counts) -> Sequence[tuple[float, float]]:
    return counts.drawn or ((counts.prompt, counts.response),)


def _within(length: float, model: Size) -> float:
    return min(length, model.longest or length)


def _learning(kind: str, told: Mapping[str, Any], counts: Counts, policy: Size, on: Machine) -> float:
    """Bytes held for a gradient of one batch. All texts of a batch are padded to its longest; what is answered is taken to
    reach max_tokens, what is read of the data is whole: max_tokens cuts none of it."""
    batch, longest = int(told["batch"]), int(told["max_tokens"])
    learned = min(counts.train, batch * int(told["accumulate"]) * steps_of(told, counts))
    own = kind in OF_DATA and told.get("pairs") != "sampled"
    lengths = [
        min(prompt, told["max_prompt"]) + (response if own and response else longest) for prompt, response in _drawn(counts)
    ]
    length = _within(longest_of(lengths, learned), policy)
    texts = batch * {"dpo": 2, "rloo": int(told.get("drawn", 1))}.get(kind, 1)
    if kind == "ppo":
        texts = min(batch, -(-batch * int(told["accumulate"]) // int(told["minibatches"])))
        logits = 12.0 * texts * longest * policy.vocabulary  # of responses alone, float32: they, their logarithm and gradient
    else:
        logits = _head(texts * length, policy, on)
    whole = 0 if told["lora_rank"] else 4 * policy.vocabulary * policy.width  # the gradient of the head, before it is added
    return _kept(texts, length, policy, on) + logits + whole


def _kept(texts: float, length: float, model: Size, on: Machine) -> float:
    """Bytes of what all layers keep of these texts until their gradient is taken.

    Of a token a layer keeps ten times its width (what its two norms read and give, queries, keys, values and what attention
    makes of them, keys and values as often as there are heads), four times the width inside the feed-forward layer (gate, up,
    the activation, their product), and, where texts are padded, a row of the mask, as wide as the text is long.
    """
    tokens = texts * length
    kept = ((_WIDTHS_KEPT, tokens * model.width), (_INNER_KEPT, tokens * model.inner), (1, tokens * length))
    return model.layers * sum(count * _allocated(numbers, on) for count, numbers in kept)


def _allocated(numbers: float, on: Machine) -> float:
    """Bytes of memory that a block of so many numbers takes, kept until their gradient is taken. On a CPU blocks of less than
    32 MiB lie in a heap between those that were freed, which do not go back to the system: measured, it grows to 1.75 times
    what is in it."""
    if on.kind == "gpu":
        return _AUTOCAST * numbers
    return max(4 * numbers, _HEAP * min(4 * numbers, _BLOCK))


def _head(tokens: float, policy: Size, on: Machine) -> float:
    """Bytes TRL's head takes: log-probabilities are computed a tile at a time. A GPU's kernel works in one tile of bfloat16; on
    a CPU the gradient of a tile is put together of eight float32 ones (logits, as they are scaled twice, their logarithm, its
    exponential, the gradient and two of its terms) and a mask."""
    return min(tokens, _TILE[0]) * min(policy.vocabulary, _TILE[1]) * _TILES[on.kind]


def _answering(kind: str, told: Mapping[str, Any], counts: Counts, policy: Size, on: Machine) -> float:
    """Bytes that writing responses takes, or reading them once more for their log-probabilities."""
    if kind == "best-of-n":
        answers = counts.held_out * (int(told["n"]) + 1)
    else:
        answers = min(counts.held_out * int(told["samples"]), _AT_A_TIME[on.kind])
    if kind in ("ppo", "rloo"):
        answers = max(answers, int(told["batch"]) * int(told["accumulate"]) * int(told.get("drawn", 1)))
    if told.get("pairs") == "sampled":
        answers = max(answers, counts.train * int(told["drawn"]))
    prompts = [min(prompt, told["max_prompt"]) for prompt, _ in _drawn(counts)]
    length = _within(longest_of(prompts, counts.held_out) + told["max_tokens"], policy)
    rows = min(float(answers), _SIDE_BY_SIDE[on.kind] / length, _STEP[on.kind] / max(1, policy.vocabulary))
    cache = rows * length * 2 * policy.layers * policy.keys * NUMBER[on.kind]
    drawing = 20 * rows * policy.vocabulary  # logits of two steps, scaled, as shares, and these summed up in float64
    writing = cache + max(drawing, _passing(rows * length, policy, on))
    if kind == "generate":  # which asks for no log-probabilities
        return writing
    tokens = min(answers * length, _READ[on.kind] / max(1, policy.vocabulary))
    logits = tokens * policy.vocabulary * told["max_tokens"] / length
    return float(max(writing, _passing(tokens, policy, on) + 4 * logits + 8 * min(logits, _PIECE)))


def _passing(tokens: float, model: Size, on: Machine) -> float:
    """Bytes that a forward pass of so many tokens takes without a gradient: those of one layer."""
    return tokens * (4 * model.width + 3 * model.inner) * NUMBER[on.kind]


def _scoring(scorer: Size, on: Machine) -> float:
    return NUMBER[on.kind] * scorer.weights + _passing(_SCORED[on.kind], scorer, on)


def _held(policy: Size, rank: int, on: Machine) -> float:
    """Bytes of weights that are trained: all in float32 with a copy as the start, gradient and Adam's two moments; with LoRA
    those of the changes alone, beside the weights as they are."""
    return NUMBER[on.kind] * policy.weights + 16 * _changes(policy, rank) if rank else (4 + 4 + 12) * policy.weights


def _changes(model: Size, rank: int) -> int:
    """Weights of LoRA: of seven matrices a layer, each with an end of width `width` or some times it."""
    return rank * model.layers * 18 * model.width
