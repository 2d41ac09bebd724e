"""The loop that trains a reward model: TRL's trainer, a line of metrics a step, checkpoints that go on to the same numbers."""

import json
import math
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer

from training.batches import by_budget
from training.curves import Curves, check_loss
from training.losses import bradley_terry_loss, smoothed
from training.reward_data import Tally
from training.run import Cancelled, Run, say

if TYPE_CHECKING:
    from training.reward_settings import Training

Ids = Sequence[int]

_CURVE = 512  # held-out pairs, the first ones, that are tried during training; all of them are at the end
_TRIED_TOKENS = {"cpu": 4096, "cuda": 65536}  # of a batch of these
_WARMUP = 0.03  # share of the steps in which the learning rate rises; then it falls to 0, linearly
_FULL_RATE, _LORA_RATE = 1e-5, 1e-4
_STATE = "trainer_state.json"  # of a checkpoint, the last of its files


class Pairs(NamedTuple):
    """Pairs as a model reads them. Margins are what the preference strength asks for, 0 or more."""

    chosen: list[Ids]
    rejected: list[Ids]
    margins: list[float]


def trained(
    run: Run, settings: "Training", model: Any, tokenizer: Any, learned: Pairs, tried: Pairs, lora: Any = None
) -> tuple[Any, int]:  # fmt: skip
    """The trained model, with LoRA's changes merged into it, and how many steps that took.

    Raises Cancelled, after a checkpoint, where the run is asked to stop, and ValueError for a loss that is no number.
    """
    checkpoint = last_checkpoint(run.checkpoints)
    done = 0 if checkpoint is None else _step(checkpoint)
    watch = _Watch(run, settings, Curves(run.folder, after=done), tried, len(learned.chosen))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # advice to those who write the trainer
        trainer = _Trainer(
            model, _arguments(run, settings, len(learned.chosen)), train_dataset=_dataset(learned, settings.margin_weight),
            processing_class=tokenizer, peft_config=lora, callbacks=[watch],
        )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.smoothing, watch.trainer = settings.label_smoothing, trainer
    steps = steps_of(settings, len(learned.chosen))
    if checkpoint is not None:
        say(f"going on after step {done:,} of {steps:,}")
    if done < steps:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    else:
        trainer._load_from_checkpoint(str(checkpoint))
    finished = trainer.accelerator.unwrap_model(trainer.model)
    return (finished if lora is None else finished.merge_and_unload()), steps


def steps_of(settings: "Training", pairs: int) -> int:
    """How many steps training on so many pairs takes."""
    steps = settings.epochs * _steps_an_epoch(settings, pairs)
    return min(steps, settings.max_steps) if settings.max_steps else steps


def _steps_an_epoch(settings: "Training", pairs: int) -> int:
    return math.ceil(math.ceil(pairs / settings.batch_pairs) / settings.accumulate)


def _arguments(run: Run, settings: "Training", pairs: int) -> RewardConfig:
    on_gpu = torch.cuda.is_available()
    return RewardConfig(
        output_dir=str(run.checkpoints), seed=settings.seed, num_train_epochs=settings.epochs,
        max_steps=steps_of(settings, pairs) if settings.max_steps else -1,
        per_device_train_batch_size=settings.batch_pairs, gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.learning_rate or (_LORA_RATE if settings.lora_rank else _FULL_RATE), warmup_steps=_WARMUP,
        center_rewards_coefficient=settings.centring or None, max_length=None, activation_checkpointing=False,
        use_cpu=not on_gpu, bf16=on_gpu and settings.precision != "float32", dataloader_pin_memory=on_gpu,
        logging_steps=1, logging_nan_inf_filter=False, save_strategy="steps", save_steps=settings.save_every,
        save_total_limit=2, eval_strategy="no", report_to="none", disable_tqdm=True, push_to_hub=False,
    )  # fmt: skip


def _dataset(pairs: Pairs, margin_weight: float) -> Dataset:
    columns: dict[str, Any] = {"chosen_ids": pairs.chosen, "rejected_ids": pairs.rejected}
    if margin_weight:
        columns["margin"] = [margin_weight * margin for margin in pairs.margins]
    return Dataset.from_dict(columns)


class _Trainer(RewardTrainer):
    """TRL's trainer with label smoothing, a count of tokens, and no word to anybody."""

    smoothing = 0.0
    tokens = 0  # read so far, without padding

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        loss, outputs = super().compute_loss(  # type: ignore[no-untyped-call]
            model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch
        )
        self.tokens += int(inputs["attention_mask"].sum())
        if self.smoothing:
            chosen, rejected = outputs.logits.squeeze(-1).chunk(2)
            loss = loss + smoothed(chosen - rejected - inputs.get("margin", 0.0), self.smoothing)
        return (loss, outputs) if return_outputs else loss

    def _send_telemetry(self) -> None:
        """Nobody is told what is trained here."""

    def create_model_card(self, *arguments: Any, **more: Any) -> None:
        """Ours is written at the end."""


