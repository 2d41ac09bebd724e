"""A policy at hand: what ends its responses and pads its batches, how prompts are read, its start, its log-probabilities."""

import json

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from tests.tiny_models import CHATML, change_config, tiny_causal, tiny_classifier, tiny_t5, tiny_tokenizer
from training.policies import log_probs, opened
from training.rewards.base import Message

HELLO = (Message("user", "hello"),)
LONG = (Message("user", "how do I make bread? " * 20), Message("assistant", "mix"), Message("user", "then?"))


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    tiny_tokenizer(folder)
    tiny_causal(folder, eos_token_id=382, bos_token_id=381)
    return folder


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpt2")
    tiny_tokenizer(folder)
    tiny_causal(folder, kind="gpt2")
    return folder


def made(folder, *, tokenizer=None, **of_tokenizer):
    if tokenizer is None:
        tiny_tokenizer(folder, **of_tokenizer)
    tiny_causal(folder, eos_token_id=382, bos_token_id=381)
    return folder


def changed(policy, *, by=0.3):
    """The policy with an adapter that does something, or other weights."""
    torch.manual_seed(5)
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if weight.requires_grad and ("lora_B" in name or policy.start is not None):
                weight.add_(torch.randn_like(weight) * by * (1.0 if policy.start is None else 0.1))
    return policy


def plain_log_probs(model, prompt, response, temperature=1.0):
    """By one forward pass over one text without padding."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *response]])).logits[0].double() / temperature
    return logits.log_softmax(-1)[len(prompt) - 1 : -1].gather(1, torch.tensor(response)[:, None])[:, 0]


# ---- stops and padding


def test_responses_end_at_eos_at_the_template_s_end_of_turn_and_at_what_the_model_says(tmp_path):
    made(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [382, 17]}))
    tokenizer = opened(str(tmp_path)).tokenizer
    assert opened(str(tmp_path)).stops == (382, 17, tokenizer.convert_tokens_to_ids("<|im_end|>"))


@pytest.mark.parametrize("pad", ["<|im_end|>", "</s>"], ids=["end of turn", "eos"])
def test_a_token_that_ends_responses_does_not_pad(tmp_path, pad):
    made(tmp_path, pad="")
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**settings, "pad_token": pad}))
    policy = opened(str(tmp_path))
    assert policy.own_pad == pad
    assert policy.pad == policy.tokenizer.pad_token_id == policy.model.config.pad_token_id
    assert policy.pad not in {*policy.stops, policy.tokenizer.bos_token_id}


def test_a_padding_token_of_its_own_is_kept(llama):
    policy = opened(str(llama))
    assert (policy.tokenizer.pad_token, policy.pad) == ("<pad>", 380)


def only_eos(folder):
    """A tokenizer as GPT-2's: one special token, which begins and ends, and no template. A token a byte."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inside = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    inside.pre_tokenizer, inside.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    inside.add_special_tokens(["<|endoftext|>"])
    ends = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    PreTrainedTokenizerFast(tokenizer_object=inside, **ends).save_pretrained(folder)
    tiny_causal(folder, kind="gpt2", bos_token_id=256, eos_token_id=256)
    return folder


def test_where_only_eos_is_special_an_ordinary_token_pads_and_stays_in_texts_and_out_of_the_saved_tokenizer(tmp_path):
    policy = opened(str(only_eos(tmp_path / "base")))
    assert (policy.stops, policy.pad, policy.own_pad) == ((256,), 255, None)
    text = "".join(map(chr, range(32, 1000)))
    ids = policy.tokenizer(text)["input_ids"]
    assert 255 in ids
    assert policy.text([*ids, 256]) == text.removeprefix(" ")
    policy.save(tmp_path / "saved")
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path / "saved")
    assert (again.pad_token, again.all_special_ids, again(text)["input_ids"]) == (None, [256], ids)


def test_a_model_nothing_ends_is_refused(tmp_path):
    endless = CHATML.replace("<|im_end|>", "")
    made(tmp_path, chat_template=endless, eos="", adds="")
    change_config(tmp_path, eos_token_id=None)
    (tmp_path / "generation_config.json").unlink()
    with pytest.raises(ValueError, match="neither an EOS token nor a chat template that ends an answer"):
        opened(str(tmp_path))


# ---- prompts and texts


def test_a_prompt_ends_with_the_opening_of_its_answer_and_has_one_bos(tmp_path):
    policy = opened(str(made(tmp_path, chat_template="<s>" + CHATML)))
    (ids,) = policy.prompt_ids([HELLO], 100)
    assert policy.tokenizer.decode(ids) == "<s><|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"


