"""Sampling: as transformers' own greedy search, by the right probabilities, the same whoever is in the batch."""

from dataclasses import replace

import pytest
import torch
from scipy.stats import chisquare

from tests.tiny_models import tiny_causal, tiny_tokenizer
from training.policies import log_probs, opened
from training.rewards.base import Message
from training.sampling import Response, sampled, shares_of

TEXTS = ("hello", "how do I make bread? mix flour, water, salt and yeast, then wait", "a b", "the quick brown fox", "hello")
HOT = {"temperature": 1.0, "seed": 7}


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def policy(request, tmp_path_factory):
    """A policy that ends a response about every sixth token."""
    folder = tmp_path_factory.mktemp(request.param)
    tiny_tokenizer(folder)
    tiny_causal(folder, kind=request.param)
    return replace(opened(str(folder)), stops=tuple(range(80)))


@pytest.fixture(scope="module")
def prompts(policy):
    return policy.prompt_ids([(Message("user", text),) for text in TEXTS], 200)


def endless(policy):
    return replace(policy, stops=())


def greedy(policy, prompt, count):
    """By transformers' own search, of one prompt alone."""
    how = {"do_sample": False, "max_new_tokens": count, "pad_token_id": policy.pad}
    if policy.stops:
        how["eos_token_id"] = list(policy.stops)
    return policy.model.generate(torch.tensor([prompt]), **how)[0, len(prompt) :].tolist()


@pytest.mark.parametrize("batch_tokens", [0, 1, 200])
def test_at_a_low_temperature_it_is_greedy_search(policy, prompts, batch_tokens):
    for one in (policy, endless(policy)):
        found = sampled(one, prompts, samples=1, max_tokens=12, temperature=1e-5, seed=0, batch_tokens=batch_tokens)
        assert [some[0].ids for some in found] == [greedy(one, prompt, 12) for prompt in prompts]


def test_what_is_sampled_depends_on_the_seed_and_not_on_who_else_is_in_the_batch(policy, prompts):
    found = sampled(policy, prompts, samples=3, max_tokens=16, **HOT)
    assert found == sampled(policy, prompts, samples=3, max_tokens=16, **HOT)
    alone = [
        [sampled(policy, [prompt], samples=1, max_tokens=16, first=sample, places=[place], **HOT)[0][0] for sample in range(3)]
        for place, prompt in enumerate(prompts)
    ]
    assert found == alone
    assert found == sampled(policy, prompts, samples=3, max_tokens=16, batch_tokens=1, **HOT)
    assert found == sampled(policy, prompts, samples=3, max_tokens=16, batch_tokens=250, **HOT)


def test_other_seeds_samples_and_places_give_other_responses(policy, prompts):
    found = sampled(policy, prompts, samples=4, max_tokens=16, **HOT)
    assert found[0] != found[4]  # the same prompt at another place
    assert all(len({tuple(one.ids) for one in some}) > 1 for some in found)
    assert found != sampled(policy, prompts, samples=4, max_tokens=16, temperature=1.0, seed=8)


def test_more_samples_are_the_first_ones_and_more(policy, prompts):
    few, more = (sampled(policy, prompts, samples=count, max_tokens=10, **HOT) for count in (2, 5))
    assert [some[:2] for some in more] == few


def test_the_global_random_numbers_are_left_alone(policy, prompts):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    sampled(policy, prompts, samples=2, max_tokens=5, **HOT)
    assert torch.equal(torch.rand(4), expected)


def test_a_response_ends_with_its_first_stop_token_or_at_the_limit(policy, prompts):
    found = [one for some in sampled(policy, prompts, samples=8, max_tokens=9, **HOT) for one in some]
    for ids, stopped in found:
        ends = [token in policy.stops for token in ids]
        assert ends == [False] * (len(ids) - 1) + [stopped]
        assert stopped or len(ids) == 9
    assert {stopped for _, stopped in found} == {True, False}
    assert len({len(ids) for ids, _ in found}) > 3


def test_the_next_human_turn_ends_a_response_in_hh_text(policy, prompts):
    told = endless(policy)
    (plain,) = sampled(told, prompts[:1], samples=1, max_tokens=30, **HOT)[0]
    mark = told.text(plain.ids)[8:11]  # as if these characters began the next turn
    spoken = replace(told, stop_text=mark)
    ((found,),) = sampled(spoken, prompts[:1], samples=1, max_tokens=30, **HOT)
    assert found == Response(plain.ids[: spoken.ended(plain.ids)], True)
    assert [mark in told.text(ids) for ids in (found.ids, found.ids[:-1])] == [True, False]
    assert len(found.ids) < 30


# ---- probabilities


