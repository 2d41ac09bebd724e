"""Reward models that compare two responses, against their published forward passes: always in both orders."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import linear
from transformers import AutoTokenizer

from tests.reward_checkpoints import ASKED, CLOSE, LONG, PROMPTS, RESPONSES, asked, loaded, pair_rm, said, steam_shp
from tests.tiny_models import write_weights
from training.rewards.base import Message
from training.rewards.both_orders import fitted


def pair_rm_margin(made: tuple[Any, dict[str, torch.Tensor], Any], source: str, one: str, other: str) -> float:
    """PairRM's published forward pass on one text: states at the three marks, a head on instruction and candidate."""
    body, beside, tokenizer = made
    marks = ("<|source|>", "<|candidate1|>", "<|candidate2|>")
    ids = [
        number for mark, text in zip(marks, (source, one, other), strict=True) for number in tokenizer(mark + text)["input_ids"]
    ]
    with torch.no_grad():
        states = body(torch.tensor([ids])).last_hidden_state[0]
        at = [states[ids.index(tokenizer.convert_tokens_to_ids(mark))] for mark in marks]

        def score(candidate: torch.Tensor) -> torch.Tensor:
            inner = linear(torch.cat([at[0], candidate]), beside["head_layer.1.weight"], beside["head_layer.1.bias"])
            return linear(torch.tanh(inner), beside["head_layer.4.weight"], beside["head_layer.4.bias"])

        return (score(at[1]) - score(at[2])).mean().item()


def sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))


FIRST, SECOND = RESPONSES, [*RESPONSES[1:], RESPONSES[0]]


def test_pair_rm_is_the_mean_over_both_orders(tmp_path: Path) -> None:
    made = pair_rm(tmp_path)
    triples = [(one, two[0].content, three[0].content) for one, two, three in zip(ASKED, FIRST, SECOND, strict=True)]
    ahead = [sigmoid(pair_rm_margin(made, one, two, three)) for one, two, three in triples]
    behind = [sigmoid(pair_rm_margin(made, one, three, two)) for one, two, three in triples]
    expected = (np.array(ahead) + 1 - np.array(behind)) / 2
    assert np.ptp(expected) > 0.05
    model = loaded({"family": "pair_rm", "source": str(tmp_path)})
    np.testing.assert_allclose(model.prefer(PROMPTS, FIRST, SECOND).values, expected, **CLOSE)
    np.testing.assert_allclose(model.prefer(PROMPTS, SECOND, FIRST).values, 1 - expected, **CLOSE)
    one = [model.prefer([a], [b], [c]).values[0] for a, b, c in zip(PROMPTS, FIRST, SECOND, strict=True)]
    np.testing.assert_allclose(one, expected, **CLOSE)


def test_buffers_that_older_files_hold_are_passed_over(tmp_path: Path) -> None:
    body, beside, _ = pair_rm(tmp_path)
    settings = {"family": "pair_rm", "source": str(tmp_path)}
    expected = loaded(settings).prefer(PROMPTS, FIRST, SECOND).values
    weights = {f"pretrained_model.{name}": one for name, one in body.state_dict().items()}
    write_weights(tmp_path, {**weights, **beside, "pretrained_model.embeddings.position_ids": torch.arange(512)[None]})
    np.testing.assert_array_equal(loaded(settings).prefer(PROMPTS, FIRST, SECOND).values, expected)


def test_pair_rm_writes_a_conversation_as_gaps_that_the_answers_fill(tmp_path: Path) -> None:
    made = pair_rm(tmp_path)
    source = (
        "Finish the following coversation in each i-th turn by filling in <Response i> with your response."
        "USER: Hi\nAssistant: <Response 1>\nUSER: Why?\nAssistant: <Response 2>"
    )
    one, other = "<Response 1>: Hello.\n<Response 2>: So.", "<Response 1>: Hello.\n<Response 2>: Because."
    ahead, behind = sigmoid(pair_rm_margin(made, source, one, other)), sigmoid(pair_rm_margin(made, source, other, one))
    prompt = (Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "Why?"))
    model = loaded({"family": "pair_rm", "source": str(tmp_path)})
    found = model.prefer([prompt], [said("So.")], [said("Because.")]).values
    np.testing.assert_allclose(found, [(ahead + 1 - behind) / 2], **CLOSE)


