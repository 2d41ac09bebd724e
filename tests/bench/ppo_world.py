"""What the PPO benchmark learns in: a policy that speaks a language of 64 words, or SmolLM2, and a reward model made by hand.

Each word of the language is followed by one of eight, so many times each as a seed says, and one in twelve times by the end.
The reward model is a sequence classifier of one layer whose attention is even: its score is proportional to the mean worth of
the tokens it reads, prompt included, where a token's worth is drawn with a seed and that of special tokens is 0.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from tests.bench import data
from training.policies import opened
from training.rewards.base import Conversation, Message

_WORDS, _AFTER, _END = 64, 8, 1 / 12
_SPECIAL = ("<pad>", "<unk>", "<s>", "</s>", "<asked>", "<answer>")
_TEMPLATE = (
    "<s>{% for one in messages %}{{ ' <asked> ' if one['role'] == 'user' else ' <answer> ' }}{{ one['content'] }}"
    "{% if one['role'] != 'user' %} </s>{% endif %}{% endfor %}{% if add_generation_prompt %} <answer>{% endif %}"
)
_STEPS, _BATCH, _RATE = 200, 64, 4e-3
_WIDTH, _LARGE, _SCORE = 16, 40.0, 8.0  # of the reward model: width, a constant that evens out its norms, score per worth


class World(NamedTuple):
    """Folders of the start and of the reward model, and the prompts."""

    start: Path
    reward: Path
    train: list[Conversation]
    held_out: list[Conversation]


def tiny(folder: Path, *, layers: int = 4, hidden: int = 128, train: int = 1024, held_out: int = 256) -> World:
    """A llama of so many layers that was taught the language, and prompts of four to twelve words of it."""
    chain = _Chain(np.random.default_rng(0))
    tokenizer = _tokenizer(folder / "start")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=2 * hidden, max_position_embeddings=128, bos_token_id=2, eos_token_id=3, pad_token_id=0,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    _teach(model, tokenizer, chain)
    model.save_pretrained(folder / "start")
    _reward(folder / "reward", tokenizer, len(tokenizer), np.random.default_rng(1))
    prompts: list[Conversation] = [(Message("user", chain.prompt()),) for _ in range(train + held_out)]
    return World(folder / "start", folder / "reward", prompts[:train], prompts[train:])


def smollm2(folder: Path, *, train: int = 64, held_out: int = 32) -> World:
    """SmolLM2-135M-Instruct, and HH-RLHF's first questions (the project's sample without them)."""
    policy = opened("smollm2", precision="float32", device="cpu")
    policy.save(folder / "start")
    policy.tokenizer.save_pretrained(folder / "start")  # with a padding token that does not end a response, for both sides
    _reward(folder / "reward", policy.tokenizer, len(policy.tokenizer), np.random.default_rng(1))
    asked = dict.fromkeys(one.split("\n\nAssistant:")[0].removeprefix("\n\nHuman: ") for one, _ in data.real_rows()[1])
    short: list[Conversation] = [(Message("user", one),) for one in asked if 20 < len(one) < 160]
    chosen = np.random.default_rng(0).permutation(len(short))[: train + held_out]
    prompts = [short[place] for place in chosen]
    return World(folder / "start", folder / "reward", prompts[:train], prompts[train:])


class _Chain:
    """The language: which words follow which, and how often."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._next = np.stack([rng.permutation(_WORDS)[:_AFTER] for _ in range(_WORDS)])
        self._shares = rng.dirichlet(np.ones(_AFTER), size=_WORDS)

    def after(self, word: int) -> int:
        return int(self._rng.choice(self._next[word], p=self._shares[word]))

    def prompt(self) -> str:
        words = [int(self._rng.integers(_WORDS))]
        for _ in range(int(self._rng.integers(3, 12))):
            words.append(self.after(words[-1]))
        return _written(words)

    def answer(self, prompt: str) -> str:
        words, last = [], int(prompt.split()[-1][1:])
        while not words or self._rng.random() > _END:
            last = self.after(last)
            words.append(last)
        return _written(words[:40])


def _written(words: Sequence[int]) -> str:
    return " ".join(f"w{word:02d}" for word in words)


def _tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """A token a word: what is decoded and read again gives the same tokens."""
    names = [*_SPECIAL, *(f"w{word:02d}" for word in range(_WORDS))]
    made = Tokenizer(WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(list(_SPECIAL))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        additional_special_tokens=["<asked>", "<answer>"], padding_side="left", clean_up_tokenization_spaces=False,
    )  # fmt: skip
    tokenizer.chat_template = _TEMPLATE
    tokenizer.save_pretrained(folder)
    return tokenizer


def _teach(model: Any, tokenizer: Any, chain: _Chain) -> None:
    """Show the model conversations of the language until it speaks it."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE)
    for step in range(_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (1 - step / _STEPS)
        prompts = [chain.prompt() for _ in range(_BATCH)]
        texts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": one}, {"role": "assistant", "content": chain.answer(one)}], tokenize=False
            )
            for one in prompts
        ]
        read = tokenizer(texts, padding=True, padding_side="right", return_tensors="pt", add_special_tokens=False)
        labels = read["input_ids"].masked_fill(read["attention_mask"] == 0, -100)
        loss = model(input_ids=read["input_ids"], attention_mask=read["attention_mask"], labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _reward(folder: Path, tokenizer: Any, rows: int, rng: np.random.Generator) -> None:
    """The classifier: column 0 of an embedding is the token's worth, attention writes its mean to column 1, where the head
    reads; column 2 is large and constant, so that the norms divide by a constant."""
    config = LlamaConfig(
        vocab_size=rows, hidden_size=_WIDTH, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1,
        intermediate_size=_WIDTH, max_position_embeddings=8192, num_labels=1, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = AutoModelForSequenceClassification.from_config(config)
    worth = rng.standard_normal(rows).clip(-2, 2)
    worth[[*tokenizer.all_special_ids, *tokenizer("\n", add_special_tokens=False)["input_ids"]]] = 0
    layer, back = model.model.layers[0], _LARGE / _WIDTH**0.5
    with torch.no_grad():
        for one in (
            *layer.self_attn.parameters(),
            *layer.mlp.parameters(),
            model.model.embed_tokens.weight,
            model.score.weight,
        ):
            one.zero_()
        model.model.embed_tokens.weight[:, 0] = torch.tensor(worth, dtype=torch.float32)
        model.model.embed_tokens.weight[:, 2] = _LARGE
        layer.self_attn.v_proj.weight[0, 0] = back
        layer.self_attn.o_proj.weight[1, 0] = 1.0
        model.score.weight[0, 1] = _SCORE * back
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
