"""What a run will take, before it starts: seconds and bytes, from the sizes of its models, the tokens they will read, write and
learn from, and the speed of this machine, measured for a moment. An estimate: within a factor of two or three, until earlier
runs of the same kind put it right. Imports no torch.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from training import loading
from training.gguf_header import header
from training.machine import Machine
from training.models import located

ASSUMED = (
    "every response has max_tokens, a token is 4 characters of a prompt, a forward pass is 2 floating-point operations a "
    "weight and token, learning 6 (4 with LoRA), and writing a token costs its share of the batch, or reading all weights "
    "once; memory is that of a batch with the longest text that is likely among those learned from"
)
_OPENING = 12.0  # seconds in which a process starts and opens its models
_USED = {"cpu": 0.7, "gpu": 0.35}  # the share of the measured speed that a language model gets
_LAYER = {"cpu": 2e-4, "gpu": 8e-4}  # seconds a layer takes to write a token, however few rows there are
_ROWS = 64  # responses written side by side
OF_DATA = ("sft", "dpo")  # kinds that read whole responses of the data, unless these pairs are sampled


# ---- models


class Size(NamedTuple):
    """A model's weights, layers, width, the width of its keys in one layer, its vocabulary, the width inside its feed-forward
    layers, and how many tokens it reads at most (0: unknown)."""

    weights: int
    layers: int
    width: int
    keys: int
    vocabulary: int
    inner: int
    longest: int = 0


NOTHING = Size(0, 0, 0, 0, 0, 0)  # a reward model without weights: the length of a response, a server elsewhere


def size_of(name: str) -> Size | None:
    """The size of a model on this machine, from its files' headers; None where it is not here yet, or cannot be read."""
    try:
        found = located(name)
        return _size(found.place, found.key) if Path(found.place).is_dir() else None
    except (ValueError, OSError):
        return None


@cache
def _size(folder: str, _key: str) -> Size:
    place = loading.place_of(folder)
    return _of_gguf(place) if place.gguf else _of_config(place)


def _of_config(place: loading.Place) -> Size:
    config = loading.read_config(place.folder)
    config = {**config, **config.get("text_config", {})}
    layers, width = (_first(config, *names) for names in (("num_hidden_layers", "n_layer", "num_layers"), _WIDTHS))
    heads = _first(config, "num_attention_heads", "n_head", "num_heads") or 1
    head = _first(config, "head_dim", "d_kv") or width // heads
    keys = head * (_first(config, "num_key_value_heads") or heads)
    weights = sum(_weights_in(file) for file in loading.weight_files(place))
    return Size(weights, layers, width, keys, _first(config, "vocab_size"), _inner(config, width), _first(config, *_LONGEST))


_WIDTHS = ("hidden_size", "n_embd", "d_model")
_LONGEST = ("max_position_embeddings", "n_positions")


def _inner(config: Mapping[str, Any], width: int) -> int:
    """The width inside a feed-forward layer; counted twice where its activation is put together of many operations."""
    inner = _first(config, "intermediate_size", "n_inner", "d_ff") or 4 * width
    return inner * (2 if config.get("activation_function", config.get("hidden_act")) == "gelu_new" else 1)


def _first(config: Mapping[str, Any], *names: str) -> int:
    return int(next((config[name] for name in names if config.get(name)), 0))


def _weights_in(file: Path) -> int:
    """How many numbers a safetensors file holds, by its header."""
    with file.open("rb") as opened:
        header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    return sum(int(np.prod(one["shape"], dtype=np.int64)) for name, one in header.items() if name != "__metadata__")


def _of_gguf(place: loading.Place) -> Size:
    told, weights = header(place.folder / place.gguf)
    config = {name.partition(".")[2]: one for name, one in told.items()}
    width, heads = _first(config, "embedding_length"), _first(config, "attention.head_count") or 1
    keys = width // heads * (_first(config, "attention.head_count_kv") or heads)
    inner = _first(config, "feed_forward_length") or 4 * width
    return Size(
        weights, _first(config, "block_count"), width, keys, _first(config, "vocab_size"), inner,
        _first(config, "context_length"),
    )  # fmt: skip


