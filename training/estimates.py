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
    "weight and token, learning 6 (4 with LoRA), and writing a token costs its share of the batch, or reading all weights once"
)
_OPENING = 12.0  # seconds in which a process starts and opens its models
_USED = {"cpu": 0.7, "gpu": 0.35}  # the share of the measured speed that a language model gets
_LAYER = {"cpu": 2e-4, "gpu": 8e-4}  # seconds a layer takes to write a token, however few rows there are
_ROWS = 64  # responses written side by side
_ALONE = {"cpu": 0.8e9, "gpu": 1.5e9}  # bytes of a process before it has opened a model
_ACTIVATIONS = 17  # numbers a layer keeps for each token and unit of width until its gradient is taken (arXiv 2205.05198)


# ---- models


class Size(NamedTuple):
    """A model's weights, layers, width, the width of its keys in one layer, and its vocabulary."""

    weights: int
    layers: int
    width: int
    keys: int
    vocabulary: int


NOTHING = Size(0, 0, 0, 0, 0)  # a reward model without weights: the length of a response, a server elsewhere


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
    weights = sum(_weights_in(file) for file in loading.weight_files(place))
    return Size(weights, layers, width, head * (_first(config, "num_key_value_heads") or heads), _first(config, "vocab_size"))


_WIDTHS = ("hidden_size", "n_embd", "d_model")


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
    return Size(weights, _first(config, "block_count"), width, keys, _first(config, "vocab_size"))


# ---- a run


class Counts(NamedTuple):
    """What a run is handed: prompts (or pairs) to learn from, held-out prompts, and their mean tokens."""

    train: int
    held_out: int
    prompt: float
    response: float = 0.0  # of the data's own responses


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
    texts = int(told["batch"]) * _texts(kind, told) if learns else 0
    length = min(counts.prompt, told["max_prompt"]) + told["max_tokens"]
    most = max(texts * length * _kept(policy, on), _ROWS * length * 2 * policy.layers * policy.keys * _bytes(on))
    beside = _bytes(on) * max((one.weights for one in scorers), default=0)
    return Estimate(seconds, int(_ALONE[on.kind] + held + most + beside), work.written + work.learned)


def of_reward(told: Mapping[str, Any], counts: Counts, base: Size, on: Machine, *, head: bool) -> Estimate:
    """A run that trains a reward model on pairs; with `head` texts are only read, once."""
    length = min(counts.prompt + counts.response, told["max_length"])
    read = 2 * length * (counts.train + counts.held_out)
    forward = 2 * base.weights / (on.speed * _USED[on.kind])
    if head:
        return Estimate(_OPENING + forward * read, int(_ALONE[on.kind] + 4 * base.weights), read)
    pairs = counts.train * int(told["epochs"])
    steps = int(told["max_steps"])
    if steps:
        pairs = min(pairs, steps * int(told["batch_pairs"]) * int(told["accumulate"]))
    learned, rank = 2 * length * pairs, int(told["lora_rank"])
    seconds = _OPENING + forward * (learned * (2 if rank else 3) + 2 * length * counts.held_out)
    most = 2 * int(told["batch_pairs"]) * length * _kept(base._replace(vocabulary=0), on)
    held = _held(base, rank, on) - (0 if rank else 4 * base.weights)  # no start is kept beside it
    return Estimate(seconds, int(_ALONE[on.kind] + held + most), learned)


def put_right(guess: Estimate, rates: Sequence[float]) -> Estimate:
    """The estimate by the tokens a second, written and learned from, of earlier runs of the same kind and start."""
    return guess._replace(seconds=_OPENING + guess.tokens / float(np.median(rates))) if rates else guess


def tokens_of(kind: str, told: Mapping[str, Any], counts: Counts) -> Tokens:
    """What such a run writes, learns from and reads, its looks at held-out prompts included."""
    longest, prompt = int(told["max_tokens"]), min(counts.prompt, int(told["max_prompt"]))
    if kind in ("generate", "best-of-n"):
        each = (int(told["n"]) + 1 if kind == "best-of-n" else int(told["samples"])) * counts.held_out
        return Tokens(each * longest, 0, counts.held_out * prompt + 2 * each * (prompt + longest), each * (prompt + longest))
    batch = int(told["batch"]) * int(told["accumulate"])
    steps = max(1, -(-counts.train * int(told["epochs"]) // batch))
    steps = min(steps, int(told["max_steps"])) if told["max_steps"] else steps
    done, every = steps * batch, int(told["look_every"])
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


def _texts(kind: str, told: Mapping[str, Any]) -> float:
    """Texts a gradient is taken of at once, for each prompt or pair of the batch."""
    if kind == "ppo":
        return 1 / int(told["minibatches"])
    return {"rloo": int(told.get("drawn", 1)), "dpo": 2}.get(kind, 1)


def _a_token(policy: Size, on: Machine) -> float:
    """Seconds a written token takes, of some dozen written side by side."""
    computing = _ROWS * 2 * policy.weights / (on.speed * _USED[on.kind])
    return max(computing, policy.layers * _LAYER[on.kind], policy.weights * _bytes(on) / on.bandwidth) / _ROWS


def _bytes(on: Machine) -> int:
    return 2 if on.kind == "gpu" else 4


def _held(policy: Size, rank: int, on: Machine) -> float:
    """Bytes of weights that are trained: all in float32 with a copy as the start, gradient and Adam's two moments; with LoRA
    those of the changes alone, beside the weights as they are."""
    if not rank:
        return (4 + 4 + 12) * policy.weights
    changes = rank * policy.layers * 18 * policy.width  # of seven matrices, each with an end of width `width` or some times it
    return _bytes(on) * policy.weights + 16 * changes


def _kept(policy: Size, on: Machine) -> float:
    """Bytes kept of a token until its gradient is taken; the logits in float32, with their gradient and probabilities."""
    return _ACTIVATIONS * _bytes(on) * policy.layers * policy.width + 12 * policy.vocabulary
