"""DPO policies as implicit rewards, against log-probabilities a token at a time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.reward_checkpoints import ASKED, LONG, PROMPTS, RESPONSES, SAID, SHORT, asked, chatml, loaded, said
from tests.tiny_models import tiny_causal, tiny_tokenizer
from training.rewards.registry import family


@pytest.fixture
def two_policies(tmp_path: Path) -> dict[str, Any]:
    for name, seed in (("policy", 11), ("reference", 12)):
        tiny_tokenizer(tmp_path / name)
        tiny_causal(tmp_path / name, seed=seed)
    return {"family": "implicit", "source": str(tmp_path / "policy"), "reference": str(tmp_path / "reference")}


def log_probability(folder: str, ids: Sequence[int], start: int) -> tuple[float, int]:
    """log p of the tokens from `start` on, a token at a time from a plain forward pass; and how many they are."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        table = model(torch.tensor([list(ids)])).logits[0].double().log_softmax(-1)
    return sum(table[at - 1, ids[at]].item() for at in range(start, len(ids))), len(ids) - start


def implicit_by_hand(settings: dict[str, Any], ask: str, answer: str, *, average: bool = False) -> float:
    tokenizer = AutoTokenizer.from_pretrained(settings["source"])
    before = f"<|im_start|>user\n{ask}<|im_end|>\n<|im_start|>assistant\n"
    begin = [tokenizer.bos_token_id, *tokenizer(before, add_special_tokens=False)["input_ids"]]
    ids = [tokenizer.bos_token_id, *tokenizer(f"{before}{answer}<|im_end|>\n", add_special_tokens=False)["input_ids"]]
    assert ids[: len(begin)] == begin
    ours, count = log_probability(settings["source"], ids, len(begin))
    theirs, _ = log_probability(settings["reference"], ids, len(begin))
    return 0.1 * (ours - theirs) / (count if average else 1)


def test_an_implicit_reward_is_beta_times_the_gain_in_log_probability(two_policies: dict[str, Any]) -> None:
    expected = [implicit_by_hand(two_policies, *both) for both in zip(ASKED, SAID, strict=True)]
    scorer = loaded(two_policies)
    np.testing.assert_allclose(scorer.score(PROMPTS, RESPONSES).values, expected, rtol=1e-5, atol=1e-5)
    alone = [scorer.score([prompt], [response]).values[0] for prompt, response in zip(PROMPTS, RESPONSES, strict=True)]
    np.testing.assert_allclose(alone, expected, rtol=1e-5, atol=1e-5)


def test_tokens_that_responses_share_count_for_each_of_them(two_policies: dict[str, Any]) -> None:
    """Responses that begin alike share a row's beginning beyond their prompt; one is even the beginning of the other."""
    answers = ["mix flour, water and salt, then wait", "mix flour, water and salt, then stir", "mix flour, water and salt"]
    scorer = loaded(two_policies)
    work = scorer.prepare([asked(SHORT)] * 3, [said(one) for one in answers])
    expected = [implicit_by_hand(two_policies, SHORT, one) for one in answers]
    np.testing.assert_allclose(work.all(), expected, rtol=1e-5, atol=1e-5)
    separate = sum(scorer.prepare([asked(SHORT)], [said(one)]).tokens for one in answers)
    assert work.tokens < 0.7 * separate  # the beginning was shared


def test_an_implicit_reward_can_be_a_mean_over_tokens(two_policies: dict[str, Any]) -> None:
    expected = [implicit_by_hand(two_policies, *both, average=True) for both in zip(ASKED, SAID, strict=True)]
    found = loaded(two_policies, average=True).score(PROMPTS, RESPONSES).values
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        loaded(two_policies, average=True, beta=1.0).score(PROMPTS, RESPONSES).values, 10 * found, rtol=1e-5
    )


def test_a_policy_that_is_its_own_reference_rewards_nothing(two_policies: dict[str, Any]) -> None:
    found = loaded({**two_policies, "reference": two_policies["source"]}).score(PROMPTS, RESPONSES)
    np.testing.assert_allclose(found.values, 0, atol=1e-9)


def test_an_implicit_reward_of_a_cut_text_counts_the_response_alone(two_policies: dict[str, Any]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(two_policies["source"])
    text = chatml(LONG, "I do not know")
    answer = tokenizer("I do not know<|im_end|>\n", add_special_tokens=False)["input_ids"]
    ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"][-39:]]
    ours, theirs = (log_probability(two_policies[name], ids, 40 - len(answer))[0] for name in ("source", "reference"))
    found = loaded(two_policies, max_length=40).score([asked(LONG)], [said("I do not know")])
    assert found.truncated == 1
    assert found.values[0] == pytest.approx(0.1 * (ours - theirs), abs=1e-5)


def test_hh_markers_can_stand_in_for_a_chat_template(two_policies: dict[str, Any]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(two_policies["source"])
    ids = tokenizer(f"\n\nHuman: {SHORT}\n\nAssistant: hi")["input_ids"]
    start = len(tokenizer(f"\n\nHuman: {SHORT}\n\nAssistant:")["input_ids"])
    ours, theirs = (log_probability(two_policies[name], ids, start)[0] for name in ("source", "reference"))
    found = loaded(two_policies, conversation="hh").score([asked(SHORT)], [said("hi")])
    assert found.values[0] == pytest.approx(0.1 * (ours - theirs), abs=1e-5)


def test_a_reference_with_other_tokens_is_refused(two_policies: dict[str, Any]) -> None:
    tiny_tokenizer(Path(two_policies["reference"]), pad="")  # every later token has another id
    with pytest.raises(ValueError, match=r"cannot be the reference of .* the id 380, the policy's 381; expected one tokenizer"):
        loaded(two_policies)
    with pytest.raises(ValueError, match="reference is None"):
        family("implicit", {"source": two_policies["source"], "reference": None})
