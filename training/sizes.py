"""How large models and data are, which is what estimates of a run go by. Imports no torch."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from training import loading
from training.gguf_header import header
from training.models import located


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


# ---- data


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


def steps_of(told: Mapping[str, Any], counts: Counts) -> int:
    """The steps in which a policy with these settings learns from so much."""
    batch = int(told["batch"]) * int(told["accumulate"])
    steps = max(1, -(-counts.train * int(told["epochs"]) // batch))
    return min(steps, int(told["max_steps"])) if told["max_steps"] else steps