class _Watch(TrainerCallback):
    """After each step: its line of metrics, how far the run is, whether somebody asked it to stop."""

    trainer: _Trainer

    def __init__(self, run: Run, settings: "Training", curves: Curves, tried: Pairs, pairs: int) -> None:
        self._run, self._settings, self._curves, self._pairs = run, settings, curves, pairs
        self._tried = Pairs(tried.chosen[:_CURVE], tried.rejected[:_CURVE], tried.margins[:_CURVE])
        self._cancelled, self._held_out = False, ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.trainer.tokens = int(self._curves.last.get("tokens") or 0)

    def on_log(  # type: ignore[override]  # the trainer always gives what was logged
        self, args: Any, state: Any, control: Any, logs: dict[str, float], **more: Any
    ) -> None:  # fmt: skip
        """The loss of a step is known before its checkpoint is written, so no checkpoint lacks a line."""
        if "loss" not in logs:  # what the trainer says at its end
            return
        step = state.global_step
        loss = check_loss(step, logs, args.learning_rate)
        line = {
            "epoch": state.epoch, "loss": loss, "learning_rate": logs["learning_rate"], "accuracy": logs["accuracy"],
            "margin": logs["margin"], "gradient": logs.get("grad_norm"), "tokens": self.trainer.tokens,
        }  # fmt: skip
        if self._tried.chosen and (step % self._settings.eval_every == 0 or step == state.max_steps):
            line |= self._try()
            self._held_out = f", held-out accuracy {line['held_out_accuracy']:.3f} (n={len(self._tried.chosen):,})"
        self._curves.add(step, line)
        words = f"step {step:,} of {state.max_steps:,}: loss {loss:.4f}{self._held_out}"
        if "held_out_loss" in line or step == state.max_steps:
            say(words)
        self._tell(state, control, words)

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if self._cancelled:
            raise Cancelled

    def _tell(self, state: Any, control: Any, words: str) -> None:
        whole = round(self._pairs * state.max_steps / _steps_an_epoch(self._settings, self._pairs))
        try:
            self._run.tell(min(round(self._pairs * state.epoch), whole - 1), whole, "pairs", words)
        except Cancelled:  # once the checkpoint of this very step is written
            self._cancelled = control.should_save = True

    def _try(self) -> dict[str, float]:
        """Loss, without smoothing and margins, and accuracy on the held-out pairs."""
        count = len(self._tried.chosen)
        scores = self._scores([*self._tried.chosen, *self._tried.rejected])
        chosen, rejected = scores[:count], scores[count:]
        accuracy = Tally.of((chosen - rejected).tolist()).accuracy
        assert accuracy is not None
        return {"held_out_loss": float(bradley_terry_loss(chosen, rejected)), "held_out_accuracy": accuracy}

    def _scores(self, texts: Sequence[Ids]) -> torch.Tensor:
        """The model's scores as it is now, (texts,)."""
        model: Any = self.trainer.model
        device, pad = self.trainer.args.device, model.config.get_text_config().pad_token_id
        scores = torch.zeros(len(texts))
        model.eval()
        for places in by_budget([len(ids) for ids in texts], budget=_TRIED_TOKENS[device.type]):
            ids, mask = _padded([texts[place] for place in places], pad)
            with torch.no_grad(), self.trainer.compute_loss_context_manager():
                logits = model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
            scores[places] = logits.squeeze(-1).float().cpu()
        model.train()
        return scores


def _padded(texts: Sequence[Ids], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, (texts, tokens), padded at the end."""
    ids = np.full((len(texts), max(map(len, texts))), pad, np.int64)
    mask = np.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text)], mask[row, : len(text)] = text, 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


# ---- checkpoints


def last_checkpoint(folder: Path) -> Path | None:
    """The latest whole checkpoint; half-written ones are removed."""
    whole = [path for path in folder.glob("checkpoint-*") if _is_whole(path)]
    for path in folder.glob("checkpoint-*"):
        if path not in whole:
            shutil.rmtree(path)
    return max(whole, key=_step, default=None)


def _is_whole(checkpoint: Path) -> bool:
    try:
        return bool(json.loads((checkpoint / _STATE).read_text())["global_step"] == _step(checkpoint))
    except (OSError, ValueError, KeyError):
        return False


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
