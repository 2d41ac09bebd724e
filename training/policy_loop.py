"""The loop that trains a policy on TRL's trainers: a line of metrics a step, looks at held-out prompts, checkpoints.

A stopped run goes on from its last checkpoint; how many tokens and seconds that took before stands in its last line of metrics.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback
from trl.trainer.utils import disable_dropout_in_model

from training.curves import Curves, Number, check_loss
from training.policies import Policy
from training.policy_job import Bench
from training.policy_settings import Learning
from training.reward_loop import last_checkpoint
from training.run import Cancelled, say

_WARMUP = 0.03  # share of the steps in which the learning rate rises; then it falls to 0, linearly
_HELD_OUT = "held_out_"

Line = Mapping[str, Number]


def steps_of(settings: Learning, texts: int, epochs: int) -> int:
    """How many steps training on so many texts takes."""
    steps = epochs * math.ceil(math.ceil(texts / settings.batch) / settings.accumulate)
    return min(steps, settings.max_steps) if settings.max_steps else steps


def arguments(bench: Bench, *, rate: float, lora_rate: float, steps: int, save_every: int) -> dict[str, Any]:
    """What every trainer is told. `rate` is the learning rate of full training where none is set, `lora_rate` that of LoRA."""
    settings = bench.settings
    on_gpu = bench.policy.device.type == "cuda"
    return {
        "output_dir": str(bench.run.checkpoints), "seed": settings.seed, "max_steps": steps,
        "gradient_accumulation_steps": settings.accumulate,
        "learning_rate": settings.learning_rate or (lora_rate if settings.lora_rank else rate),
        "warmup_steps": int(_WARMUP * steps), "lr_scheduler_type": "linear", "gradient_checkpointing": False,
        "use_cpu": not on_gpu,
        "bf16": bench.policy.dtype == torch.bfloat16, "dataloader_pin_memory": on_gpu, "logging_steps": 1,
        "logging_nan_inf_filter": False, "save_strategy": "steps", "save_steps": save_every, "save_total_limit": 2,
        "eval_strategy": "no", "report_to": "none", "disable_tqdm": True, "push_to_hub": False,
    }  # fmt: skip


class Quiet:
    """Mixed into TRL's trainers: they tell nobody what is trained here, and write no card; ours is written at the end."""

    def _send_telemetry(self) -> None:
        """Nobody is told."""

    def create_model_card(self, *arguments: Any, **more: Any) -> None:
        """Not theirs."""


def fitted(
    bench: Bench, made: Callable[[TrainerCallback], Any], *, steps: int, line: Callable[[Line], Line],
    tried: Callable[[Any, int], Line] = lambda trainer, step: {}, begin: Callable[[Any, int, Line], None] | None = None,
    together: int = 1,
) -> Line:  # fmt: skip
    """Train the policy, going on from the last whole checkpoint, with a look at its start, its end and every `look_every`.

    `made` makes the trainer, `line` what metrics.jsonl says of what it logs, `tried` what is measured besides where the policy
    is looked at; `begin` is told after which step and line the trainer goes on; `together` steps belong together: there is no
    checkpoint between them. Returns the last line of metrics.
    Raises Cancelled, after a checkpoint, where the run is asked to stop, and ValueError for a loss that is no number.
    """
    checkpoint = last_checkpoint(bench.run.checkpoints)
    done = 0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2])
    curves = Curves(bench.run.folder, after=done)
    bench.before = float(curves.last.get("seconds") or 0.0)
    watch = _Watch(bench, curves, steps, line, tried, begin, together)
    with _forward_kept(bench.policy), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # advice to those who write the trainer
        disable_dropout_in_model(bench.policy.model)
        trainer = made(watch)
        _without_second_adapter(bench.policy.model)
        trainer.remove_callback(PrinterCallback)
        watch.trainer = trainer
        if done:
            say(f"going on after step {done:,} of {steps:,}")
        if done < steps:
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        else:
            trainer._load_from_checkpoint(str(checkpoint))
        bench.policy.model.eval()
    bench.looks.look(bench.policy, steps)
    return watch.last