def counted(policy, prompt, n, **how):
    """How often each token comes first, (vocabulary,)."""
    (some,) = sampled(policy, [prompt], samples=n, max_tokens=1, seed=11, **how)
    return torch.bincount(torch.tensor([one.ids[0] for one in some]), minlength=512).double()


def p_value(counts, shares):
    """Of a chi-square test over the twenty likeliest tokens and all the others."""
    top = shares.topk(20).indices
    seen, expected = (torch.cat([one[top], (one.sum() - one[top].sum())[None]]) for one in (counts, shares.double()))
    return chisquare(seen, expected / expected.sum() * seen.sum()).pvalue


def test_tokens_come_as_often_as_their_probability_says(policy, prompts):
    logits = policy.model(torch.tensor([prompts[0]])).logits[0, -1].detach()
    counts = counted(policy, prompts[0], 4000, temperature=0.7)
    assert p_value(counts, (logits / 0.7).softmax(-1)) > 0.01
    assert p_value(counts, logits.softmax(-1)) < 1e-6


def test_second_tokens_come_as_often_as_their_probability_after_the_first_says(policy, prompts):
    told = endless(policy)
    (some,) = sampled(told, prompts[:1], samples=6000, max_tokens=2, temperature=0.2, seed=2)
    firsts = torch.bincount(torch.tensor([one.ids[0] for one in some]), minlength=512)
    first = int(firsts.argmax())
    counts = torch.bincount(torch.tensor([one.ids[1] for one in some if one.ids[0] == first]), minlength=512)
    logits = told.model(torch.tensor([[*prompts[0], first]])).logits[0, -1].detach()
    assert firsts.max() > 300
    assert p_value(counts.double(), (logits / 0.2).softmax(-1)) > 0.01


def test_top_k_leaves_the_likeliest_and_their_proportions(policy, prompts):
    logits = policy.model(torch.tensor([prompts[0]])).logits[0, -1].detach()
    kept = logits.topk(5).indices
    counts = counted(policy, prompts[0], 1000, temperature=1.0, top_k=5)
    assert set(counts.nonzero().flatten().tolist()) == set(kept.tolist())
    assert chisquare(counts[kept], logits[kept].double().softmax(-1) * 1000).pvalue > 0.01


def test_top_p_leaves_the_fewest_tokens_that_reach_the_share():
    logits = torch.tensor([[0.5, 0.1, 0.3, 0.1], [0.1, 0.2, 0.3, 0.4]]).log()
    for share, left in ((0.45, [1, 2]), (0.5, [1, 2]), (0.79, [2, 3]), (0.85, [3, 3]), (0.99, [4, 4]), (1.0, [4, 4])):
        assert (shares_of(logits, 1.0, top_p=share) > 0).sum(-1).tolist() == left
    assert (shares_of(logits, 1.0, top_k=3, top_p=0.45) > 0).tolist() == [[1, 0, 0, 0], [0, 0, 1, 1]]


def test_log_probabilities_of_what_was_sampled_do_not_depend_on_its_batch(policy, prompts):
    found = sampled(policy, prompts, samples=2, max_tokens=12, **HOT)
    texts = [(prompt, one.ids) for prompt, some in zip(prompts, found, strict=True) for one in some]
    together = log_probs(policy.model, *map(list, zip(*texts, strict=True)), pad=policy.pad)
    for (prompt, ids), one in zip(texts, together, strict=True):
        torch.testing.assert_close(log_probs(policy.model, [prompt], [ids], pad=policy.pad)[0], one, atol=1e-5, rtol=0)


# ---- what cannot be sampled, and progress


def test_progress_is_told_and_ends_at_all(policy, prompts):
    told = []
    sampled(policy, prompts, samples=3, max_tokens=12, batch_tokens=200, tell=lambda *one: told.append(one), **HOT)
    assert (told, told[-1]) == (sorted(told), (15, 15))
    assert len(told) > 5


def test_what_cannot_be_sampled_is_refused(policy, prompts, tmp_path):
    with pytest.raises(ValueError, match="a prompt has no tokens"):
        sampled(policy, [[5], []], samples=1, max_tokens=4, **HOT)
    with pytest.raises(ValueError, match="expected no more than the 512 the model reads"):
        sampled(policy, prompts, samples=1, max_tokens=500, **HOT)
    assert sampled(policy, [], samples=2, max_tokens=4, **HOT) == []


def test_probabilities_that_are_no_numbers_are_refused(tmp_path):
    tiny_tokenizer(tmp_path)
    tiny_causal(tmp_path)
    broken = opened(str(tmp_path))
    with torch.no_grad():
        broken.model.get_input_embeddings().weight[5] = torch.nan
    with pytest.raises(ValueError, match="probabilities that are no numbers"):
        sampled(broken, [[381, 5]], samples=2, max_tokens=4, **HOT)
