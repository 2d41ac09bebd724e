"""RLOO on TRL's trainer: it learns, its numbers are those computed by hand, a stopped run ends as another."""

import dataclasses
import json
import re
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.policy_runs import (
    LENGTH,
    QUICK,
    Stopped,
    check_same,
    curve,
    lines_of,
    little_to_collect,
    new_run,
    prompts_of,
    stopped_and_resumed,
    summary_of,
    trained,
)
from tests.tiny_models import tiny_causal, tiny_tokenizer
from training import policies, policy_card, policy_pairs, rloo, rloo_rewards
from training.log_probabilities import log_probs
from training.looks import Looks
from training.policy_data import Prompts
from training.policy_job import Bench
from training.policy_settings import Rloo
from training.rewarding import Rewarder
from training.rewards.base import Scores
from training.rloo_rewards import Scale, Told, rewards_of
from training.run import Cancelled
from training.sampling import sampled

TO_STOP = {  # answers are not all told the same, and the penalty on KL is another after each step
    "batch": 2, "accumulate": 2, "passes": 2, "epochs": 2, "look_every": 3, "save_every": 3, "seed": 5,
    "missing_stop": "score", "kl": 0.1, "kl_target": 0.5, "kl_horizon": 20, "kl_limit": 1e6,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def collected():
    with little_to_collect():
        yield


@pytest.fixture(scope="module")
def base(tiny):
    return tiny


def settings_of(base, **changed):
    told = {"policy": "rewarded", "base": str(base), "reward": LENGTH, "drawn": 3, **QUICK}
    return Rloo(**{**told, **changed})


def run_of(folder, base, *, prompts, **changed):
    return new_run(folder, "rloo", settings_of(base, **changed), prompts=prompts)


@pytest.mark.parametrize("rank", [0, 8])
def test_the_reward_rises(tmp_path, base, rank):
    run = run_of(
        tmp_path / "run", base, prompts=prompts_of(8, 4), batch=8, drawn=6, epochs=10, kl=0.0, missing_stop="score",
        lora_rank=rank, learning_rate=3e-2 if rank else 5e-3, samples=4,
    )  # fmt: skip
    trained(run)
    rewards, spread = curve(run, "reward"), float(summary_of(run)["notes"][0].rpartition("sd ")[2])
    assert np.mean(rewards[-4:]) > np.mean(rewards[:2]) + 1.0 * spread
    first, last = summary_of(run)["points"]
    assert last["scores"]["characters"] > first["scores"]["characters"] + 1.0 * spread
    assert last["kl"] > 1.0
    assert (first["kl"], first["n"]) == (0.0, 16)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])  # with positions that are learned, padding must not count as one
def test_a_step_tells_what_its_answers_say_when_they_are_read_one_by_one(tmp_path, kind):
    base = tmp_path / "base"
    tiny_tokenizer(base)
    tiny_causal(base, kind=kind)
    prompts = prompts_of(6, 0)
    settings = settings_of(base, batch=3, lora_rank=0, save_every=1, temperature=0.8, missing_stop="score", normalise=False)
    run = new_run(tmp_path / "run", "rloo", settings, prompts=prompts)
    with pytest.raises(Cancelled):
        trained(Stopped(run.folder, at="step 1 of 2"))
    policy, start = policies.opened(str(run.checkpoints / "checkpoint-1")), policies.opened(str(base))
    asked = [prompts.train[place].turns for place in rloo.in_order(6, settings)[3:]]
    ids = policy.prompt_ids(asked, settings.max_prompt)
    assert len({len(one) for one in ids}) == 3
    run.stop.unlink()
    trained(run)
    line = lines_of(run)[2]
    answers = sampled(policy, ids, samples=3, max_tokens=6, temperature=0.8, seed=policy_pairs.seed_of(0, 2))
    read = [
        (log_probs(policy.model, [one], [said.ids], pad=policy.pad, temperature=0.8)[0]
         - log_probs(start.model, [one], [said.ids], pad=start.pad, temperature=0.8)[0]).sum().item()
        for one, some in zip(ids, answers, strict=True) for said in some
    ]  # fmt: skip
    flat = [said for some in answers for said in some]
    assert line["kl"] == pytest.approx(np.mean(read), abs=1e-4)
    assert abs(line["kl"]) > 0.01
    assert line["length"] == pytest.approx(np.mean([len(one.ids) for one in flat]))
    assert [line["reward"], line["told"]] == pytest.approx([np.mean([len(policy.text(one.ids)) for one in flat])] * 2, rel=1e-6)
    assert line["stopped"] == pytest.approx(np.mean([one.stopped for one in flat]))


def test_rloo_that_was_stopped_ends_as_if_it_had_not_been(tmp_path, base):
    prompts = prompts_of(6, 3)  # an epoch and a half of steps: the second epoch begins within a step
    whole = trained(run_of(tmp_path / "whole", base, prompts=prompts, **TO_STOP))
    for at, done in (("step 3 of 6", 4), ("measuring the scale", 0)):
        broken = run_of(tmp_path / at, base, prompts=prompts, **TO_STOP)
        reached = stopped_and_resumed(broken, at)
        assert reached == (done + 1 if done else 0)  # answers are learned from twice: it stops after an even step
        check_same(broken, whole)
        assert curve(whole, "kl")[-1] != 0.0
        assert (broken.output / "samples.jsonl").read_text() == (whole.output / "samples.jsonl").read_text()


