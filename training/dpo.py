"""Trains a policy on pairs by direct preference optimisation (arXiv 2305.18290): `python -m training.dpo RUN_FOLDER`.

    input/pairs.parquet       with pairs=labels or relabelled: see training/reward_data.py
    input/prompts.parquet     held-out prompts, and with pairs=sampled those it answers: see training/policy_data.py
    metrics.jsonl             a line a step; a margin is beta (log pi/pi_start of chosen - of rejected)
    model/                    the policy, with a card
    output/                   responses.parquet, and summary.json, which is written last

What the start says of the pairs is computed once, by the trainer's own code, and kept with the checkpoints. Log-probabilities
are taken at temperature 1, whatever responses are sampled at.
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from training import engine, policy_job, policy_loop, policy_pairs
from training.batches import by_budget
from training.policy_job import Bench, Learned
from training.policy_loop import Line, Quiet
from training.policy_pairs import Found
from training.policy_settings import DirectPreference
from training.rewards.base import Numbers
from training.run import Run, say

_FULL_RATE, _LORA_RATE = 1e-6, 2e-5
_TRIED = 512  # held-out pairs, the first ones, that are tried at each look
_OURS = {"accuracy": "rewards/accuracies", "margin": "rewards/margins"}  # and TRL's names
_REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")  # TRL's, too


def train(run: Run) -> None:
    """The job. What is finished is not done again. Raises ValueError, OSError or MemoryError with a sentence that says why
    it cannot go on."""
    settings = DirectPreference.model_validate(run.config())
    policy_job.train(run, "dpo", settings, _learned)


def _learned(bench: Bench) -> Learned:
    settings = bench.settings
    assert isinstance(settings, DirectPreference)
    found = _pairs(bench, settings)
    if not found.learned:
        raise ValueError("no pair is left to learn from: " + "; ".join(found.notes))
    say(f"{len(found.learned):,} pairs to learn from; " + "; ".join(found.notes or ["none was cut or left out"]))
    steps = policy_loop.steps_of(settings, len(found.learned), settings.epochs)

    def made(watch: TrainerCallback) -> _Trainer:
        told = policy_loop.arguments(
            bench, rate=_FULL_RATE, lora_rate=_LORA_RATE, steps=steps, save_every=settings.save_every
        )  # fmt: skip
        return _Trainer(
            bench.run, bench.policy.model, None,
            DPOConfig(
                **told, **losses(settings), per_device_train_batch_size=settings.batch, beta=settings.beta, max_length=None,
                precompute_ref_log_probs=True,
            ),
            train_dataset=_dataset(found.learned),
            eval_dataset=_dataset(found.held_out[:_TRIED]) if found.held_out else None,
            processing_class=bench.policy.tokenizer, callbacks=[watch],
        )  # fmt: skip

    last = policy_loop.fitted(bench, made, steps=steps, line=_line, tried=_tried)
    return Learned(steps, int(last.get("tokens") or 0), found.generated, found.data_hash, tuple(found.notes))


def _pairs(bench: Bench, settings: DirectPreference) -> Found:
    if settings.pairs == "sampled":
        return policy_pairs.answered(bench.run, bench.policy, settings, bench.prompts.train)
    made = policy_pairs.labelled if settings.pairs == "labels" else policy_pairs.relabelled
    return made(bench.run, bench.policy, settings)


def losses(settings: DirectPreference) -> dict[str, Any]:
    """The loss in TRL's words, on x = a pair's margin (with ipo: per token, and without beta).

    TRL's sigmoid knows no label smoothing. With L(x) = -log sigma(x) and smoothing s its robust loss is
    R = ((1 - s) L(x) - s L(-x)) / (1 - 2 s), so (1 - s) L(x) + s L(-x) = (2 - 2 s) L(x) - (1 - 2 s) R.
    """
    smoothing = settings.label_smoothing
    if settings.loss == "sigmoid" and smoothing:
        weights = [2 - 2 * smoothing, 2 * smoothing - 1]
        return {"loss_type": ["sigmoid", "robust"], "loss_weights": weights, "label_smoothing": smoothing}
    return {"loss_type": [settings.loss], "label_smoothing": smoothing}


class _Trainer(Quiet, DPOTrainer):
    """TRL's trainer on ids that are ready, with what the start says of them kept for a resume."""

    def __init__(self, run: Run, *arguments: Any, **more: Any) -> None:
        self._run = run
        super().__init__(*arguments, **more)

    def _prepare_dataset(self, dataset: Any, *arguments: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        file = self._run.checkpoints / f"start-{name}.parquet"
        found = policy_pairs.kept(file, _REFERENCE, partial(self._of_start, dataset.to_list(), batch_size))
        for place, column in enumerate(_REFERENCE):
            dataset = dataset.add_column(column, found[:, place])
        return dataset

    def _of_start(self, rows: list[dict[str, Any]], batch_size: int) -> Numbers:
        """log p of chosen and rejected by the start, (pairs, 2), pairs of like length together."""
        found = np.zeros((len(rows), 2))
        lengths = [len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])) for row in rows]
        done = 0
        for places in by_budget(lengths, budget=batch_size * max(lengths), at_most=batch_size):
            self._run.tell(done, len(rows) + 1, "pairs", "reading them as the start does")
            inputs = self._prepare_inputs(self.data_collator([rows[place] for place in places]))
            both = self.compute_ref_log_probs(self.model, inputs)  # type: ignore[no-untyped-call]
            found[places] = torch.stack(both, -1).double().cpu().numpy()
            done += len(places)
        return found


def _dataset(pairs: Any) -> Dataset:
    return Dataset.from_list(
        [{"prompt_ids": one.prompt, "chosen_ids": one.chosen, "rejected_ids": one.rejected} for one in pairs]
    )


def _tried(trainer: Any, step: int) -> Line:
    """The held-out pairs as the policy is now; at the start every margin is 0."""
    if step == 0 or trainer.eval_dataset is None:
        return {}
    rows = trainer.eval_dataset.to_list()
    return policy_loop.mean_over(trainer, rows, lambda inputs: len(inputs["input_ids"]) / 2, _OURS)


def _line(logs: Line) -> Line:
    measured = {ours: logs[theirs] for ours, theirs in _OURS.items()}
    return {"epoch": logs["epoch"], **measured, "entropy": logs["entropy"], "tokens": logs["num_tokens"]}


if __name__ == "__main__":
    engine.main(train)
