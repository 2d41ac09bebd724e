"""Teaches a policy to write the chosen responses, as a background run: `python -m training.sft RUN_FOLDER`.

    input/pairs.parquet       what it learns from and is tried on: see training/reward_data.py
    input/prompts.parquet     the held-out prompts it is looked at with: see training/policy_data.py
    metrics.jsonl             a line a step
    model/                    the policy, with a card
    output/                   responses.parquet, and summary.json, which is written last

The loss is -log p of a response's tokens alone, its end included, in the mean over the tokens of a step.
"""

from typing import Any

from datasets import Dataset
from transformers import TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from training import engine, policy_job, policy_loop, policy_pairs
from training.policy_job import Bench, Learned
from training.policy_loop import Line, Quiet
from training.policy_settings import SupervisedTuning
from training.policy_texts import Texts
from training.run import Run, say

_FULL_RATE, _LORA_RATE = 2e-5, 2e-4
_TRIED = 512  # held-out pairs, the first ones, whose chosen responses are tried at each look
_MASKED = -100  # what PyTorch's losses pass over


def train(run: Run) -> None:
    """The job. What is finished is not done again. Raises ValueError, OSError or MemoryError with a sentence that says why
    it cannot go on."""
    policy_job.train(run, "sft", SupervisedTuning.model_validate(run.config()), _learned)


def _learned(bench: Bench) -> Learned:
    settings = bench.settings
    assert isinstance(settings, SupervisedTuning)
    found = policy_pairs.chosen(bench.run, bench.policy, settings)
    say(f"{len(found.learned):,} responses to learn from; " + "; ".join(found.notes or ["none was cut"]))
    steps = policy_loop.steps_of(settings, len(found.learned), settings.epochs)
    tried = [_row(one) for one in found.held_out[:_TRIED]]

    def made(watch: TrainerCallback) -> _Trainer:
        told = policy_loop.arguments(
            bench, rate=_FULL_RATE, lora_rate=_LORA_RATE, steps=steps, save_every=settings.save_every
        )  # fmt: skip
        return _Trainer(
            bench.policy.model,
            SFTConfig(
                **told, per_device_train_batch_size=settings.batch, max_length=None,
                dataset_kwargs={"skip_prepare_dataset": True},
            ),
            train_dataset=Dataset.from_list([_row(one) for one in found.learned]),
            processing_class=bench.policy.tokenizer, callbacks=[watch],
        )  # fmt: skip

    def held_out(trainer: Any, step: int) -> Line:
        return policy_loop.mean_over(trainer, tried, lambda inputs: float((inputs["labels"] != _MASKED).sum()), {})

    last = policy_loop.fitted(bench, made, steps=steps, line=_line, tried=held_out)
    return Learned(steps, int(last.get("tokens") or 0), 0, found.data_hash, tuple(found.notes))


class _Trainer(Quiet, SFTTrainer):
    """TRL's trainer."""


def _row(texts: Texts) -> dict[str, list[int]]:
    return {"input_ids": texts.prompt + texts.chosen, "labels": [_MASKED] * len(texts.prompt) + texts.chosen}


def _line(logs: Line) -> Line:
    return {
        "epoch": logs["epoch"], "token_accuracy": logs["mean_token_accuracy"], "entropy": logs["entropy"],
        "tokens": logs["num_tokens"],
    }  # fmt: skip


if __name__ == "__main__":
    engine.main(train)