def test_a_few_answers_of_a_step_are_written_down(tmp_path, base):
    prompts = prompts_of(6, 0)
    run = trained(run_of(tmp_path / "run", base, prompts=prompts, batch=3, missing_stop="score"))
    shown = [json.loads(line) for line in (run.output / "samples.jsonl").read_text().splitlines()]
    assert [one["step"] for one in shown] == [1, 1, 1, 2, 2, 2]
    assert Counter(json.dumps(one["prompt"]) for one in shown) == Counter(
        json.dumps([list(turn) for turn in one.turns]) for one in prompts.train
    )
    assert all(one["reward"] == len(one["response"]) for one in shown)
    text = (run.folder / "model" / "README.md").read_text()
    assert policy_card.code_version() in text
    assert "brought to mean 0 and sd 1" in text


def test_every_prompt_is_answered_once_an_epoch_and_the_last_batch_is_filled_up():
    settings = settings_of("x", batch=4, accumulate=2, epochs=3, seed=1)
    order = rloo.in_order(5, settings)
    assert len(order) == 16
    assert [sorted(order[first : first + 5]) for first in (0, 5, 10)] == [[0, 1, 2, 3, 4]] * 3
    assert order[15:] == order[:1]
    assert order[:5] != order[5:10]
    assert order != rloo.in_order(5, settings.model_copy(update={"seed": 2}))
    assert rloo.in_order(1, settings_of("x", batch=4)) == [0, 0, 0, 0]


def test_rewards_are_on_the_scale_of_the_start_and_a_cut_answer_gets_the_fixed_one():
    scores, stopped = np.array([10.0, 14.0, 6.0]), [True, True, False]
    scale = Scale(mean=10.0, spread=2.0)
    penalised = rewards_of(scores, stopped, settings_of("x", no_stop=-1.5), scale)
    assert penalised.tolist() == [0.0, 2.0, -1.5]
    assert rewards_of(scores, stopped, settings_of("x", missing_stop="score"), scale).tolist() == [0.0, 2.0, -2.0]
    assert rewards_of(scores, stopped, settings_of("x", missing_stop="score"), Scale()).tolist() == [10.0, 14.0, 6.0]


def bench_of(tmp_path, base, prompts, **changed):
    settings = settings_of(base, **changed)
    run = new_run(tmp_path / "run", "rloo", settings, prompts=prompts)
    return Bench(run, settings, policies.opened(str(base)), Looks(run, settings, []), prompts)


def test_the_scale_is_that_of_answers_of_the_start_and_measured_once(tmp_path, base):
    prompts = prompts_of(9, 0)
    bench, rewarder = bench_of(tmp_path, base, prompts), Rewarder(LENGTH)
    policy = bench.policy
    asked = policy.prompt_ids([one.turns for one in prompts.train], 48)
    said = sampled(policy, asked, samples=1, max_tokens=6, temperature=1.0, seed=policy_pairs.seed_of(0, 0))
    sizes = [len(policy.text(one.ids)) for (one,) in said]
    found = rloo_rewards.scale_of(bench, rewarder, prompts.train, asked)
    assert found == pytest.approx((np.mean(sizes), np.std(sizes)))
    assert rloo_rewards.scale_of(bench, rewarder, prompts.train[:1], asked[:1]) == found
    assert np.mean(sizes) > 1


def test_where_every_answer_of_a_step_is_cut_the_run_says_that_the_reward_model_is_not_heard(tmp_path, base, capsys):
    run = trained(run_of(tmp_path / "run", base, prompts=prompts_of(4, 0), batch=2, max_tokens=1, no_stop=-2.0))
    said = [line for line in capsys.readouterr().out.splitlines() if "no answer ended within 1 tokens" in line]
    assert len(said) == 1
    assert said[0].startswith("step 1: no answer ended within 1 tokens (max_tokens): each was told -2 (no_stop)")
    assert summary_of(run)["notes"][-1].startswith("in 2 of 2 steps no answer ended")


def test_steps_without_a_word_are_counted_until_one_is_said(tmp_path, base):
    prompts = prompts_of(2, 0)
    bench = bench_of(tmp_path, base, prompts)
    told = Told(bench, Rewarder(LENGTH), prompts.train, Scale())
    stop, word = bench.policy.stops[0], bench.policy.tokenizer("dog", add_special_tokens=False)["input_ids"]
    state = SimpleNamespace(global_step=6)
    counted = []
    for said in ([stop], [stop], [*word, stop], [stop]):
        assert told(prompts=["0", "1"], completion_ids=[[stop], said], trainer_state=state) == [0.0, 3.0 * (len(said) > 1)]
        counted.append(told.silent)
    assert counted == [1, 2, 0, 1]