def test_eos_that_the_tokenizer_puts_after_every_text_is_not_put_after_a_prompt(tmp_path):
    policy = opened(str(made(tmp_path, adds="eos")))
    (ids,) = policy.prompt_ids([HELLO], 100)
    assert policy.tokenizer.decode(ids).endswith("<|im_start|>assistant\n")


def test_of_a_long_prompt_the_beginning_is_cut_and_counted_and_bos_stays(llama):
    policy = opened(str(llama))
    whole, short = policy.prompt_ids([LONG, HELLO], 500)
    read = policy.prompts_read([LONG, HELLO], 40)
    assert read.ids == [[381, *whole[-39:]], short]
    assert read.truncated.tolist() == [True, False]


def test_a_prompt_and_a_response_longer_than_the_model_reads_are_refused(llama):
    policy = opened(str(llama))
    policy.check_fits(500, 12)
    with pytest.raises(ValueError, match="are 513: expected no more than the 512 the model reads"):
        policy.check_fits(500, 13)


def test_without_a_template_prompts_are_hh_text_and_the_next_human_turn_ends_a_response(tmp_path):
    policy = opened(str(made(tmp_path, chat_template="")))
    (ids,) = policy.prompt_ids([HELLO], 100)
    assert policy.tokenizer.decode(ids) == "<s>\n\nHuman: hello\n\nAssistant:"
    response = policy.tokenizer(" mix flour\n\nHuman: why", add_special_tokens=False)["input_ids"]
    count = policy.ended(response)
    assert "\n\nHuman:" in policy.tokenizer.decode(response[:count])
    assert "\n\nHuman:" not in policy.tokenizer.decode(response[: count - 1])
    assert policy.text(response[:count]) == "mix flour"
    assert policy.ended(response[: count - 1]) is None
    assert policy.ended([*response[: count - 1], 382, *response]) == count  # EOS came first


def test_the_text_of_a_response_is_without_what_ended_it_and_keeps_its_blanks(llama):
    policy = opened(str(llama))
    ids = policy.tokenizer(" bread .\n", add_special_tokens=False)["input_ids"]
    assert policy.text([*ids, 382]) == policy.text(ids) == " bread .\n"
    assert policy.text([382]) == policy.text([]) == ""


# ---- the model and its start


def test_a_new_adapter_changes_nothing_is_drawn_by_its_seed_and_leaves_the_global_numbers_alone(llama):
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    policy = opened(str(llama), lora_rank=4, trainable=True, seed=3)
    assert torch.rand(1) == expected
    ids = torch.tensor([[5, 9, 3]])
    assert torch.equal(policy.model(ids).logits, opened(str(llama)).model(ids).logits)
    same, other = (opened(str(llama), lora_rank=4, trainable=True, seed=seed).model.state_dict() for seed in (3, 4))
    assert all(torch.equal(weight, same[name]) for name, weight in policy.model.state_dict().items())
    assert any(not torch.equal(weight, other[name]) for name, weight in policy.model.state_dict().items())


def test_of_a_policy_with_an_adapter_the_adapter_alone_is_trained_on_every_layer(gpt2):
    policy = opened(str(gpt2), lora_rank=4, trainable=True)
    trained = [name for name, weight in policy.model.named_parameters() if weight.requires_grad]
    assert len(trained) == 2 * 4 * 2  # A and B of four matrices in two layers
    assert all("lora_" in name for name in trained)
    assert not policy.model.training
    assert not any(weight.requires_grad for weight in opened(str(gpt2)).model.parameters())


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("rank", [4, 0], ids=["adapter", "whole"])
def test_the_start_stays_what_it_was_and_the_saved_policy_is_what_it_has_become(kind, rank, tmp_path, request):
    folder, ids = request.getfixturevalue(kind), torch.tensor([[5, 9, 3, 7]])
    before = opened(str(folder)).model(ids).logits
    policy = changed(opened(str(folder), lora_rank=rank, trainable=True))
    with torch.no_grad():
        now = policy.model(ids).logits
        with policy.as_start():
            torch.testing.assert_close(policy.start_model(ids).logits, before)
        assert torch.equal(policy.model(ids).logits, now)
        assert (now - before).abs().max() > 0.1
        policy.save(tmp_path / "model")
        assert torch.equal(policy.model(ids).logits, now)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(saved(ids).logits, now, atol=1e-4, rtol=1e-4)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["model"]
    assert opened(str(tmp_path / "model")).stops == policy.stops


