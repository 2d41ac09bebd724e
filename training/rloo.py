"""Trains a policy by REINFORCE leave-one-out (RLOO, arXiv 2402.14740): `python -m training.rloo RUN_FOLDER`.

    input/prompts.parquet     those it answers and learns from, and held-out ones: see training/policy_data.py
    metrics.jsonl             a line a step
    model/                    the policy, with a card
    output/                   samples.jsonl, responses.parquet, and summary.json, which is written last

The trainer is TRL's; responses are sampled by our sampler, whose random numbers hang on the seed and the step alone, and scored
by any reward model. A step that answers prompts is followed by the `passes` that learn from these answers, and a run goes on
from between two of these.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from torch import Tensor
from transformers import TrainerCallback
from trl.trainer.rloo_config import RLOOConfig
from trl.trainer.rloo_trainer import RLOOTrainer
from trl.trainer.utils import add_fused_lm_head

from training import engine, policy_data, policy_job, policy_loop, policy_pairs, rewarding
from training.dead_ends import check_kl, check_words
from training.log_probabilities import positions_of
from training.policies import Policy
from training.policy_job import Bench, Learned
from training.policy_loop import Line, Quiet
from training.policy_settings import Rloo
from training.rloo_rewards import Told, answers_of, scale_of
from training.run import Run
from training.sampling import sampled

_FULL_RATE, _LORA_RATE = 1e-5, 1e-4
_UNPENALISED = 1e-30  # a penalty that changes nothing: without one TRL would not measure KL


def train(run: Run) -> None:
    """The job. What is finished is not done again. Raises ValueError, OSError or MemoryError with a sentence that says why
    it cannot go on."""
    policy_job.train(run, "rloo", Rloo.model_validate(run.config()), _learned)


def _learned(bench: Bench) -> Learned:
    settings, prompts = bench.settings, bench.prompts.train
    assert isinstance(settings, Rloo)
    if not prompts:
        raise ValueError("no prompt to learn from: expected some in prompts.parquet whose use is train")
    order = in_order(len(prompts), settings)
    steps = len(order) // (settings.batch * settings.accumulate) * settings.passes
    steps = min(steps, settings.max_steps) if settings.max_steps else steps
    read = bench.policy.prompts_read([one.turns for one in prompts], settings.max_prompt)
    with rewarding.opened(settings.reward, device=settings.device) as rewarder:
        told = Told(bench, rewarder, prompts, scale_of(bench, rewarder, prompts, read.ids))
        last = policy_loop.fitted(
            bench, lambda watch: _trainer(bench, told, read.ids, order, steps, watch), steps=steps,
            line=lambda logs: _line(logs, told, settings), begin=told.go_on, together=settings.passes,
        )  # fmt: skip
    cut = int(read.truncated.sum())
    notes = [f"{cut:,} prompts were longer than {settings.max_prompt:,} tokens and lost their beginning"] if cut else []
    trained, generated = (int(last.get(name) or 0) for name in ("trained", "tokens"))
    return Learned(steps, trained, generated, policy_data.prompts_hash(prompts), tuple(notes + told.notes()))


def in_order(prompts: int, settings: Rloo) -> list[int]:
    """The places of the prompts in the order they are answered: all of them in each epoch, in an order that hangs on the seed
    and the epoch; the last batch is filled up from the beginning, as TRL drops one that is not full."""
    found = [
        int(place)
        for epoch in range(settings.epochs)
        for place in np.random.default_rng([settings.seed, epoch]).permutation(prompts)
    ]
    size = settings.batch * settings.accumulate
    missing = -len(found) % size
    return found + (found * math.ceil(missing / len(found)))[:missing]


# ---- the trainer


def _trainer(
    bench: Bench, told: Told, asked: Sequence[list[int]], order: Sequence[int], steps: int, watch: TrainerCallback
) -> "_Trainer":  # fmt: skip
    settings, policy = bench.settings, bench.policy
    assert isinstance(settings, Rloo)
    save_every = math.ceil(settings.save_every / settings.passes) * settings.passes
    arguments = policy_loop.arguments(bench, rate=_FULL_RATE, lora_rate=_LORA_RATE, steps=steps, save_every=save_every)
    trainer = _Trainer(
        policy, told, settings, asked, policy.model, told,
        RLOOConfig(
            **arguments, per_device_train_batch_size=settings.batch * settings.drawn, num_generations=settings.drawn,
            max_completion_length=settings.max_tokens, temperature=settings.temperature, num_iterations=settings.passes,
            epsilon=settings.clip, max_grad_norm=settings.max_gradient, shuffle_dataset=False, disable_dropout=True,
            beta=0.0,  # else it would open another reference than the start
        ),
        train_dataset=Dataset.from_dict({"prompt": [str(place) for place in order]}),
        processing_class=policy.tokenizer, callbacks=[watch],
    )  # fmt: skip
    trainer.eos_token_ids = list(policy.stops)
    if policy.start is not None:
        add_fused_lm_head(policy.start, temperature=settings.temperature)
        trainer.ref_model = policy.start
    return trainer


class _Trainer(Quiet, RLOOTrainer):
    """TRL's trainer with our prompts, our sampler, and positions that count tokens. A prompt is its place, as text."""

    def __init__(
        self, policy: Policy, told: Told, settings: Rloo, asked: Sequence[list[int]], *arguments: Any, **more: Any
    ) -> None:
        self._policy, self._told, self._settings, self._asked = policy, told, settings, asked
        super().__init__(*arguments, **more)

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [self._asked[int(place)] for place in prompts], None, {}

    def _generate_single_turn(self, prompt_ids: list[list[int]], *pictures: Any) -> list[list[int]]:
        """Responses to prompts each of which stands there as often as it is to be answered."""
        settings = self._settings
        number = self._step // (settings.accumulate * settings.passes)
        found = sampled(
            self._policy, prompt_ids[:: settings.drawn], samples=settings.drawn, max_tokens=settings.max_tokens,
            temperature=settings.temperature, seed=policy_pairs.seed_of(settings.seed, 1 + number),
            batch_tokens=settings.batch_tokens,
        )  # fmt: skip
        return [list(one.ids) for some in found for one in some]

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        """Answers and what they earn, at the penalty as it stands. Raises ValueError, with nothing learned, for a KL beyond its
        limit, or no number, and where the policy has fallen silent."""
        step, rate = self.state.global_step + 1, self.args.learning_rate
        self.beta = self._told.control.weight or _UNPENALISED
        found = super()._generate_and_score_completions(inputs)
        check_words(self._told.silent, step, self._settings, rate)
        kl, length = (self._metrics["train"][name][-1] for name in ("kl", "completions/mean_length"))
        check_kl(kl * length, step, self._settings, rate)  # from what is logged, TRL leaves a number that is none out
        return found

    def _get_per_token_logps_and_entropies(self, model: Any, *arguments: Any, **more: Any) -> Any:
        """TRL pads prompts on the left and tells no positions: models that learned positions would read others."""
        return super()._get_per_token_logps_and_entropies(_with_positions(model), *arguments, **more)