# ---- a run


class Counts(NamedTuple):
    """What a run is handed: prompts (or pairs) to learn from, held-out prompts, and their mean tokens.

    `drawn` are tokens of the prompt and of the longer response of some of the pairs, drawn by chance; without any, all are
    taken to be as long as the mean.
    """

    train: int
    held_out: int
    prompt: float
    response: float = 0.0  # of the data's own responses
    drawn: tuple[tuple[float, float], ...] = ()


class Tokens(NamedTuple):
    """What a run does: tokens the policy writes, learns from, and reads besides; texts' tokens each scorer reads."""

    written: float
    learned: float
    read: float
    scored: float


class Estimate(NamedTuple):
    """Seconds and bytes; the tokens written and learned from, by which earlier runs put the seconds right."""

    seconds: float
    bytes: int
    tokens: float


def of_policy(
    kind: str, told: Mapping[str, Any], counts: Counts, policy: Size, scorers: Sequence[Size], on: Machine
) -> Estimate:
    """A run of this kind (generate, sft, dpo, ppo, rloo, best-of-n) with these settings. The first of the scorers is what is
    optimised, where something is."""
    work = tokens_of(kind, told, counts)
    rank, learns = int(told.get("lora_rank", 0)), kind not in ("generate", "best-of-n")
    forward = 2 * policy.weights / (on.speed * _USED[on.kind])
    seconds = _OPENING + forward * (work.read + work.learned * (2 if rank else 3)) + work.written * _a_token(policy, on)
    seconds += sum(_OPENING / 4 + 2 * one.weights / (on.speed * _USED[on.kind]) * work.scored for one in scorers)
    held = _held(policy, rank, on) if learns else _bytes(on) * policy.weights
    most = max(_answering(kind, told, counts, policy, on), _learning(kind, told, counts, policy, on) if learns else 0)
    beside = _bytes(on) * scorers[0].weights if scorers and kind in ("ppo", "rloo") else 0  # all others come when it is gone
    scoring = max((_scoring(one, on) for one in scorers), default=0) + (_bytes(on) * policy.weights if kind == "dpo" else 0)
    return Estimate(seconds, int(_ALONE[on.kind] + max(held + most + beside, scoring)), work.written + work.learned)


def of_reward(told: Mapping[str, Any], counts: Counts, base: Size, on: Machine, *, head: bool) -> Estimate:
    """A run that trains a reward model on pairs; with `head` texts are only read, once."""
    length = min(counts.prompt + counts.response, told["max_length"])
    read = 2 * length * (counts.train + counts.held_out)
    forward = 2 * base.weights / (on.speed * _USED[on.kind])
    if head:
        return Estimate(
            _OPENING + forward * read, int(_ALONE[on.kind] + 4 * base.weights + _passing(_SCORED[on.kind], base, on)), read
        )
    pairs = counts.train * int(told["epochs"])
    steps = int(told["max_steps"])
    if steps:
        pairs = min(pairs, steps * int(told["batch_pairs"]) * int(told["accumulate"]))
    learned, rank = 2 * length * pairs, int(told["lora_rank"])
    seconds = _OPENING + forward * (learned * (2 if rank else 3) + 2 * length * counts.held_out)
    whole = [prompt + response for prompt, response in _drawn(counts)]
    most = _within(min(longest_of(whole, min(pairs, counts.train)), told["max_length"]), base)
    held = 4 * base.weights + 16 * _changes(base, rank) if rank else 16 * base.weights  # in float32; no start beside it
    return Estimate(seconds, int(_ALONE[on.kind] + held + _kept(2 * int(told["batch_pairs"]), most, base, on)), learned)


def put_right(guess: Estimate, rates: Sequence[float]) -> Estimate:
    """The estimate by the tokens a second, written and learned from, of earlier runs of the same kind and start."""
    return guess._replace(seconds=_OPENING + guess.tokens / float(np.median(rates))) if rates else guess


