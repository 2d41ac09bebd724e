"""What a run will take, before it starts: seconds, from the sizes of its models, the tokens they will read, write and learn
from, and the speed of this machine, measured for a moment; and bytes (training/memory.py). An estimate: within a factor of two
or three, until earlier runs of the same kind put it right. Imports no torch.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from training import memory
from training.machine import Machine
from training.sizes import Counts, Size, steps_of

ASSUMED = (
    "every response has max_tokens, a token is 4 characters of a prompt, a forward pass is 2 floating-point operations a "
    "weight and token, learning 6 (4 with LoRA), and writing a token costs its share of the batch, or reading all weights "
    "once; memory is that of a batch with the longest text that is likely among those learned from"
)
_OPENING = 12.0  # seconds in which a process starts and opens its models
_USED = {"cpu": 0.7, "gpu": 0.35}  # the share of the measured speed that a language model gets
_LAYER = {"cpu": 2e-4, "gpu": 8e-4}  # seconds a layer takes to write a token, however few rows there are
_ROWS = 64  # responses written side by side


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
    forward, passes = 2 * policy.weights / (on.speed * _USED[on.kind]), 2 if told.get("lora_rank") else 3
    seconds = _OPENING + forward * (work.read + work.learned * passes) + work.written * _a_token(policy, on)
    seconds += sum(_OPENING / 4 + 2 * one.weights / (on.speed * _USED[on.kind]) * work.scored for one in scorers)
    return Estimate(seconds, memory.of_policy(kind, told, counts, policy, scorers, on), work.written + work.learned)


def of_reward(told: Mapping[str, Any], counts: Counts, base: Size, on: Machine, *, head: bool) -> Estimate:
    """A run that trains a reward model on pairs; with `head` texts are only read, once."""
    length = min(counts.prompt + counts.response, told["max_length"])
    read = 2 * length * (counts.train + counts.held_out)
    forward = 2 * base.weights / (on.speed * _USED[on.kind])
    if head:
        return Estimate(_OPENING + forward * read, memory.of_head(base, on), read)
    pairs = counts.train * int(told["epochs"])
    steps = int(told["max_steps"])
    if steps:
        pairs = min(pairs, steps * int(told["batch_pairs"]) * int(told["accumulate"]))
    learned = 2 * length * pairs
    seconds = _OPENING + forward * (learned * (2 if told["lora_rank"] else 3) + 2 * length * counts.held_out)
    return Estimate(seconds, memory.of_reward(told, counts, base, on, pairs=pairs), learned)


def put_right(guess: Estimate, rates: Sequence[float]) -> Estimate:
    """The estimate by the tokens a second, written and learned from, of earlier runs of the same kind and start."""
    return guess._replace(seconds=_OPENING + guess.tokens / float(np.median(rates))) if rates else guess


def tokens_of(kind: str, told: Mapping[str, Any], counts: Counts) -> Tokens:
    """What such a run writes, learns from and reads, its looks at held-out prompts included."""
    longest, prompt = int(told["max_tokens"]), min(counts.prompt, int(told["max_prompt"]))
    if kind in ("generate", "best-of-n"):
        each = (int(told["n"]) + 1 if kind == "best-of-n" else int(told["samples"])) * counts.held_out
        return Tokens(each * longest, 0, counts.held_out * prompt + 2 * each * (prompt + longest), each * (prompt + longest))
    steps, every = steps_of(told, counts), int(told["look_every"])
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


def _a_token(policy: Size, on: Machine) -> float:
    """Seconds a written token takes, of some dozen written side by side."""
    computing = _ROWS * 2 * policy.weights / (on.speed * _USED[on.kind])
    return max(computing, policy.layers * _LAYER[on.kind], policy.weights * memory.NUMBER[on.kind] / on.bandwidth) / _ROWS
