"""Tiny random models of real architectures, written to a folder as people publish them: safetensors, config, tokenizer.

Two layers of width 64, weights drawn with a seed and large enough that different texts get clearly different numbers.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKS = ("<|im_start|>", "<|im_end|>", "<|source|>", "<|candidate|>", "<|candidate1|>", "<|candidate2|>")
WORDS = (
    "the quick brown fox jumps over the lazy dog",
    "Human: how do I make bread? Assistant: mix flour, water, salt and yeast, then wait.",
    "user assistant USER: ASSISTANT: BEGINNING OF CONVERSATION: POST: RESPONSE A: RESPONSE B: Which response is better?",
)
_FRAMES = {"": "$A", "bos": "{bos} $A", "eos": "$A {eos}", "pair": "{bos} $A {eos}"}

_SMALL: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 2, "intermediate_size": 96},
    "mistral": {"num_key_value_heads": 2, "intermediate_size": 96, "sliding_window": None, "head_dim": 16},
    "gpt2": {"n_inner": 96, "bos_token_id": 381, "eos_token_id": 382},
    "deberta-v2": {
        "intermediate_size": 96, "relative_attention": True, "position_buckets": 16, "pos_att_type": ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm", "share_att_key": True, "position_biased_input": False, "type_vocab_size": 0,
    },
    "t5": {"d_kv": 16, "d_ff": 96, "decoder_start_token_id": 0, "feed_forward_proj": "gated-gelu"},
}  # fmt: skip


def tiny_tokenizer(
    folder: Path, *, chat_template: str = CHATML, bos: str = "<s>", eos: str = "</s>", pad: str = "<pad>", adds: str = "bos"
) -> PreTrainedTokenizerFast:
    """Write a byte-level BPE of 400 tokens. `adds` is what it puts around a text by itself: "", bos, eos, or pair.

    With pair a text is written as BERT does: beginning, text, end, and for two texts the second and another end. A special
    token that is "" does not exist.
    """
    specials = [one for one in (pad, bos, eos) if one]
    made = Tokenizer.from_str(_trained())
    made.add_special_tokens([*specials, *MARKS])
    frame = _FRAMES[adds].format(bos=bos, eos=eos)
    made.post_processor = processors.TemplateProcessing(
        single=frame,
        pair=f"{frame} $B:1 {eos}:1" if adds == "pair" else f"{frame} $B:1",
        special_tokens=[(one, made.token_to_id(one)) for one in specials],
    )
    named = {"bos_token": bos, "eos_token": eos, "pad_token": pad}
    if adds == "pair":
        named = {"cls_token": bos, "sep_token": eos, "pad_token": pad}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, **{name: one for name, one in named.items() if one})
    tokenizer.chat_template = chat_template or None
    tokenizer.save_pretrained(folder)
    return tokenizer


@cache
def _trained() -> str:
    """The tokenizer without special tokens, as JSON. Id 0 is <unk>, as in many."""
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=380, special_tokens=["<unk>"], initial_alphabet=alphabet, show_progress=False, min_frequency=1
    )
    made.train_from_iterator(WORDS, trainer)
    return str(made.to_str())


def tiny_config(kind: str, **changed: Any) -> PretrainedConfig:
    """The config of a tiny model of this kind: llama, mistral, gpt2, deberta-v2 or t5."""
    width = {"gpt2": ("n_embd", "n_layer", "n_head"), "t5": ("d_model", "num_layers", "num_heads")}.get(
        kind, ("hidden_size", "num_hidden_layers", "num_attention_heads")
    )
    longest = {"gpt2": "n_positions"}.get(kind, "max_position_embeddings")
    spread = "initializer_factor" if kind == "t5" else "initializer_range"
    settings = {
        "vocab_size": 512, **dict(zip(width, (64, 2, 4), strict=True)), longest: 512, spread: 1.0 if kind == "t5" else 0.15,
        **_SMALL[kind], **changed,
    }  # fmt: skip
    return AutoConfig.for_model(kind, **settings)


def tiny_causal(folder: Path, *, kind: str = "llama", seed: int = 0, **changed: Any) -> PreTrainedModel:
    """A causal language model."""
    return _saved(AutoModelForCausalLM, folder, tiny_config(kind, **changed), seed)


def tiny_classifier(folder: Path, *, kind: str = "llama", seed: int = 0, labels: int = 1, **changed: Any) -> PreTrainedModel:
    """A sequence classifier."""
    config = tiny_config(kind, num_labels=labels, pad_token_id=changed.pop("pad_token_id", 380), **changed)
    return _saved(AutoModelForSequenceClassification, folder, config, seed)


def tiny_t5(folder: Path, *, seed: int = 0, **changed: Any) -> PreTrainedModel:
    """A T5 that reads a text and writes one."""
    return _saved(AutoModelForSeq2SeqLM, folder, tiny_config("t5", **changed), seed)


def tiny_headed(
    folder: Path,
    *,
    prefix: str,
    heads: Mapping[str, Sequence[int]],
    kind: str = "llama",
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
    **changed: Any,
) -> tuple[PreTrainedModel, dict[str, torch.Tensor]]:
    """A model whose body's weights begin with `prefix`, and weights of these names and shapes beside it.

    Returns the body and those weights. `config` is written into config.json besides what transformers knows.
    """
    torch.manual_seed(seed)
    body = AutoModel.from_config(tiny_config(kind, **changed)).eval()
    beside = {name: torch.randn(*shape) / 4 for name, shape in heads.items()}
    write_weights(folder, {**{prefix + name: one for name, one in body.state_dict().items()}, **beside})
    body.config.save_pretrained(folder)
    change_config(folder, **dict(config or {}))
    return body, beside


def write_weights(folder: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """These weights as the folder's only file of weights."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: one.detach().clone().contiguous() for name, one in weights.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )


def change_config(folder: Path, **changed: Any) -> None:
    """Write these values into config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def _saved(auto: Any, folder: Path, config: PretrainedConfig, seed: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    model: PreTrainedModel = auto.from_config(config).eval()
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.1)  # zero biases would hide a lost one
    model.save_pretrained(folder)
    return model