def _with_positions(model: Any) -> Callable[..., Any]:
    def computed(*, attention_mask: Tensor, **inputs: Any) -> Any:
        return model(attention_mask=attention_mask, position_ids=positions_of(attention_mask), **inputs)

    return computed


def _line(logs: Line, told: Told, settings: Rloo) -> Line:
    """A line of metrics: `reward` is the mean score, `told` what the policy was told of it, `kl` in nats a response, `tokens`
    those sampled so far. Steps that learn once more from the same answers tell nothing of these. The penalty adapts to it."""
    found = {"entropy": logs["entropy"], "clip_fraction": logs["clip_ratio/region_mean"]}
    if "kl" in logs:
        kl, length, tokens = (float(logs[name] or 0.0) for name in ("kl", "completions/mean_length", "num_tokens"))
        found |= {"reward": told.score, "told": logs["reward"], "kl": kl * length, "length": length, "stopped": told.stopped}
        found["kl_weight"] = told.control.weight
        told.control.adapt(kl * length, answers_of(settings))
        told.trained = int(tokens) * settings.passes
    silent = {"silent": told.silent} if told.silent else {}  # for a run that goes on after this step
    return {**found, **silent, "tokens": told.generated, "trained": told.trained}


if __name__ == "__main__":
    engine.main(train)
