"""PPO for language models: each thing a correct one has (FACTS.md), that a run goes on to the same numbers, and stops with a
word where there is nothing to go on to."""

import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.tiny_models import tiny_causal, tiny_classifier, tiny_tokenizer
from training import curves, losses, policy_answers, policy_data, ppo, ppo_checkpoints, processes
from training.dead_ends import check_kl
from training.log_probabilities import aligned, log_probs
from training.policies import opened
from training.policy_data import Prompt, Prompts
from training.policy_settings import Ppo
from training.ppo_learner import Learner
from training.ppo_loop import learn
from training.ppo_reading import read
from training.ppo_rollout import Answers, Scale, answered, drawn, laid_out, rolled_out, steps_of, told
from training.processes import ALONE, Processes
from training.rewarding import Rewarder
from training.rewards.base import Message
from training.run import Cancelled, Run
from training.value_head import ValueHead

SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
LENGTH = {"name": "length", "family": "length"}
TURNS = [(Message("user", text),) for text in ("a", "the quick brown fox", "how do I make bread?", "dog", "salt and water",
                                               "which response is better?", "the lazy dog jumps", "flour")]  # fmt: skip
QUICK = {"max_prompt": 40, "max_tokens": 8, "batch": 8, "learning_rate": 1e-3, "lora_rank": 0, "kl_limit": 1e6}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = Path(tmp_path_factory.mktemp("base")) / "tiny"
    tiny_tokenizer(folder)
    tiny_causal(folder, **SMALL)
    return folder


def settings_of(base, **changed):
    return Ppo(**{"policy": "taught", "base": str(base), "reward": LENGTH, **QUICK, **changed})


def policy_of(settings):
    return opened(settings.base, lora_rank=settings.lora_rank, trainable=True, seed=settings.seed)


class Counting:
    """How often a letter is in a text; it remembers what it was given."""

    def __init__(self, letter="o"):
        self.letter, self.seen = letter, []

    def scores(self, prompts, texts):
        self.seen += list(zip(prompts, texts, strict=True))
        return np.array([float(text.count(self.letter)) for text in texts])


def learner_of(base, rewarder=None, turns=TURNS, **changed):
    settings = settings_of(base, **changed)
    return Learner(policy_of(settings), rewarder or Counting(), turns, settings)


def answers_of(policy, said, turns=TURNS, stopped=None):
    """Answers of these ids, as if they had been sampled."""
    some = list(turns[: len(said)])
    ended = np.array([ids[-1] in policy.stops for ids in said] if stopped is None else stopped)
    texts = [policy.text(ids) for ids in said]
    return Answers(some, policy.prompt_ids(some, 40), said, ended, texts, np.arange(1.0, len(said) + 1))


def rollout_of(learner, said, scores=None, *, kl=0.0, **changed):
    settings = learner.settings.model_copy(update={"whiten": False, **changed})
    answers = answers_of(learner.policy, said)
    worth = answers.scores if scores is None else np.array(scores)
    return answers, rolled_out(learner.policy, learner.head, answers, worth, settings, kl=kl, share=ALONE)


def weights_of(learner):
    return {name: one.detach().clone() for name, one in learner.trained.items()}


def furthest(one, other):
    return max(float((one[name] - other[name]).abs().max()) for name in one)


# ---- padding, positions, temperature, dropout


@pytest.fixture(scope="module")
def padded_with_eos(tmp_path_factory):
    folder = Path(tmp_path_factory.mktemp("base")) / "eos"
    tokenizer = tiny_tokenizer(folder, pad="")
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(folder)
    tiny_causal(folder, **SMALL)
    return folder


def test_where_padding_is_eos_the_score_sits_on_the_stop_token_and_the_mask_counts_it(padded_with_eos):
    learner = learner_of(padded_with_eos)
    policy = learner.policy
    assert policy.pad not in policy.stops
    stop = policy.tokenizer.eos_token_id
    assert stop in policy.stops
    _, found = rollout_of(learner, [[70, 71, stop], [72, stop], [73, 74, 75, 76, 77]], [5.0, 6.0, 7.0])
    assert found.mask.sum(1).tolist() == [3, 2, 5]
    assert found.rewards.tolist() == [[0, 0, 5, 0, 0], [0, 6, 0, 0, 0], [0, 0, 0, 0, 7]]


