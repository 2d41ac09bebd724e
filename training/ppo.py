"""Trains a policy by PPO, as a background run: `python -m training.ppo RUN_FOLDER`. Where there are several GPUs it starts a
process for each.

    input/prompts.parquet      what it learns from, and is looked at with: see training/policy_data.py
    metrics.jsonl              a line a step
    model/                     the policy, with a card
    output/responses.parquet   what it answered to held-out prompts, with scores; output/samples.jsonl while it learns
    output/summary.json        what was made; it is written last

A stopped run goes on from its last checkpoint, on a CPU to the very numbers of an undisturbed one.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from training import engine, policy_card, policy_data
from training.policy_data import MODEL, SUMMARY
from training.policy_settings import Ppo
from training.reasons import plain_reasons
from training.run import Run, say

if TYPE_CHECKING:
    from training.processes import Processes


def train(run: Run) -> None:
    """The job. What is finished is not done again. Raises ValueError, OSError or MemoryError with a sentence that says why
    it cannot go on."""
    from training.processes import ALONE, together

    if (run.output / SUMMARY).exists():
        run.drop_checkpoints()  # it may have been stopped just before that
        return
    settings = Ppo.model_validate(run.config())
    count = _gpus(settings)
    if count > 1:
        say(f"{count} GPUs: a process for each")
        together(trained_together, run.folder, count)
    else:
        trained(run, ALONE)


def trained_together(folder: Path, share: "Processes") -> None:
    """The job of one process among several."""
    trained(Run(folder), share)


def trained(run: Run, share: "Processes") -> None:
    """Learn, save the policy, score what it answered to held-out prompts, and say what was made."""
    settings = Ppo.model_validate(run.config())
    smaller = (
        f"less than {settings.batch} answers learned from at once (batch, with more in accumulate), shorter ones than "
        f"{settings.max_tokens:,} tokens (max_tokens), fewer generated side by side (batch_tokens), or LoRA (lora_rank)"
    )
    with plain_reasons(run, smaller):
        _made(run, settings, share)


def _made(run: Run, settings: Ppo, share: "Processes") -> None:
    from training import rewarding
    from training.looks import Looks
    from training.policies import opened
    from training.policy_job import Learned, close
    from training.ppo_loop import learn

    policy_card.code_version()  # as the code is now
    prompts = policy_data.prompts(run.input)
    if share.first:
        run.tell(0, 1, "steps", f"opening {settings.base}", seconds=0)
    device = settings.device if share.count == 1 else share.device
    policy = opened(
        settings.base, precision=settings.precision, device=device, lora_rank=settings.lora_rank, trainable=True,
        seed=settings.seed,
    )  # fmt: skip
    rewarder = rewarding.Rewarder(settings.reward, device=device)
    looks = Looks(run, settings, prompts.held_out)
    turns = [one.turns for one in prompts.train]
    learner = learn(policy, rewarder, turns, settings, run=run, look=looks.look, share=share)
    if not share.first:
        return
    if not (run.folder / MODEL).exists():
        policy.save(run.folder / MODEL)
    looks.look(policy, learner.steps)  # was taken; what it says of the prompts is known again
    cut = int(policy.prompts_read(turns, settings.max_prompt).truncated.sum())
    tokens, notes = learner.tokens, tuple(_notes(learner.scale, settings, cut))
    learned = Learned(
        learner.steps, tokens["trained"], tokens["generated"], policy_data.prompts_hash(prompts.train), notes
    )  # fmt: skip
    seconds = learner.seconds + sum(looks.at(point).seconds for point in looks.points())
    del policy, rewarder, learner  # their memory is that of the models that score
    rewarding.emptied()
    close(run, "ppo", settings, learned, looks, seconds)


def _notes(scale: tuple[float, float], settings: Ppo, cut: int) -> Iterator[str]:
    if cut:
        yield f"{cut:,} prompts were longer than {settings.max_prompt:,} tokens and lost their beginning"
    if settings.normalise:
        mean, spread = scale
        yield f"rewards are scores less {mean:.6g}, divided by {spread:.6g}: mean and spread on answers of the start"


def _gpus(settings: Ppo) -> int:
    """GPUs to use: all that are seen, unless the settings name a device."""
    if settings.device != "auto":
        return 1
    import torch

    return torch.cuda.device_count()


if __name__ == "__main__":
    engine.main(train)
