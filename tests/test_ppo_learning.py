"""PPO learns, and the KL stays where it is told to: a tiny policy is paid for a letter, three seeds."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_models import tiny_causal, tiny_tokenizer
from training.policies import opened
from training.policy_settings import Ppo
from training.ppo_loop import learn
from training.rewards.base import Message

TOKENS = 12
PROMPTS = [(Message("user", text),) for text in ("the fox", "a dog", "bread", "water", "salt", "how?", "quick", "lazy")] * 8


class Counting:
    """How many of a response's tokens hold an o: each has at most one, so 1 is the most there is."""

    def scores(self, prompts, texts):
        return np.array([text.count("o") / TOKENS for text in texts])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = Path(tmp_path_factory.mktemp("base"))
    tokenizer = tiny_tokenizer(folder)
    assert max(tokenizer.decode([token]).count("o") for token in range(len(tokenizer))) == 1
    tiny_causal(folder, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    return folder


def lines_of(base, *, stops=True, **settings):
    told = Ppo(
        policy="taught", base=str(base), reward={"name": "letters", "family": "length"}, max_prompt=32, max_tokens=TOKENS,
        batch=32, epochs=100, max_steps=60, lora_rank=0, learning_rate=1e-2, missing_stop="score", **settings,
    )  # fmt: skip
    policy = opened(told.base, trainable=True)
    if not stops:  # a policy that ends early spends no KL, which is another lesson than the one here
        policy = dataclasses.replace(policy, stops=())
    lines = []
    learn(policy, Counting(), PROMPTS, told, watch=lambda _, line: lines.append(line))
    return lines


def mean(lines, name):
    return float(np.mean([line[name] for line in lines]))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_reward_that_counts_a_token_rises_to_within_a_tenth_of_its_maximum_under_a_loose_kl(base, seed):
    lines = lines_of(base, seed=seed, kl=0.0003, kl_limit=1000)
    assert lines[0]["reward"] < 0.1
    assert mean(lines[-5:], "reward") > 0.9
    assert lines[-1]["entropy"] < lines[0]["entropy"] / 2
    assert mean(lines[-5:], "explained_variance") > 0.5


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_under_adaptive_control_the_kl_stays_within_a_fifth_of_its_target(base, seed):
    lines = lines_of(base, stops=False, seed=seed, passes=2, kl=0.5, kl_target=10, kl_horizon=150)
    assert mean(lines[-20:], "kl") == pytest.approx(10, rel=0.2)
    assert 2 * mean(lines[:3], "reward") < mean(lines[-20:], "reward") < 0.6  # it learned as much as the KL allows


@pytest.mark.slow
def test_a_heavier_penalty_keeps_the_policy_closer_and_poorer(base):
    light, heavy = (lines_of(base, stops=False, seed=0, passes=2, kl=kl, kl_limit=1000) for kl in (0.1, 2.0))
    assert mean(heavy[-10:], "kl") < 0.5 * mean(light[-10:], "kl")
    assert mean(heavy[-10:], "reward") < mean(light[-10:], "reward")
