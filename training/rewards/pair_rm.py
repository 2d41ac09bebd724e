"""PairRM (arXiv 2306.02561): a DeBERTa that reads an instruction and two candidates and says which is better.

The shape and the texts are those of llm-blender/PairRM-hf: three parts, each between [CLS] and [SEP] and begun by a mark; a
candidate's number comes from the states at the instruction's mark and at its own. Conversations are written as its authors'
comparison of conversations does.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from training.rewards import headed, transcripts
from training.rewards.base import Comparer, Conversation, Numbers, Weighted
from training.rewards.both_orders import LENGTH, BothOrders, Read, budget_of, fitted, padded

if TYPE_CHECKING:
    import torch

_MARKS = {"<|source|>": "source_prefix_id", "<|candidate1|>": "cand1_prefix_id", "<|candidate2|>": "cand2_prefix_id"}
_HEADS = ("head_layer.1.weight", "head_layer.1.bias", "head_layer.4.weight", "head_layer.4.bias")
_INSTRUCTION = "Finish the following coversation in each i-th turn by filling in <Response i> with your response."  # sic
_LENGTH = 2048  # of its training: 1,224 for the instruction and 412 for each candidate


class PairRM(Weighted):
    """PairRM: a DeBERTa that compares two responses; here always in both orders."""

    name: ClassVar[str] = "pair_rm"
    compares: ClassVar[bool] = True
    template: ClassVar[str] = "<|source|>PROMPT <|candidate1|>RESPONSE <|candidate2|>RESPONSE"

    max_length: int | None = Field(None, ge=64, description=LENGTH.format(_LENGTH))

    def load(self, *, device: str = "auto") -> Comparer:
        found = headed.opened(self, device, body="pretrained_model.", heads=_HEADS)
        _check_marks(self.source, found)
        return _Compared(found, max_length=self.max_length or _LENGTH, batch_tokens=self.batch_tokens)


class _Compared(BothOrders):
    def __init__(self, found: headed.Headed, *, max_length: int, batch_tokens: int) -> None:
        self._found, self._max_length = found, max_length
        self.budget = budget_of(batch_tokens, found.where.type)

    def read(self, prompt: Conversation, first: Conversation, second: Conversation) -> Read:
        if len(prompt) == 1 and len(first) == 1 and len(second) == 1:
            texts = prompt[0].content, first[0].content, second[0].content
        else:
            texts = _asked(prompt, first), _answered(prompt, first), _answered(prompt, second)
        source, one, other = (self._found.tokenizer(mark + text)["input_ids"] for mark, text in zip(_MARKS, texts, strict=True))
        whole = len(source) + len(one) + len(other)
        kept = fitted(len(source), len(one), len(other), self._max_length)
        source = source if len(source) <= kept[0] else [*source[:2], *source[len(source) - kept[0] + 2 :]]
        one, other = (
            part if len(part) <= keep else [*part[: keep - 1], part[-1]]
            for part, keep in zip((one, other), kept[1:], strict=True)
        )
        marks = (1, len(source) + 1, len(source) + len(one) + 1)
        return Read([*source, *one, *other], whole > self._max_length, marks)

    def wins(self, texts: Sequence[Read]) -> Numbers:
        import torch

        tokens, mask = padded([one.ids for one in texts], self._found.tokenizer.pad_token_id, self._found.where)
        with torch.inference_mode():
            states = self._found.body(input_ids=tokens, attention_mask=mask).last_hidden_state.float()
        rows = torch.arange(len(texts), device=states.device)
        marks = torch.tensor([one.marks for one in texts], device=states.device)
        source, one, other = (states[rows, at] for at in marks.T)
        margin = self._scores(source, one) - self._scores(source, other)
        return np.asarray(torch.sigmoid(margin).cpu().numpy(), np.float64)

    def _scores(self, source: "torch.Tensor", candidate: "torch.Tensor") -> "torch.Tensor":
        """A candidate's number, (n,): two layers on both states, the mean over what the head rates."""
        import torch

        inner, inner_bias, outer, outer_bias = (self._found.beside[name] for name in _HEADS)
        linear = torch.nn.functional.linear
        return linear(torch.tanh(linear(torch.cat([source, candidate], -1), inner, inner_bias)), outer, outer_bias).mean(-1)


def _asked(prompt: Conversation, response: Conversation) -> str:
    """The conversation with a numbered gap in place of each answer."""
    turns = transcripts.in_turns((*prompt, *response))
    asked = [one.content for one in turns if one.role == "user"]
    return _INSTRUCTION + "\n".join(f"USER: {one}\nAssistant: <Response {place}>" for place, one in enumerate(asked, start=1))


def _answered(prompt: Conversation, response: Conversation) -> str:
    """The answers that fill the gaps."""
    turns = transcripts.in_turns((*prompt, *response))
    said = [one.content for one in turns if one.role == "assistant"]
    return "\n".join(f"<Response {place}>: {one}" for place, one in enumerate(said, start=1))


def _check_marks(source: str, found: headed.Headed) -> None:
    """Raise ValueError where the tokenizer does not give the marks that the config names."""
    for mark, name in _MARKS.items():
        wanted: Any = getattr(found.body.config, name, None)
        given = found.tokenizer(mark)["input_ids"]
        if wanted is None or len(given) != 3 or given[1] != wanted:
            raise ValueError(
                f"{source!r} is no pair_rm model: its tokenizer reads {mark} as {given}, and its config.json says {name} is "
                f"{wanted}"
            )
