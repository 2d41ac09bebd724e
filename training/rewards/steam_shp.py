"""SteamSHP: a FLAN-T5 that is asked which of two responses is better and answers A or B.

The text and the limit of 512 tokens are those of the model card stanfordnlp/SteamSHP-flan-t5-xl, which asks for texts
without line breaks.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from training import loading
from training.rewards.base import Comparer, Conversation, Numbers, Weighted
from training.rewards.both_orders import LENGTH, BothOrders, Read, budget_of, fitted, padded
from training.rewards.classifier import opening

_LENGTH = 512
_QUESTION = "\n\n Which response is better? RESPONSE"


class SteamSHP(Weighted):
    """SteamSHP: a T5 that answers which of two responses is better; here always asked in both orders."""

    name: ClassVar[str] = "steam_shp"
    compares: ClassVar[bool] = True
    template: ClassVar[str] = "POST: PROMPT RESPONSE A: RESPONSE RESPONSE B: RESPONSE Which response is better? RESPONSE"

    max_length: int | None = Field(None, ge=64, description=LENGTH.format(_LENGTH))

    def load(self, *, device: str = "auto") -> Comparer:
        from transformers import AutoModelForSeq2SeqLM

        where, place, _ = opening(self, device)
        tokenizer = loading.tokenizer_of(place)
        model, missing = loading.opened(AutoModelForSeq2SeqLM, place, where, loading.dtype_of(self.dtype, where))
        if missing:
            raise ValueError(f"{self.source!r} is no steam_shp model: its files lack {', '.join(missing[:3])}")
        loading.check_vocabulary(tokenizer, model.get_input_embeddings().weight.shape[0], self.source)
        letters = [tokenizer(letter, add_special_tokens=False)["input_ids"] for letter in "AB"]
        if any(len(one) != 1 for one in letters) or letters[0] == letters[1]:
            raise ValueError(f"the tokenizer of {self.source!r} reads A and B as {letters}: expected a token of each")
        return _Compared(
            model, tokenizer, [one[0] for one in letters], max_length=self.max_length or _LENGTH,
            batch_tokens=self.batch_tokens,
        )  # fmt: skip


class _Compared(BothOrders):
    def __init__(self, model: Any, tokenizer: Any, letters: Sequence[int], *, max_length: int, batch_tokens: int) -> None:
        self._model, self._tokenizer, self._letters, self._max_length = model, tokenizer, list(letters), max_length
        self.budget = budget_of(batch_tokens, model.device.type)

    def read(self, prompt: Conversation, first: Conversation, second: Conversation) -> Read:
        post, one, other = _line(prompt), _line(first), _line(second)
        whole = self._tokenizer(f"POST: {post} \n\n RESPONSE A: {one}\n\n RESPONSE B: {other}{_QUESTION}")["input_ids"]
        if len(whole) <= self._max_length:
            return Read(whole, False)
        begin, asked, said, replied, question = (
            self._tokenizer(text, add_special_tokens=False)["input_ids"]
            for text in ("POST:", f" {post}", f" \n\n RESPONSE A: {one}", f"\n\n RESPONSE B: {other}", _QUESTION)
        )
        question = [*question, self._tokenizer.eos_token_id]
        kept = fitted(len(asked), len(said), len(replied), self._max_length - len(begin) - len(question))
        return Read([*begin, *asked[len(asked) - kept[0] :], *said[: kept[1]], *replied[: kept[2]], *question], True)

    def wins(self, texts: Sequence[Read]) -> Numbers:
        """P(A) among A and B for the first token of the answer."""
        import torch

        tokens, mask = padded([one.ids for one in texts], self._tokenizer.pad_token_id, self._model.device)
        start = torch.full((len(texts), 1), self._model.config.decoder_start_token_id, device=tokens.device)
        with torch.inference_mode():
            logits = self._model(input_ids=tokens, attention_mask=mask, decoder_input_ids=start, use_cache=False).logits
        first, second = logits[:, 0, self._letters].float().T
        return np.asarray(torch.sigmoid(first - second).cpu().numpy(), np.float64)


def _line(conversation: Conversation) -> str:
    return " ".join(" ".join(one.content.splitlines()) for one in conversation)