@contextmanager
def _forward_kept(policy: Policy) -> Iterator[None]:
    """TRL and accelerate put functions of their own over `forward`; afterwards the models are as they were."""
    model = policy.model
    parts = [model, model.get_base_model() if hasattr(model, "get_base_model") else model, policy.start_model]
    before = [part.__dict__.get("forward") for part in parts]
    try:
        yield
    finally:
        for part, forward in zip(parts, before, strict=True):
            part.__dict__.pop("_original_forward", None)
            part.__dict__.pop("forward", None)
            if forward is not None:
                part.forward = forward


def _without_second_adapter(model: Any) -> None:
    """TRL copies an adapter it is given, as the reference; here the reference is the adapter switched off."""
    if hasattr(model, "peft_config") and "ref" in model.peft_config:
        model.delete_adapter("ref")


class _Watch(TrainerCallback):
    """After each step: its line of metrics, a look where one is due, how far the run is, whether it is asked to stop."""

    trainer: Any

    def __init__(
        self, bench: Bench, curves: Curves, steps: int, line: Callable[[Line], Line], tried: Callable[[Any, int], Line],
        begin: Callable[[Any, int, Line], None] | None, together: int,
    ) -> None:  # fmt: skip
        self._bench, self._curves, self._steps, self._line, self._tried = bench, curves, steps, line, tried
        self._begin, self._together, self._cancelled = begin, together, False
        self.last: Line = curves.last

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if hasattr(self.trainer, "_total_train_tokens"):
            self.trainer._total_train_tokens = int(self.last.get("tokens") or 0)
        if self._begin is not None:
            self._begin(self.trainer, state.global_step, self.last)
        if state.global_step == 0:
            line = self._looked(0)
            if not self.last:  # else it was written before the run was stopped
                self._add(0, line)

    def on_log(  # type: ignore[override]  # the trainer always gives what was logged
        self, args: Any, state: Any, control: Any, logs: dict[str, float], **more: Any
    ) -> None:  # fmt: skip
        """The loss of a step is known before its checkpoint is written, so no checkpoint lacks a line."""
        if "loss" not in logs:  # what the trainer says at its end
            return
        step = state.global_step
        loss = check_loss(step, logs, args.learning_rate)
        line = {"loss": loss, "learning_rate": logs["learning_rate"], "gradient": logs.get("grad_norm"), **self._line(logs)}
        every = self._bench.settings.look_every
        if step == self._steps or (every and step % every == 0):
            line |= self._looked(step)
        self._add(step, line)
        words = f"step {step:,} of {self._steps:,}: loss {loss:.4f}"
        if step == self._steps:
            say(words)
        self._tell(step, control, words)

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if self._cancelled:
            raise Cancelled

    def _add(self, step: int, line: Line) -> None:
        self.last = {**line, "seconds": round(self._bench.seconds(), 3)}
        self._curves.add(step, self.last)

    def _looked(self, step: int) -> dict[str, Number]:
        """What the policy answers to held-out prompts, and what it makes of held-out pairs."""
        model = self._bench.policy.model
        training = model.training
        model.eval()
        try:
            found = {**self._bench.looks.look(self._bench.policy, step), **self._tried(self.trainer, step)}
        finally:
            model.train(training)
        return {_HELD_OUT + name.removeprefix(_HELD_OUT): value for name, value in found.items()}

    def _tell(self, step: int, control: Any, words: str) -> None:
        try:
            self._bench.run.tell(min(step, self._steps - 1), self._steps, "steps", words)
        except Cancelled:
            self._cancelled = True
        if self._cancelled and step % self._together == 0:  # once the checkpoint of this very step is written
            control.should_save = True


def mean_over(trainer: Any, rows: list[dict[str, Any]], weight: Callable[[Any], float], names: Mapping[str, str]) -> Line:
    """The trainer's loss on these rows, and what it measures along with it: our name to TRL's. Batches count by `weight`."""
    sums, whole = dict.fromkeys(["loss", *names], 0.0), 0.0
    size = trainer.args.per_device_train_batch_size
    for start in range(0, len(rows), size):
        inputs = trainer._prepare_inputs(trainer.data_collator(rows[start : start + size]))
        share = weight(inputs)
        with torch.no_grad(), trainer.compute_loss_context_manager():
            sums["loss"] += share * float(trainer.compute_loss(trainer.model, inputs))
        for ours, theirs in names.items():
            sums[ours] += share * trainer._metrics["eval"][theirs][-1]
        whole += share
    trainer._metrics["eval"].clear()
    return {name: one / whole for name, one in sums.items()} if whole else {}