@pytest.mark.parametrize("rank", [4, 0], ids=["adapter", "whole"])
def test_a_policy_is_saved_without_a_second_copy_where_it_is(llama, tmp_path, monkeypatch, rank):
    def copied(weight, memo):
        raise AssertionError("a weight was copied on its own device")

    policy = opened(str(llama), lora_rank=rank, trainable=True)
    monkeypatch.setattr(torch.nn.Parameter, "__deepcopy__", copied)
    policy.save(tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").exists()
    assert all(weight.requires_grad == (rank == 0 or "lora_" in name) for name, weight in policy.model.named_parameters())


def test_a_policy_trained_whole_keeps_float32_weights_where_it_computes_in_bfloat16(llama, tmp_path):
    policy = opened(str(llama), trainable=True, precision="bfloat16")
    ids = torch.tensor([[5, 9, 3, 7]])
    assert {weight.dtype for weight in policy.model.parameters()} == {torch.float32}
    assert policy.model(ids).logits.dtype == policy.start_model(ids).logits.dtype == torch.bfloat16
    with torch.no_grad():
        policy.model.get_input_embeddings().weight.add_(1.0)
        assert not torch.equal(policy.model(ids).logits, policy.start_model(ids).logits)
    policy.save(tmp_path / "model")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "model").dtype == torch.bfloat16


def test_with_an_adapter_weights_are_of_the_computation_s_type_and_the_adapter_is_float32(llama):
    policy = opened(str(llama), lora_rank=4, trainable=True, precision="bfloat16")
    types = {weight.dtype for weight in policy.model.parameters() if weight.requires_grad}
    assert (types, policy.model.get_input_embeddings().weight.dtype) == ({torch.float32}, torch.bfloat16)


def test_while_it_computes_a_policy_is_in_eval_mode_and_afterwards_as_it_was(llama):
    policy = opened(str(llama))
    policy.model.train()
    with policy.computing():
        assert not policy.model.training
    assert policy.model.training


@pytest.mark.parametrize("make", [tiny_classifier, tiny_t5])
def test_what_is_no_causal_model_is_refused(tmp_path, make):
    tiny_tokenizer(tmp_path)
    make(tmp_path)
    with pytest.raises(ValueError, match=r"no causal model|cannot be opened"):
        opened(str(tmp_path))


# ---- log-probabilities


PROMPTS = [[381, 5, 9], [381, *range(20, 50)], [381, 7], [381, 30, 31, 32, 33]]
RESPONSES = [[50, 60, 382], [70], list(range(100, 140)), [380, 380, 5]]  # padding tokens inside a response count


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("batch_tokens", [0, 1, 90])
def test_log_probabilities_are_those_of_each_text_read_alone(kind, temperature, batch_tokens, request):
    policy = opened(str(request.getfixturevalue(kind)))
    how = {"pad": policy.pad, "temperature": temperature, "batch_tokens": batch_tokens}
    for prompt, response, found in zip(PROMPTS, RESPONSES, log_probs(policy.model, PROMPTS, RESPONSES, **how), strict=True):
        assert (found.dtype, found.requires_grad) == (torch.float32, False)
        expected = plain_log_probs(policy.model, prompt, response, temperature)
        torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_log_probabilities_of_the_start_are_those_without_the_adapter(kind, request):
    folder = str(request.getfixturevalue(kind))
    policy, base = changed(opened(folder, lora_rank=4, trainable=True)), opened(folder)
    ours = log_probs(policy.model, PROMPTS, RESPONSES, pad=policy.pad)
    with policy.as_start():
        start = log_probs(policy.start_model, PROMPTS, RESPONSES, pad=policy.pad)
    for place, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        on, off = (plain_log_probs(one.model, prompt, response) for one in (policy, base))
        assert (on - off).abs().max() > 0.05
        torch.testing.assert_close(ours[place].double(), on, atol=1e-5, rtol=0)
        torch.testing.assert_close(start[place].double(), off, atol=1e-5, rtol=0)


def test_a_response_without_tokens_has_no_log_probabilities(llama):
    policy = opened(str(llama))
    found = log_probs(policy.model, [[381, 5], [381, 6]], [[], [7]], pad=policy.pad)
    assert [len(one) for one in found] == [0, 1]
    assert log_probs(policy.model, [], [], pad=policy.pad) == []
