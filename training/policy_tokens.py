"""Which tokens end a policy's responses, and which one pads its batches."""

from collections.abc import Sequence
from typing import Any

from training.rewards import transcripts
from training.rewards.base import Message

_ANSWER = "a plain answer"
_PADS = ("<pad>", "[PAD]", "<|pad|>", "<|padding|>", "<|finetune_right_pad_id|>", "<|endoftext|>", "<unk>")


def stops_of(tokenizer: Any, model: Any, rows: int) -> tuple[int, ...]:
    """The tokens that end a response: the tokenizer's EOS, those of the model's generation config, and what the chat
    template writes after an answer."""
    told = model.generation_config.eos_token_id
    found = [tokenizer.eos_token_id, *(told if isinstance(told, list) else [told]), _end_of_turn(tokenizer)]
    stops = dict.fromkeys(int(one) for one in found if one is not None and 0 <= one < rows)
    if not stops and tokenizer.chat_template:
        raise ValueError(
            f"the tokenizer of {tokenizer.name_or_path!r} has neither an EOS token nor a chat template that ends an answer "
            "with one: expected a token that ends a response"
        )
    return tuple(stops)


def _end_of_turn(tokenizer: Any) -> int | None:
    """The added token that the chat template writes right after an answer."""
    if not tokenizer.chat_template:
        return None
    asked, answer = (Message("user", "a question"),), (Message("assistant", _ANSWER),)
    after = transcripts.chat_template(tokenizer)(asked, answer).rpartition(_ANSWER)[2]
    ids = tokenizer(after.lstrip(), add_special_tokens=False)["input_ids"]
    return ids[0] if ids and ids[0] in tokenizer.added_tokens_decoder else None


def set_padding(tokenizer: Any, model: Any, stops: Sequence[int], rows: int) -> int:
    """Give tokenizer and model a padding token that ends no response, and return its id.

    A special token where there is one; else the last of the vocabulary: which token it is changes nothing where padding is
    masked by lengths, but one without an embedding could not be computed.
    """
    known = tokenizer.get_vocab()
    special = [str(one) for one in tokenizer.added_tokens_decoder.values() if one.special]
    plain = sorted(known, key=lambda token: known[token], reverse=True)
    names = [tokenizer.pad_token, *_PADS, tokenizer.unk_token, *special, *plain]
    begin = transcripts.begin_of(tokenizer)
    fit = [name for name in names if name in known and known[name] < rows and known[name] not in {*stops, begin}]
    if not fit:
        raise ValueError(f"every token of {tokenizer.name_or_path!r} ends a response: expected one to pad with")
    tokenizer.pad_token = fit[0]
    model.config.get_text_config().pad_token_id = model.config.pad_token_id = known[fit[0]]
    return int(known[fit[0]])