def test_a_padding_token_inside_a_response_is_a_token_like_any_other(base):
    learner = learner_of(base)
    pad = learner.policy.pad
    _, found = rollout_of(learner, [[70, pad, 71, pad], [72]], [5.0, 6.0])
    assert found.mask.tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]
    alone = read(learner.policy.model, aligned([learner.policy.prompt_ids(TURNS[:1], 40)[0]], [[70, pad, 71, pad]], pad=0,
                 device=learner.policy.device), temperature=1.0)  # fmt: skip
    torch.testing.assert_close(found.log_probs[0], alone.log_probs[0].detach(), atol=1e-5, rtol=1e-5)


def test_what_is_read_of_a_response_does_not_change_with_what_stands_beside_it(base):
    learner = learner_of(base)
    torch.nn.init.normal_(learner.head.weight)
    policy, said = learner.policy, [[70, 71], [72, 73, 74, 75, 76, 77], [78]]
    answers = answers_of(policy, said)
    together = read(policy.model, laid_out(policy, answers, [0, 1, 2]), temperature=1.0, head=learner.head, entropy=True)
    for place, ids in enumerate(said):
        alone = read(policy.model, laid_out(policy, answers, [place]), temperature=1.0, head=learner.head, entropy=True)
        for one, other in zip(together, alone, strict=True):
            torch.testing.assert_close(one[place, : len(ids)], other[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("lora_rank", [0, 4])
def test_old_log_probabilities_are_those_of_a_fresh_forward_pass_at_the_temperature(base, temperature, lora_rank):
    learner = learner_of(base, temperature=temperature, lora_rank=lora_rank, learning_rate=1e-2)
    learner.step()  # another policy than the start
    said = [[70, 71, 72, 73], [74, 75]]
    answers, found = rollout_of(learner, said)
    start = AutoModelForCausalLM.from_pretrained(base)
    policy = learner.policy
    fresh = log_probs(policy.model, answers.asked, said, pad=policy.pad, temperature=temperature)
    for place, (asked, ids) in enumerate(zip(answers.asked, said, strict=True)):
        with torch.no_grad():
            both = torch.tensor([[*asked, *ids]])
            ours, theirs = (
                losses.token_log_probs(model(input_ids=both).logits, both, temperature=temperature)[0, len(asked) - 1 :]
                for model in (policy.model, start)
            )
        torch.testing.assert_close(found.log_probs[place, : len(ids)], ours, atol=1e-5, rtol=0)
        torch.testing.assert_close(found.log_probs[place, : len(ids)], fresh[place], atol=1e-5, rtol=0)
        torch.testing.assert_close(found.log_ratio[place, : len(ids)], ours - theirs, atol=2e-5, rtol=0)
    assert float(found.log_ratio.abs().max()) > 1e-3


def test_nothing_is_dropped_out_and_the_first_ratio_is_exactly_one(tmp_path):
    tiny_tokenizer(tmp_path)
    tiny_causal(tmp_path, **SMALL, attention_dropout=0.5)
    learner = learner_of(tmp_path, passes=1)
    learner.begin()
    found = learner.step()
    assert (found["approx_kl"], found["clip_fraction"]) == (0.0, 0.0)
    assert not learner.policy.model.training
    assert learner_of(tmp_path, passes=2, learning_rate=1e-2).step()["approx_kl"] > 0


# ---- sampling and what the reward model is given


def test_responses_are_sampled_from_all_tokens_whatever_the_models_own_settings_say(base, tmp_path):
    folder = tmp_path / "greedy"
    shutil.copytree(base, folder)
    (folder / "generation_config.json").write_text(
        json.dumps({"do_sample": True, "top_k": 1, "top_p": 0.01, "temperature": 0.1})
    )
    learner = learner_of(folder)
    found = answered(
        learner.policy, Counting(), [TURNS[0]] * 64, learner.settings, seed=(0,), share=ALONE
    )  # fmt: skip
    assert len({ids[0] for ids in found.said}) > 30


def test_the_reward_model_is_given_texts_cut_at_the_stop_token_and_a_response_without_one_a_fixed_score(base):
    rewarder = Counting()
    learner = learner_of(base, rewarder, turns=TURNS * 4, batch=32, max_tokens=60)
    found = answered(learner.policy, rewarder, TURNS * 4, learner.settings, seed=(1,), share=ALONE)
    assert {0, 1} == set(found.stopped.astype(int))
    assert rewarder.seen == list(zip(TURNS * 4, found.texts, strict=True))
    for ids, text, stopped in zip(found.said, found.texts, found.stopped, strict=True):
        own = ids[:-1] if stopped else ids
        assert (ids[-1] in learner.policy.stops) == stopped
        assert not set(own) & set(learner.policy.stops)
        assert text == learner.policy.tokenizer.decode(own, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    scale = Scale(2.0, 4.0)
    expected = (found.scores - 2) / 4
    np.testing.assert_allclose(
        told(found, learner.settings, scale), np.where(found.stopped, expected, -1.0)
    )  # fmt: skip
    np.testing.assert_allclose(told(found, settings_of(base, missing_stop="score"), scale), expected)
    np.testing.assert_allclose(told(found, settings_of(base, no_stop=-3.0), scale)[~found.stopped], -3.0)


def test_scores_of_the_start_have_mean_nought_and_spread_one(base):
    rewarder = Counting()
    learner = learner_of(base, rewarder, missing_stop="score", turns=TURNS * 3)
    learner.begin()
    raw = np.array([float(text.count("o")) for _, text in rewarder.seen])
    assert len(raw) == 24
    assert learner.scale == pytest.approx((raw.mean(), raw.std()))
    plain = learner_of(base, rewarder, normalise=False)
    plain.begin()
    assert plain.scale == (0.0, 1.0)
    assert len(rewarder.seen) == 24  # nothing was measured


def test_policy_and_reward_model_have_tokenizers_and_templates_of_their_own(base, tmp_path):
    folder = tmp_path / "rewards"
    own = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}{{ eos_token }}{% endfor %}"
    theirs = tiny_tokenizer(folder, chat_template=own, bos="", eos="[END]", pad="[PAD]", adds="")
    tiny_classifier(folder, seed=7, hidden_size=48, pad_token_id=theirs.pad_token_id)
    named = {"name": "judge", "family": "classifier", "settings": {"source": str(folder)}}
    settings = settings_of(base, reward=named)
    rewarder = Rewarder(settings.reward)
    policy = policy_of(settings)
    learner = learn(policy, rewarder, TURNS, settings)
    found = learner.answers
    assert policy.tokenizer.eos_token != theirs.eos_token
    classifier = rewarder.scorer
    expected = classifier.score(found.prompts, [(Message("assistant", text),) for text in found.texts]).values
    np.testing.assert_allclose(found.scores, expected, atol=1e-5)
    ids, _ = classifier.encode(found.prompts[:1], [(Message("assistant", "dog"),)])
    assert theirs.decode(ids[0]).endswith("assistant: dog[END]")
    assert len(set(found.scores.round(4))) > 3


# ---- what each token earned


def test_a_response_earns_its_score_less_the_kl_it_spent(base):
    learner = learner_of(base, learning_rate=1e-2)
    learner.step()
    _, found = rollout_of(learner, [[70, 71, 72], [73]], [2.0, -1.0], kl=0.5)
    spent = found.log_ratio.sum(1)
    torch.testing.assert_close(found.rewards.sum(1), torch.tensor([2.0, -1.0]) - 0.5 * spent)
    assert float(spent.abs().min()) > 1e-4


def test_rewards_are_whitened_keeping_their_mean_and_advantages_to_mean_nought(base):
    learner = learner_of(base)
    torch.nn.init.normal_(learner.head.weight, std=0.1)
    scores, said = [2.0, -1.0, 4.0], [[70, 71, 72], [73], [74, 75]]
    _, plain = rollout_of(learner, said, scores)
    _, found = rollout_of(learner, said, scores, whiten=True)
    scaled = losses.whitened(plain.rewards, plain.mask, shift=False)
    advantages, returns = losses.gae(scaled, plain.values, plain.mask, discount=1.0, trace=0.95)
    torch.testing.assert_close(found.returns, returns)
    torch.testing.assert_close(found.advantages, losses.whitened(advantages, plain.mask))
    assert float(losses.masked_mean(found.advantages, found.mask)) == pytest.approx(0.0, abs=1e-6)
    assert float(losses.masked_variance(found.advantages, found.mask)) == pytest.approx(1.0, abs=1e-4)
    assert float((found.advantages * (1 - found.mask)).abs().max()) == 0.0
    torch.testing.assert_close(plain.rewards.sum(1), torch.tensor(scores))  # what is told is before whitening


def test_statistics_are_over_response_tokens_alone(base):
    learner = learner_of(base, max_tokens=60)
    learner.begin()
    numbers = learner.step()
    said = learner.answers
    policy = policy_of(learner.settings)  # as it was when it answered
    alone = [
        read(policy.model, laid_out(policy, said, [place]), temperature=1.0, entropy=True).entropy[0]
        for place in range(len(said.said))
    ]
    assert len(set(said.lengths)) > 1
    assert numbers["entropy"] == pytest.approx(float(torch.cat(alone).mean()), abs=1e-4)
    assert numbers["length"] == np.mean(said.lengths)
    assert numbers["tokens"] == learner.tokens["generated"]
    assert numbers["kl"] == 0.0  # it is the start still


# ---- the value head


def test_the_value_head_begins_at_nought_or_as_the_reward_models(base, tmp_path):
    learner = learner_of(base)
    assert not learner.head.weight.any()
    assert not learner.head.bias.any()
    tiny_tokenizer(tmp_path / "fits")
    made = tiny_classifier(tmp_path / "fits", **SMALL)
    named = {"name": "fits", "family": "classifier", "settings": {"source": str(tmp_path / "fits")}}
    settings = settings_of(base, reward=named, value_from="reward")
    learner = Learner(policy_of(settings), Rewarder(settings.reward), TURNS, settings)
    learner.begin()
    mean, spread = learner.scale
    state = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(learner.head(state), ((state @ made.score.weight.detach().T)[:, 0] - mean) / spread)


def test_a_reward_model_of_another_shape_gives_no_value_head(base, tmp_path):
    tiny_tokenizer(tmp_path)
    tiny_classifier(tmp_path)
    named = {"name": "wide", "family": "classifier", "settings": {"source": str(tmp_path)}}
    for reward, has in ((named, "one of 64 numbers to 1"), (LENGTH, "none that reads a decoder's hidden state")):
        settings = settings_of(base, reward=reward, value_from="reward")
        learner = Learner(policy_of(settings), Rewarder(settings.reward), TURNS, settings)
        with pytest.raises(ValueError, match=f"reward model's, which has {has}: expected 32 numbers to 1.*value_from=zero"):
            learner.begin()


def test_a_value_is_that_before_its_token(base):
    head = ValueHead(32, torch.device("cpu"))
    torch.nn.init.normal_(head.weight)
    policy = policy_of(settings_of(base))
    answers = answers_of(policy, [[70, 71]])
    found = read(policy.model, laid_out(policy, answers, [0]), temperature=1.0, head=head)
    other = read(policy.model, laid_out(policy, answers_of(policy, [[70, 99]]), [0]), temperature=1.0, head=head)
    torch.testing.assert_close(found.values, other.values)  # neither has seen the second token
    states = policy.model.model(torch.tensor([answers.asked[0]])).last_hidden_state[0, -1]
    torch.testing.assert_close(found.values[0, 0], head(states), atol=1e-5, rtol=1e-5)


# ---- minibatches, accumulation, the optimiser


def after_a_step(base, **changed):
    learner = learner_of(base, **changed)
    learner.begin()
    return learner, learner.step()


def test_small_batches_that_accumulate_are_one_large_batch(base):
    large, told_large = after_a_step(base, batch=8, accumulate=1, max_tokens=60)
    small, told_small = after_a_step(base, batch=2, accumulate=4, max_tokens=60)
    assert large.answers.said == small.answers.said
    assert len(set(large.answers.lengths)) > 1  # so a mean of means would be another
    assert furthest(weights_of(large), weights_of(small)) < 1e-6
    assert told_small["policy_loss"] == pytest.approx(told_large["policy_loss"], abs=1e-6)
    assert furthest(weights_of(large), weights_of(learner_of(base))) > 1e-4


@pytest.mark.parametrize(
    ("accumulate", "minibatches", "passes", "steps"), [(4, 1, 1, 1), (4, 2, 1, 2), (4, 4, 3, 12), (1, 2, 2, 4)]
)
def test_minibatches_are_steps_of_the_optimiser_however_much_accumulates(base, accumulate, minibatches, passes, steps):
    learner, _ = after_a_step(base, batch=8 // accumulate, accumulate=accumulate, minibatches=minibatches, passes=passes)
    assert {int(one["step"]) for one in learner.optimizer.state_dict()["state"].values()} == {steps}


def test_gradient_clipping_acts(base):
    (short, told_short), (free, told_free) = (after_a_step(base, passes=1, max_gradient=longest) for longest in (1e-3, 1e6))
    lengths = [
        math.sqrt(sum(float((one.grad**2).sum()) for one in (*learner.trained.values(), *learner.head.parameters())))
        for learner in (short, free)
    ]
    assert lengths[0] == pytest.approx(1e-3, rel=1e-3)
    assert lengths[1] == pytest.approx(told_free["gradient"], rel=1e-4) == pytest.approx(told_short["gradient"], rel=1e-4)
    assert lengths[1] > 0.01
    assert furthest(weights_of(short), weights_of(free)) > 1e-5


def test_the_optimiser_is_adam_with_its_epsilon_and_the_learning_rate_falls_to_nought(base):
    lines = []
    learner = learn(
        policy_of(settings_of(base)), Counting(), TURNS, settings_of(base, epochs=4), watch=lambda _, one: lines.append(one)
    )
    assert type(learner.optimizer) is torch.optim.Adam
    assert learner.optimizer.defaults["eps"] == 1e-5
    assert [one["learning_rate"] for one in lines] == pytest.approx([1e-3, 7.5e-4, 5e-4, 2.5e-4])


@pytest.mark.parametrize(("lora_rank", "rate"), [(0, 1e-5), (4, 1e-4)])
def test_the_learning_rate_that_suits_is_higher_with_lora(base, lora_rank, rate):
    learner = learner_of(base, lora_rank=lora_rank, learning_rate=0.0)
    assert learner.rate == rate
    assert all(("lora" in name) == bool(lora_rank) for name in learner.trained)


def test_with_lora_the_start_is_the_model_with_its_adapter_switched_off(base):
    learner = learner_of(base, lora_rank=4, learning_rate=1e-2)
    assert learner.policy.start is None
    learner.begin()
    learner.step()
    start = AutoModelForCausalLM.from_pretrained(base)
    said = [[70, 71, 72], [73, 74]]
    answers, found = rollout_of(learner, said)
    then = log_probs(start, answers.asked, said, pad=learner.policy.pad)
    for place, ids in enumerate(said):
        torch.testing.assert_close((found.log_probs - found.log_ratio)[place, : len(ids)], then[place], atol=1e-5, rtol=0)


def test_the_penalty_adapts_to_the_kl_that_is_measured(base):
    lines, settings = [], settings_of(base, epochs=5, kl=0.1, kl_target=0.5, kl_horizon=100, learning_rate=3e-3)
    learn(policy_of(settings), Counting(), TURNS, settings, watch=lambda _, one: lines.append(one))
    weights = [0.1]
    for line in lines:
        error = min(max(line["kl"] / 0.5 - 1, -0.2), 0.2)
        weights.append(weights[-1] * (1 + error * 8 / 100))
    assert [one["kl_weight"] for one in lines] == pytest.approx(weights[:-1])
    assert len(set(weights)) > 3
    assert max(one["kl"] for one in lines) > 0.1


# ---- which prompts, which share


def test_an_epoch_answers_each_prompt_once_in_an_order_of_its_own(base):
    settings = settings_of(base, batch=2, accumulate=2, epochs=2)
    assert steps_of(settings, 10) == 6
    order = [drawn(step, settings, 10) for step in range(6)]
    assert [len(one) for one in order] == [4, 4, 2, 4, 4, 2]
    first, second = ([place for one in some for place in one] for some in (order[:3], order[3:]))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert drawn(4, settings.model_copy(update={"epochs": 9}), 10) == order[4]
    assert drawn(0, settings.model_copy(update={"seed": 1}), 10) != order[0]
    assert steps_of(settings.model_copy(update={"max_steps": 5}), 10) == 5


class Part(Processes):
    """One process of two, that hears nothing of the other."""

    def __init__(self, rank):
        super().__init__()
        self.rank, self.count = rank, 2


def test_each_process_draws_other_numbers_and_together_they_answer_what_one_would(base):
    settings = settings_of(base)
    policy = policy_of(settings)
    same = [TURNS[0]] * 8

    def found(prompts, share):
        return answered(policy, Counting(), prompts, settings, seed=(0, 1), share=share).said

    alone, halves = found(TURNS, ALONE), [found(TURNS, Part(rank)) for rank in (0, 1)]
    assert [alone[0::2], alone[1::2]] == halves
    first, second = (found(same, Part(rank)) for rank in (0, 1))
    assert not {tuple(ids) for ids in first} & {tuple(ids) for ids in second}


# ---- the run


def new_run(folder, base, **settings):
    toy = {
        "epochs": 6, "save_every": 2, "look_every": 3, "kl": 0.05, "kl_target": 1.0, "kl_horizon": 50, "minibatches": 2,
        "passes": 2, "scored_by": [LENGTH], "data": "a toy",
    }  # fmt: skip
    config = settings_of(base, **{**toy, **settings})
    run = Run.create(folder, kind="ppo", module="training.ppo", title="toy", config=config)
    some = [Prompt(f"p{number}", turns) for number, turns in enumerate(TURNS)]
    policy_data.write_prompts(run.input, Prompts(some, [Prompt("h0", TURNS[2]), Prompt("h1", (Message("user", "yeast"),))]))
    return run


def lines_of(run):
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: one for name, one in line.items() if name != "tokens_per_second"} for line in lines]


def saved(run):
    return load_file(run.folder / "model" / "model.safetensors")


def summary_of(run):
    return json.loads((run.output / "summary.json").read_text())


@pytest.fixture(scope="module", params=[0, 4], ids=["whole", "lora"])
def undisturbed(request, base, tmp_path_factory):
    run = new_run(Path(tmp_path_factory.mktemp("runs")) / "undisturbed", base, lora_rank=request.param)
    ppo.train(run)
    return run


def like(undisturbed, folder, base):
    return new_run(folder, base, lora_rank=undisturbed.config()["lora_rank"])


def check_same(run, undisturbed):
    """The same numbers, line by line, and the same weights, bit by bit."""
    assert lines_of(run) == lines_of(undisturbed)
    expected = saved(undisturbed)
    assert all(torch.equal(one, expected[name]) for name, one in saved(run).items())
    assert summary_of(run)["points"] == summary_of(undisturbed)["points"]
    assert summary_of(run)["generated"] == summary_of(undisturbed)["generated"]


def test_a_line_stands_for_each_step_and_says_all_there_is_to_watch(undisturbed):
    found = curves.columns(undisturbed.folder)
    assert found["step"] == list(range(7))
    always = {
        "reward", "reward_penalised", "kl", "kl_weight", "entropy", "clip_fraction", "approx_kl", "policy_loss", "value_loss",
        "explained_variance", "length", "stopped", "gradient", "learning_rate", "tokens", "tokens_per_second",
    }  # fmt: skip
    assert all(None not in found[name][1:] for name in always)
    for name in ("held_out_kl", "held_out_length", "held_out_stopped"):
        assert [step for step, one in zip(found["step"], found[name], strict=True) if one is not None] == [0, 3, 6]
    assert found["kl"][1] == found["held_out_kl"][0] == 0.0
    assert found["kl"][-1] != 0.0


def test_samples_are_shown_with_their_rewards(undisturbed):
    lines = [json.loads(line) for line in (undisturbed.output / "samples.jsonl").read_text().splitlines()]
    assert {line["step"] for line in lines} == {1, 3, 6}
    assert all(line["reward"] == len(line["response"]) for line in lines)
    assert lines[0]["prompt"][0][0] == "user"


def test_the_summary_says_what_was_made_and_the_policy_opens_as_a_plain_model(undisturbed, base):
    found = summary_of(undisturbed)
    assert (found["policy"], found["kind"], found["model"], found["steps"]) == ("taught", "ppo", "model", 6)
    assert [point["point"] for point in found["points"]] == [0, 3, 6]
    assert found["points"][0]["scores"].keys() == {"length"}
    told = curves.columns(undisturbed.folder)
    looked = sum(2 * length for length in told["held_out_length"] if length is not None)
    assert found["generated"] == told["tokens"][-1] + looked
    asked = sum(map(len, opened(str(base)).prompt_ids(TURNS, 40)))  # texts are learned from, prompts with their answers
    assert found["trained"] == 2 * (8 * sum(told["length"][1:]) + 6 * asked)
    assert "# Policy" in (undisturbed.folder / "model" / "README.md").read_text()
    assert not list((undisturbed.folder / "model").glob("adapter*"))
    assert list(undisturbed.checkpoints.iterdir()) == []
    again = opened(str(undisturbed.folder / "model"))
    start = load_file(base / "model.safetensors")
    assert max(float((one - start[name]).abs().max()) for name, one in again.model.state_dict().items() if name in start) > 1e-3
    answers = policy_data.read_answers(undisturbed.output / "responses.parquet")
    assert {(one.prompt_id, one.point) for one in answers} == {(name, point) for name in ("h0", "h1") for point in (0, 3, 6)}


class Stopped(Run):
    """A run that somebody asks to stop, or whose process dies, at a step's beginning."""

    def __init__(self, folder, *, at, dies=False):
        super().__init__(folder)
        self.at, self.dies = at, dies

    def tell(self, done, total, unit, message="", *, seconds=0.0, **more):
        if done == self.at and message.startswith(f"step {done}"):
            if self.dies:
                raise RuntimeError("killed")
            self.stop.touch()
        super().tell(done, total, unit, message, seconds=seconds, **more)


def test_cancelled_between_two_steps_it_keeps_that_step_and_goes_on_to_the_same_numbers(tmp_path, base, undisturbed):
    run = like(undisturbed, tmp_path / "cancelled", base)
    with pytest.raises(Cancelled):
        ppo.train(Stopped(run.folder, at=3))
    assert ppo_checkpoints.last(run.checkpoints).name == "checkpoint-3"
    assert lines_of(run)[-1]["step"] == 3
    run.stop.unlink()
    torch.manual_seed(99)
    ppo.train(run)
    check_same(run, undisturbed)


def test_killed_it_goes_on_from_its_last_whole_checkpoint_to_the_same_numbers(tmp_path, base, undisturbed):
    run = like(undisturbed, tmp_path / "killed", base)
    with pytest.raises(RuntimeError, match="killed"):
        ppo.train(Stopped(run.folder, at=5, dies=True))
    assert sorted(one.name for one in run.checkpoints.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
    shutil.copytree(
        run.checkpoints / "checkpoint-2", run.checkpoints / "checkpoint-6.part"
    )  # as a process killed while it wrote
    (run.folder / "metrics.jsonl").open("a").write('{"step": 6, "rew')
    (run.output / "samples.jsonl").open("a").write('{"step": 5, "respo')
    assert lines_of_whole(run)[-1] == 5
    ppo.train(run)
    check_same(run, undisturbed)


def lines_of_whole(run):
    return curves.columns(run.folder)["step"]


def test_cancelled_while_it_answers_it_loses_only_the_step_it_was_in(tmp_path, base, undisturbed):
    run = like(undisturbed, tmp_path / "answering", base)

    class Asked(Run):
        def tell(self, done, total, unit, message="", *, seconds=0.0, **more):
            if done == 1 and "answered" in message:
                self.stop.touch()
            super().tell(done, total, unit, message, seconds=0.0, **more)

    with pytest.raises(Cancelled):
        ppo.train(Asked(run.folder))
    assert ppo_checkpoints.last(run.checkpoints).name == "checkpoint-1"
    run.stop.unlink()
    ppo.train(run)
    check_same(run, undisturbed)


def test_a_run_that_was_killed_when_it_was_all_but_done_leaves_no_checkpoints(undisturbed):
    (undisturbed.checkpoints / "checkpoint-6").mkdir()
    (undisturbed.checkpoints / "scores.part").touch()
    ppo.train(undisturbed)
    assert list(undisturbed.checkpoints.iterdir()) == []


def test_where_every_answer_of_a_step_is_cut_the_run_says_that_the_reward_model_is_not_heard(tmp_path, base, capsys):
    run = new_run(tmp_path / "run", base, max_tokens=1, max_steps=2, max_prompt=12)
    ppo.train(run)
    (said,) = [line for line in capsys.readouterr().out.splitlines() if "whatever the reward model says" in line]
    assert said == (
        "step 1: no answer ended within 1 tokens (max_tokens): each was told -1 (no_stop), whatever the reward model says of "
        "it. A higher max_tokens, or missing_stop=score, lets it be heard"
    )
    notes = summary_of(run)["notes"]
    assert [note for note in notes if note.startswith("in 2 of 2 steps no answer ended within 1 tokens")]
    read = opened(str(base)).prompts_read(TURNS, 12)
    assert f"{read.truncated.sum()} prompts were longer than 12 tokens and lost their beginning" in notes
    assert "1 held-out prompts were longer than 12 tokens and lost their beginning" in notes


def test_answers_that_are_shown_stay_whole_lines_whatever_they_say_and_later_ones_are_dropped(tmp_path, base):
    run = new_run(tmp_path / "run", base)
    policy_answers.show(run, [{"step": step, "prompt": [], "response": "a\u2028b\x85c\n", "reward": 1.0} for step in (1, 2, 3)])
    with (run.output / "samples.jsonl").open("a") as file:
        file.write('{"step": 1, "pro')  # killed half-way
    policy_answers.keep_until(run, 2)
    lines = (run.output / "samples.jsonl").read_text().splitlines()
    assert [(json.loads(line)["step"], json.loads(line)["response"]) for line in lines] == [
        (1, "a\u2028b\x85c\n"),
        (2, "a\u2028b\x85c\n"),
    ]


def test_a_finished_run_does_nothing_again(undisturbed):
    before = (undisturbed.folder / "model" / "model.safetensors").stat().st_mtime_ns
    ppo.train(undisturbed)
    assert (undisturbed.folder / "model" / "model.safetensors").stat().st_mtime_ns == before


def test_a_checkpoint_holds_the_random_states_and_only_the_last_two_are_kept(tmp_path):
    torch.manual_seed(5)
    np.random.seed(5)
    for step in (1, 2, 3):
        ppo_checkpoints.save(tmp_path, step, {"step": step}, ALONE)
    drawn_before = (torch.rand(3), np.random.rand(3))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-3"]
    found = ppo_checkpoints.load(ppo_checkpoints.last(tmp_path), ALONE)
    assert found == {"step": 3}
    assert torch.equal(torch.rand(3), drawn_before[0])
    np.testing.assert_array_equal(np.random.rand(3), drawn_before[1])


@pytest.mark.slow
def test_two_processes_learn_what_one_would(tmp_path, base):
    alone, shared = new_run(tmp_path / "alone", base), new_run(tmp_path / "shared", base)
    ppo.train(alone)
    processes.together(ppo.trained_together, shared.folder, 2, on_gpu=False)
    for one, other in zip(lines_of(shared), lines_of(alone), strict=True):
        assert one == pytest.approx(other, abs=1e-3, rel=1e-3)
    assert summary_of(shared)["generated"] == summary_of(alone)["generated"]


@pytest.mark.slow
def test_what_stops_one_of_two_processes_is_said_by_the_run(tmp_path, base):
    run = new_run(tmp_path / "run", base, kl_limit=1e-6, learning_rate=1e-2)
    with pytest.raises(ValueError, match=r"KL from the start is .* nats a response at step \d: expected"):
        processes.together(ppo.trained_together, run.folder, 2, on_gpu=False)


# ---- where there is nothing to go on to


def test_a_reward_that_is_no_number_stops_it(base):
    class Broken:
        def scores(self, prompts, texts):
            return np.full(len(texts), np.nan)

    with pytest.raises(ValueError, match=r"the reward of '.*' is nan: expected a number"):
        learner_of(base, Broken()).begin()


def test_a_loss_that_is_no_number_stops_it_before_anything_is_learned(base):
    learner = learner_of(base)
    learner.begin()
    with torch.no_grad():
        learner.head.bias.fill_(float("inf"))
    before = weights_of(learner)
    with pytest.raises(ValueError, match=r"the loss of step 1 is .*: expected numbers. A lower learning_rate than 0\.001"):
        learner.step()
    assert furthest(before, weights_of(learner)) == 0.0


def test_a_kl_beyond_its_limit_stops_it_and_says_what_to_change(base):
    settings = settings_of(base, epochs=9, learning_rate=3e-2, kl_limit=0.5, kl=0.01)
    said = (
        r"KL from the start is [\d.]+ nats a response at step \d: expected at most 0\.5 \(kl_limit\). "
        r"A lower learning_rate than 0\.03 or a higher kl than 0\.01 may hold it"
    )
    with pytest.raises(ValueError, match=said):
        learn(policy_of(settings), Counting(), TURNS, settings)


@pytest.mark.parametrize(("target", "limit"), [(0.0, 50.0), (6.0, 60.0)])
def test_without_a_limit_of_its_own_it_is_fifty_nats_or_ten_times_the_target(base, target, limit):
    settings = settings_of(base, kl_limit=0.0, kl_target=target)
    check_kl(limit, 1, settings, 0.1)
    with pytest.raises(ValueError, match=rf"expected at most {limit:g} \(kl_limit\)"):
        check_kl(limit + 0.01, 1, settings, 0.1)
    with pytest.raises(ValueError, match="is nan nats"):
        check_kl(float("nan"), 1, settings, 0.1)


def test_a_policy_that_falls_silent_stops_it(base):
    settings = settings_of(base, epochs=9)
    policy = dataclasses.replace(policy_of(settings), stops=tuple(range(512)))
    with pytest.raises(ValueError, match="every response of the last 3 steps, up to step 3, is empty: expected words"):
        learn(policy, Counting(), TURNS, settings)


@pytest.mark.parametrize(
    ("changed", "turns", "words"),
    [
        ({}, [], "no prompt to learn from: expected at least one"),
        ({"batch": 2, "accumulate": 2, "minibatches": 5}, TURNS, r"4 responses a step .* cannot be learned from in 5 parts"),
        ({"max_tokens": 500}, TURNS, "expected no more than the 512 the model reads"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_before_anything_is_sampled(base, changed, turns, words):
    with pytest.raises(ValueError, match=words):
        learner_of(base, turns=turns, **changed)


def test_a_full_disk_stops_the_run_with_a_sentence(tmp_path, base):
    run = new_run(tmp_path / "run", base)
    (run.folder / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"the disk with .* is full .*: make room and resume the run"):
        ppo.train(run)
    assert not (run.output / "summary.json").exists()


def test_a_run_without_held_out_prompts_learns_all_the_same(tmp_path, base):
    run = new_run(tmp_path / "run", base, max_steps=1, scored_by=[])
    policy_data.write_prompts(run.input, Prompts([Prompt("p", TURNS[0])], []))
    ppo.train(run)
    assert (summary_of(run)["points"], summary_of(run)["steps"]) == ([], 1)
    assert len(opened(str(run.folder / "model")).tokenizer) > 380