def tokens_of(kind: str, told: Mapping[str, Any], counts: Counts) -> Tokens:
    """What such a run writes, learns from and reads, its looks at held-out prompts included."""
    longest, prompt = int(told["max_tokens"]), min(counts.prompt, int(told["max_prompt"]))
    if kind in ("generate", "best-of-n"):
        each = (int(told["n"]) + 1 if kind == "best-of-n" else int(told["samples"])) * counts.held_out
        return Tokens(each * longest, 0, counts.held_out * prompt + 2 * each * (prompt + longest), each * (prompt + longest))
    steps, every = _steps(told, counts), int(told["look_every"])
    done = steps * int(told["batch"]) * int(told["accumulate"])
    looks = 2 + (max(0, -(-steps // every) - 1) if every else 0)
    looked = looks * counts.held_out * int(told["samples"])
    written, read, scored = looked * longest, 3 * looked * (prompt + longest), looked * (prompt + longest)
    own = prompt + (counts.response or longest)
    if kind == "sft":
        return Tokens(written, done * own, read, scored)
    if kind == "dpo":
        drawn = int(told["drawn"]) * counts.train if told["pairs"] == "sampled" else 0
        labelled = drawn * (prompt + longest) + (2 * counts.train * own if told["pairs"] == "relabelled" else 0)
        own = prompt + longest if drawn else own
        return Tokens(written + drawn * longest, 2 * done * own, read + 2 * done * own, scored + labelled)
    answers = done * int(told.get("drawn", 1))
    texts = answers * (prompt + longest)
    return Tokens(written + answers * longest, texts * int(told["passes"]), read + 3 * texts, scored + texts)


def _steps(told: Mapping[str, Any], counts: Counts) -> int:
    batch = int(told["batch"]) * int(told["accumulate"])
    steps = max(1, -(-counts.train * int(told["epochs"]) // batch))
    return min(steps, int(told["max_steps"])) if told["max_steps"] else steps


def _a_token(policy: Size, on: Machine) -> float:
    """Seconds a written token takes, of some dozen written side by side."""
    computing = _ROWS * 2 * policy.weights / (on.speed * _USED[on.kind])
    return max(computing, policy.layers * _LAYER[on.kind], policy.weights * _bytes(on) / on.bandwidth) / _ROWS


def _bytes(on: Machine) -> int:
    return 2 if on.kind == "gpu" else 4


# ---- memory

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
    learned = min(counts.train, batch * int(told["accumulate"]) * _steps(told, counts))
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
    cache = rows * length * 2 * policy.layers * policy.keys * _bytes(on)
    drawing = 20 * rows * policy.vocabulary  # logits of two steps, scaled, as shares, and these summed up in float64
    writing = cache + max(drawing, _passing(rows * length, policy, on))
    if kind == "generate":  # which asks for no log-probabilities
        return writing
    tokens = min(answers * length, _READ[on.kind] / max(1, policy.vocabulary))
    logits = tokens * policy.vocabulary * told["max_tokens"] / length
    return float(max(writing, _passing(tokens, policy, on) + 4 * logits + 8 * min(logits, _PIECE)))


def _passing(tokens: float, model: Size, on: Machine) -> float:
    """Bytes that a forward pass of so many tokens takes without a gradient: those of one layer."""
    return tokens * (4 * model.width + 3 * model.inner) * _bytes(on)


def _scoring(scorer: Size, on: Machine) -> float:
    return _bytes(on) * scorer.weights + _passing(_SCORED[on.kind], scorer, on)


def _held(policy: Size, rank: int, on: Machine) -> float:
    """Bytes of weights that are trained: all in float32 with a copy as the start, gradient and Adam's two moments; with LoRA
    those of the changes alone, beside the weights as they are."""
    return _bytes(on) * policy.weights + 16 * _changes(policy, rank) if rank else (4 + 4 + 12) * policy.weights


def _changes(model: Size, rank: int) -> int:
    """Weights of LoRA: of seven matrices a layer, each with an end of width `width` or some times it."""
    return rank * model.layers * 18 * model.width
