"""A run that trains a policy, from its settings to its summary: what SFT, DPO and RLOO share besides the loop itself."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from training import policies, policy_answers, policy_card, policy_data, rewarding
from training.looks import Looks
from training.machine import see_one_gpu
from training.policies import Policy
from training.policy_data import MODEL, SUMMARY, Prompts
from training.policy_settings import Learning, OnPolicy
from training.reasons import plain_reasons
from training.run import Run, write_json


@dataclass
class Bench:
    """A policy on its way: what learns, from which prompts, and where it is written down."""

    run: Run
    settings: Learning
    policy: Policy
    looks: Looks
    prompts: Prompts
    began: float = field(default_factory=time.monotonic)
    before: float = 0.0  # seconds worked before a resume

    def seconds(self) -> float:
        """Seconds worked so far."""
        return self.before + time.monotonic() - self.began


class Learned(NamedTuple):
    """What was learned from, counted: steps, tokens a gradient was taken of, tokens sampled to learn from."""

    steps: int
    trained: int
    generated: int
    data_hash: str
    notes: tuple[str, ...] = ()


def train(run: Run, kind: str, settings: Learning, learn: Callable[[Bench], Learned]) -> None:
    """A run that trains a policy. What is finished is not done again.

    Raises ValueError, OSError or MemoryError with a sentence that says why it cannot go on.
    """
    if (run.output / SUMMARY).exists():
        run.drop_checkpoints()  # it may have been stopped just before that
        return
    policy_card.code_version()  # of the files as they are now
    settings = _on_one_gpu(settings)
    run.tell(0, 1, "steps", f"opening {settings.base}", seconds=0)
    smaller = (
        f"less than {settings.batch} at once (batch, with more in accumulate), shorter texts (max_prompt, max_tokens), or LoRA "
        "(lora_rank)"
    )
    with plain_reasons(run, smaller):
        close(run, kind, settings, *_learned(run, settings, learn))


def close(run: Run, kind: str, settings: Learning, learned: Learned, looks: Looks, seconds: float) -> None:
    """What is left to do when the policy is saved and out of memory: score what it answered, and say what was made.

    `seconds` is how long the work took so far, looks included.
    """
    began = time.monotonic()
    points = looks.finish()
    notes = policy_answers.notes_of(run, settings) if isinstance(settings, OnPolicy) else []
    if looks.cut:
        notes.append(f"{looks.cut:,} held-out prompts were longer than {settings.max_prompt:,} tokens and lost their beginning")
    found = policy_card.summary(
        settings, kind, model=MODEL, steps=learned.steps, points=points, seconds=seconds + time.monotonic() - began,
        generated=learned.generated + sum(round(one["n"] * one["length"]) for one in points), trained=learned.trained,
        data_hash=learned.data_hash, notes=[*learned.notes, *notes],
    )  # fmt: skip
    (run.folder / MODEL / "README.md").write_text(policy_card.card(found), encoding="utf-8")
    write_json(run.output / SUMMARY, found)
    run.drop_checkpoints()
    run.tell(learned.steps, learned.steps, "steps", f"{learned.steps:,} steps")


def _on_one_gpu(settings: Learning) -> Learning:
    """The trainer takes the first GPU it sees."""
    kind, _, number = settings.device.partition(":")
    see_one_gpu(number)
    return settings.model_copy(update={"device": kind})


def _learned(run: Run, settings: Learning, learn: Callable[[Bench], Learned]) -> tuple[Learned, Looks, float]:
    """Train and save the policy; its memory is given back, for the reward models that score what it answered."""
    prompts = policy_data.prompts(run.input)
    policy = policies.opened(
        settings.base, precision=settings.precision, device=settings.device, lora_rank=settings.lora_rank, trainable=True,
        seed=settings.seed,
    )  # fmt: skip
    policy.check_fits(settings.max_prompt, settings.max_tokens)
    bench = Bench(run, settings, policy, Looks(run, settings, prompts.held_out), prompts)
    learned = learn(bench)
    policy.save(run.folder / MODEL)
    found = learned, bench.looks, bench.seconds()
    del policy, bench
    rewarding.emptied()
    return found