def test_pair_rm_cuts_the_prompt_before_the_responses_and_says_so(tmp_path: Path) -> None:
    pair_rm(tmp_path)
    model = loaded({"family": "pair_rm", "source": str(tmp_path)}, max_length=100)
    found = model.prefer(PROMPTS[:3], FIRST[:3], SECOND[:3])
    assert found.truncated == 2
    read = model.read(asked(LONG), said("mix flour"), said("wait"))
    assert len(read.ids) == 100
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    text = tokenizer.decode(read.ids)
    assert text.startswith("<s><|source|>")
    assert text.endswith("crisp outside? </s><s><|candidate1|>mix flour</s><s><|candidate2|>wait</s>")
    assert [tokenizer.convert_ids_to_tokens(read.ids[at]) for at in read.marks] == [
        "<|source|>", "<|candidate1|>", "<|candidate2|>",
    ]  # fmt: skip


def test_responses_come_before_the_prompt_where_room_is_short() -> None:
    assert fitted(10, 20, 30, 100) == (10, 20, 30)
    assert fitted(90, 20, 30, 100) == (50, 20, 30)
    assert fitted(90, 20, 90, 100) == (25, 20, 55)
    assert fitted(90, 90, 90, 100) == (25, 37, 37)
    assert fitted(5, 90, 90, 100) == (5, 47, 47)


def steam_shp_p_of_a(made: tuple[Any, Any], post: str, one: str, other: str) -> float:
    model, tokenizer = made
    text = f"POST: {post} \n\n RESPONSE A: {one}\n\n RESPONSE B: {other}\n\n Which response is better? RESPONSE"
    with torch.no_grad():
        ids = tokenizer(text, return_tensors="pt").input_ids
        first = model(input_ids=ids, decoder_input_ids=torch.tensor([[0]])).logits[0, 0].softmax(-1)
    a, b = (first[tokenizer(letter)["input_ids"][0]].item() for letter in "AB")
    return a / (a + b)


def test_steam_shp_is_asked_in_both_orders(tmp_path: Path) -> None:
    made = steam_shp(tmp_path)
    triples = [(one, two[0].content, three[0].content) for one, two, three in zip(ASKED, FIRST, SECOND, strict=True)]
    ahead = np.array([steam_shp_p_of_a(made, one, two, three) for one, two, three in triples])
    behind = np.array([steam_shp_p_of_a(made, one, three, two) for one, two, three in triples])
    assert np.abs(ahead - (1 - behind)).max() > 0.05  # the orders disagree, so their mean is something else than either
    model = loaded({"family": "steam_shp", "source": str(tmp_path)})
    np.testing.assert_allclose(model.prefer(PROMPTS, FIRST, SECOND).values, (ahead + 1 - behind) / 2, **CLOSE)
    one = [model.prefer([a], [b], [c]).values[0] for a, b, c in zip(PROMPTS, FIRST, SECOND, strict=True)]
    np.testing.assert_allclose(one, (ahead + 1 - behind) / 2, **CLOSE)


def test_steam_shp_reads_no_line_breaks_and_cuts_the_post(tmp_path: Path) -> None:
    made = steam_shp(tmp_path)
    model = loaded({"family": "steam_shp", "source": str(tmp_path)})
    found = model.prefer([asked("Why?\nSo?")], [said("one\ntwo")], [said("three")]).values[0]
    ahead, behind = (
        steam_shp_p_of_a(made, "Why? So?", "one two", "three"),
        steam_shp_p_of_a(made, "Why? So?", "three", "one two"),
    )
    assert found == pytest.approx((ahead + 1 - behind) / 2, abs=1e-5)
    read = loaded({"family": "steam_shp", "source": str(tmp_path)}, max_length=80).read(asked(LONG), said("one"), said("two"))
    assert read.truncated
    assert len(read.ids) == 80
    text = made[1].decode(read.ids)
    assert text.startswith("POST:")
    assert text.endswith("outside?  \n\n RESPONSE A: one\n\n RESPONSE B: two\n\n Which response is better? RESPONSE</s>")
