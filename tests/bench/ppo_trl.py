"""TRL 1.12's side of the PPO benchmark, run by the Python of another environment: python -P tests/bench/ppo_trl.py CONFIG.json

The config is what tests/bench/ppo.py writes. A line a step goes to its `curve`: step, reward (the mean score), kl (nats a
response to the start, k1), tokens (of responses, so far), seconds and cpu (of steps, so far, by the clock and of all cores).
Policies go to `saved`/STEP.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any


def main(config: dict[str, Any]) -> None:
    """Train as the config says."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging
    from trl.experimental.ppo import PPOTrainer

    logging.disable_progress_bar()
    told = config["settings"]
    tokenizer = AutoTokenizer.from_pretrained(config["start"], padding_side="left")
    start: Any = {"dtype": torch.float32}
    policy, reference = (AutoModelForCausalLM.from_pretrained(config["start"], **start) for _ in range(2))
    scorer = AutoModelForSequenceClassification.from_pretrained(config["reward"], num_labels=1, **start)
    value = AutoModelForSequenceClassification.from_pretrained(config["start"], num_labels=1, **start)
    torch.nn.init.zeros_(value.score.weight)
    for model in (policy, reference, scorer, value):
        model.config.pad_token_id = tokenizer.pad_token_id
    policy.generation_config.pad_token_id = tokenizer.pad_token_id
    trainer = PPOTrainer(
        args=arguments(told, config["folder"], len(config["prompts"])),
        processing_class=tokenizer,
        model=policy,
        ref_model=reference,
        reward_model=scorer,
        value_model=value,
        train_dataset=_dataset(config["prompts"]),
        callbacks=[_watching(config, tokenizer)],
    )
    trainer.train()


def arguments(told: dict[str, Any], folder: str, prompts: int) -> Any:
    """Our settings in TRL's words.

    One batch is the whole rollout: with gradient accumulation TRL steps once for all minibatches of a pass. max_grad_norm is
    given, and not applied by it.
    """
    from trl.experimental.ppo import PPOConfig

    return PPOConfig(
        output_dir=folder, use_cpu=told["device"] == "cpu", bf16=False, gradient_checkpointing=False, report_to="none",
        save_strategy="no", eval_strategy="no", num_sample_generations=0, disable_tqdm=True, logging_steps=1,
        seed=told["seed"], learning_rate=told["learning_rate"], lr_scheduler_type="linear", warmup_steps=0, adam_epsilon=1e-5,
        weight_decay=0.0, max_grad_norm=told["max_gradient"], total_episodes=told["max_steps"] * told["batch"],
        per_device_train_batch_size=told["batch"], gradient_accumulation_steps=1, num_mini_batches=told["minibatches"],
        local_rollout_forward_batch_size=told["batch"], num_ppo_epochs=told["passes"], response_length=told["max_tokens"],
        temperature=told["temperature"], stop_token="eos", missing_eos_penalty=None, kl_coef=told["kl"], kl_estimator="k1",
        cliprange=told["clip"], cliprange_value=told["value_clip"], vf_coef=told["value_weight"], gamma=told["discount"],
        lam=told["trace"], whiten_rewards=told["whiten"],
    )  # fmt: skip


def _dataset(prompts: list[list[int]]) -> Any:
    from datasets import Dataset

    return Dataset.from_dict({"input_ids": prompts})


def _watching(config: dict[str, Any], tokenizer: Any) -> Any:
    """A callback that writes the curve and saves policies, neither of which counts as time of a step."""
    from transformers import TrainerCallback
    from trl.experimental.ppo import ppo_trainer

    plain, counted = ppo_trainer.batch_generation, {"tokens": 0}

    def counting(model: Any, queries: Any, *others: Any) -> Any:
        answered, logits = plain(model, queries, *others)
        responses = answered[:, queries.shape[1] :]
        ended = (responses == tokenizer.eos_token_id).cumsum(1) - (responses == tokenizer.eos_token_id).long()
        counted["tokens"] += int((ended == 0).sum())  # up to the first end, which counts
        return answered, logits

    ppo_trainer.batch_generation = counting

    class Watching(TrainerCallback):
        """Writes a line a step."""

        def __init__(self) -> None:
            self.took, self.began, self.metrics = (0.0, 0.0), (0.0, 0.0), {}

        def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            self.began = _now()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
            self.metrics = dict(logs)

        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **others: Any) -> None:
            now = _now()
            self.took = tuple(so_far + end - begin for so_far, end, begin in zip(self.took, now, self.began, strict=True))
            line = {
                "step": state.global_step, "reward": self.metrics["objective/scores"], "kl": self.metrics["objective/kl"],
                "tokens": counted["tokens"], "seconds": self.took[0], "cpu": self.took[1],
            }  # fmt: skip
            with Path(config["curve"]).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            if state.global_step in config["save_at"]:
                model.policy.save_pretrained(Path(config["saved"], str(state.global_step)))
                tokenizer.save_pretrained(Path(config["saved"], str(state.global_step)))
            self.began = _now()

    return Watching()


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
