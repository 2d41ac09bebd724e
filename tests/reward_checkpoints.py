"""Tiny checkpoints of every family of reward models, each with its numbers by plain transformers code."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch.nn.functional import linear
from transformers import AutoTokenizer

from tests.tiny_models import change_config, tiny_classifier, tiny_headed, tiny_t5, tiny_tokenizer, write_weights
from training.rewards.base import Conversation, Message
from training.rewards.registry import family

CLOSE = {"rtol": 0, "atol": 1e-5}

SHORT, LONG = "Hello", "how do I make bread that is crisp outside? " * 4
ASKED = [LONG, LONG, SHORT, SHORT, "Why?", LONG]
SAID = ["mix flour and water, then wait. " * 5, "I do not know", "hi", "", "Human: it depends", "mix flour"]


def said(text: str) -> Conversation:
    return (Message("assistant", text),)


def asked(text: str) -> Conversation:
    return (Message("user", text),)


PROMPTS, RESPONSES = [asked(one) for one in ASKED], [said(one) for one in SAID]


class Decoder(NamedTuple):
    """A family on a folder, its text by hand (without BOS), the ids before a text, and its number from the last state."""

    settings: dict[str, Any]
    text: Callable[[str, str], str]
    body: Any
    number: Callable[[torch.Tensor], torch.Tensor]
    bos: bool = True


def starling(folder: Path) -> Decoder:
    tiny_tokenizer(folder)
    body, beside = tiny_headed(folder, prefix="transformer.", heads={"v_head.weight": (1, 64)})
    return Decoder(
        {"family": "starling"}, lambda asked, said: f"[INST] {asked} </s> [/INST] {said}</s>", body,
        lambda state: linear(state, beside["v_head.weight"])[0],
    )  # fmt: skip


def starling_34b(folder: Path) -> Decoder:
    tiny_tokenizer(folder, adds="")
    body, beside = tiny_headed(folder, prefix="transformer.", heads={"v_head.weight": (1, 64)}, seed=1)
    return Decoder(
        {"family": "starling", "base": "yi"},
        lambda asked, said: f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n{said}<|im_end|>",
        body, lambda state: linear(state, beside["v_head.weight"])[0], bos=False,
    )  # fmt: skip


def ultra(folder: Path) -> Decoder:
    tiny_tokenizer(folder)
    body, beside = tiny_headed(folder, prefix="model.", heads={"regression_head.weight": (1, 64)}, seed=2)
    return Decoder(
        {"family": "ultra"}, lambda asked, said: f"Human: {asked}\nAssistant: {said}", body,
        lambda state: linear(state, beside["regression_head.weight"])[0],
    )  # fmt: skip


def eurus(folder: Path) -> Decoder:
    tiny_tokenizer(folder)
    heads = {"regression_head.weight": (1, 64)}
    body, beside = tiny_headed(folder, prefix="model.", heads=heads, kind="mistral", seed=3)
    return Decoder(
        {"family": "eurus"}, lambda asked, said: f"[INST] {asked} [/INST] {said}", body,
        lambda state: linear(state, beside["regression_head.weight"])[0],
    )  # fmt: skip


def ziya(folder: Path) -> Decoder:
    tiny_tokenizer(folder)
    body, beside = tiny_headed(folder, prefix="model.", heads={"value_head.weight": (1, 64)}, seed=4)
    return Decoder(
        {"family": "ziya"}, lambda asked, said: f"Human:{asked}\n\nAssistant:{said}</s>", body,
        lambda state: linear(state, beside["value_head.weight"])[0],
    )  # fmt: skip


def ziya_of_four_rows(folder: Path) -> Decoder:
    made = ziya(folder)
    weights = torch.randn(4, 64)
    write_weights(
        folder, {f"model.{name}": one for name, one in made.body.state_dict().items()} | {"value_head.weight": weights}
    )
    return made._replace(number=lambda state: linear(state, weights).mean())


def beaver(folder: Path) -> Decoder:
    tiny_tokenizer(folder)
    heads = {"score_head.weight": (1, 64), "score_head.bias": (1,)}
    body, beside = tiny_headed(folder, prefix="model.", heads=heads, seed=5, config={"score_type": "reward"})
    return Decoder(
        {"family": "beaver"}, lambda asked, said: f"BEGINNING OF CONVERSATION: USER: {asked} ASSISTANT:{said}</s>", body,
        lambda state: linear(state, beside["score_head.weight"], beside["score_head.bias"])[0],
    )  # fmt: skip


def beaver_normalized(folder: Path) -> Decoder:
    made = beaver(folder)
    change_config(folder, do_normalize=True, mean=[0.5], var=[4.0])
    return made._replace(number=lambda state: (made.number(state) - 0.5) / 2)


def beaver_cost(folder: Path) -> Decoder:
    tiny_tokenizer(folder)
    heads = {"score_head.weight": (1, 64), "normalizer.mean": (1,), "normalizer.var": (1,), "normalizer.count": (1,)}
    config = {"score_type": "cost", "do_normalize": True}
    body, beside = tiny_headed(folder, prefix="model.", heads=heads, seed=6, config=config)
    scale = torch.tensor([2.25])
    weights = {**{f"model.{name}": one for name, one in body.state_dict().items()}, **beside, "normalizer.var": scale}
    write_weights(folder, weights)
    return Decoder(
        {"family": "beaver", "cost": True},
        lambda asked, said: f"BEGINNING OF CONVERSATION: USER: {asked} ASSISTANT:{said}</s>", body,
        lambda state: -linear(state, beside["score_head.weight"])[0] / 1.5,
    )  # fmt: skip


def chatml(asked: str, said: str) -> str:
    return f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n{said}<|im_end|>\n"


def classifier(kind: str, **changed: Any) -> Callable[[Path], Decoder]:
    def made(folder: Path) -> Decoder:
        tiny_tokenizer(folder)
        model = tiny_classifier(folder, kind=kind, seed=7, **changed)
        return Decoder({"family": "classifier"}, chatml, model.base_model, lambda state: model.score(state)[0])

    return made


DECODERS = {
    "starling": starling, "starling-34b": starling_34b, "ultra": ultra, "eurus": eurus, "ziya": ziya,
    "ziya-of-four-rows": ziya_of_four_rows, "beaver": beaver, "beaver-normalized": beaver_normalized,
    "beaver-cost": beaver_cost, "classifier-llama": classifier("llama"), "classifier-gpt2": classifier("gpt2"),
    "classifier-window": classifier("mistral", sliding_window=24),
}  # fmt: skip


def loaded(settings: dict[str, Any], **more: Any) -> Any:
    """The model of these settings, on the CPU."""
    named = {**settings, **more}
    return family(named.pop("family"), named).load(device="cpu")


def ids_by_hand(decoder: Decoder, text: str) -> list[int]:
    tokenizer = AutoTokenizer.from_pretrained(decoder.settings["source"])
    begin = [tokenizer.bos_token_id] if decoder.bos else []
    return [*begin, *tokenizer(text, add_special_tokens=False)["input_ids"]]


def by_hand(decoder: Decoder, ids: Sequence[int]) -> float:
    with torch.no_grad():
        return decoder.number(decoder.body(torch.tensor([list(ids)])).last_hidden_state[0, -1].float()).item()


def refusal(settings: dict[str, Any], **more: Any) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011  the sentence is what is looked at
        loaded(settings, **more)
    assert "\n" not in str(error.value)
    return str(error.value)


def pair_rm(folder: Path) -> tuple[Any, dict[str, torch.Tensor], Any]:
    tokenizer = tiny_tokenizer(folder, adds="pair", chat_template="")
    heads = {
        "head_layer.1.weight": (64, 128),
        "head_layer.1.bias": (64,),
        "head_layer.4.weight": (2, 64),
        "head_layer.4.bias": (2,),
    }
    marks = {
        "source_prefix_id": tokenizer.convert_tokens_to_ids("<|source|>"),
        "cand1_prefix_id": tokenizer.convert_tokens_to_ids("<|candidate1|>"),
        "cand2_prefix_id": tokenizer.convert_tokens_to_ids("<|candidate2|>"),
        "n_tasks": 2, "drop_out": 0.05,
    }  # fmt: skip
    body, beside = tiny_headed(folder, prefix="pretrained_model.", heads=heads, kind="deberta-v2", seed=9, config=marks)
    return body, beside, AutoTokenizer.from_pretrained(folder)


def steam_shp(folder: Path) -> tuple[Any, Any]:
    tiny_tokenizer(folder, adds="eos", bos="", chat_template="")
    return tiny_t5(folder, seed=10), AutoTokenizer.from_pretrained(folder)