def learner(tmp_path, base, policy, **changed):
    """What learns in a run of this policy, and its run."""
    settings, prompts = settings_of(base, lora_rank=0, batch=2, **changed), prompts_of(4, 0)
    run = new_run(tmp_path / "run", "rloo", settings, prompts=prompts)
    return lambda: rloo._learned(Bench(run, settings, policy, Looks(run, settings, []), prompts)), run


def test_a_policy_that_falls_silent_stops_it_with_the_words_of_ppo_also_after_a_stop(tmp_path, base):
    policy = policies.opened(str(base), trainable=True)
    every = tuple(range(policy.model.get_input_embeddings().weight.shape[0]))
    learn, run = learner(
        tmp_path, base, dataclasses.replace(policy, stops=every), epochs=9, passes=2, max_steps=4, save_every=4
    )
    learn()
    assert [line.get("silent") for line in lines_of(run)] == [None, 1, 1, 2, 2]
    last = lines_of(run)[-1]
    said = (
        "every response of the last 3 steps, up to step 5, is empty: expected words. The reward model may prefer silence; a "
        r"higher kl than 0\.05 or a lower learning_rate than 0\.01 holds the policy closer to its start"
    )
    longer = settings_of(base, lora_rank=0, batch=2, epochs=9, passes=2, save_every=4)
    again = Bench(run, longer, dataclasses.replace(policy, stops=every), Looks(run, longer, []), prompts_of(4, 0))
    with pytest.raises(ValueError, match=said):
        rloo._learned(again)
    assert lines_of(run)[-1] == last


@pytest.mark.parametrize("told", [{"kl_limit": 0.5}, {"kl_limit": 0.0, "kl_target": 0.05}])
def test_a_kl_beyond_its_limit_stops_it_with_the_words_of_ppo(tmp_path, base, told):
    run = run_of(
        tmp_path / "run", base, prompts=prompts_of(4, 0), batch=4, epochs=40, learning_rate=0.1, kl=0.01, lora_rank=0,
        missing_stop="score", max_tokens=16, **told,
    )  # fmt: skip
    said = (
        r"the KL from the start is [\d.]+ nats a response at step (\d+): expected at most 0\.5 \(kl_limit\)\. "
        r"A lower learning_rate than 0\.1 or a higher kl than 0\.01 may hold it"
    )
    with pytest.raises(ValueError, match=said) as found:
        trained(run)
    (step,) = re.search(r"step (\d+)", str(found.value)).groups()
    assert lines_of(run)[-1]["step"] == int(step) - 1  # nothing was learned from these answers
    assert max(curve(run, "kl")) <= 0.5


@pytest.mark.parametrize("passes", [1, 2])
def test_a_kl_that_is_no_number_stops_it(tmp_path, base, passes):
    policy = policies.opened(str(base), trainable=True)
    with torch.no_grad():
        policy.start.get_input_embeddings().weight.fill_(float("nan"))
    learn, run = learner(tmp_path, base, policy, passes=passes)
    with pytest.raises(ValueError, match=r"the KL from the start is nan nats a response at step 1: expected at most 50"):
        learn()
    assert [line["step"] for line in lines_of(run)] == [0]


def test_a_reward_that_is_no_number_stops_it_and_names_the_answer(tmp_path, base):
    prompts = prompts_of(2, 0)
    bench = bench_of(tmp_path, base, prompts)
    rewarder = Rewarder(LENGTH)
    rewarder._scorer = SimpleNamespace(score=lambda prompts, responses: Scores(np.array([1.0, np.nan]), 0, 0))
    told = Told(bench, rewarder, prompts.train, Scale())
    word = bench.policy.tokenizer("dog", add_special_tokens=False)["input_ids"]
    with pytest.raises(ValueError, match="characters gave nan for 'dog': expected a number"):
        told(prompts=["0", "1"], completion_ids=[word, word], trainer_state=SimpleNamespace(global_step=0))


def test_the_penalty_adapts_to_the_kl_that_is_measured(tmp_path, base):
    whole = trained(run_of(tmp_path / "whole", base, prompts=prompts_of(6, 3), **TO_STOP))
    weights = [0.1]
    for kl in curve(whole, "kl"):
        weights.append(weights[-1] * (1 + min(max(kl / 0.5 - 1, -0.2), 0.2) * 12 / 20))
    assert curve(whole, "kl_weight") == pytest.approx(weights[:-1])
    assert len(set(weights)) == 4
    fixed = trained(run_of(tmp_path / "fixed", base, prompts=prompts_of(6, 3), **{**TO_STOP, "kl_target": 0.0}))
    assert curve(fixed, "kl_weight") == [0.1] * 3
    assert curve(fixed, "kl")[:2] == curve(whole, "kl")[:2]  # the first answers were penalised alike
    assert [line["loss"] for line in lines_of(fixed)[3:]] != [line["loss"] for line in lines_of(whole)[3:]]


def test_without_a_prompt_to_learn_from_it_says_so(tmp_path, base):
    run = run_of(tmp_path / "run", base, prompts=Prompts([], prompts_of(0, 2).held_out))
    with pytest.raises(ValueError, match="no prompt to learn from"):
        trained(run)
