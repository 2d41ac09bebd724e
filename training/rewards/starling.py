"""Starling-RM 7B and 34B: a Llama under transformer.*, a head v_head without bias, the score at the last token.

The shape and the texts are those of the model cards berkeley-nest/Starling-RM-7B-alpha and Nexusflow/Starling-RM-34B. Their
code looks for the first token of the ids that "<unk>" is encoded as; with a tokenizer that adds BOS that is BOS itself, and the
last place of the padded text is read. Here the score is read at a text's own last token, so published numbers may differ.
"""

from typing import ClassVar

from pydantic import Field

from training import loading
from training.rewards import headed, transcripts
from training.rewards.base import Conversation, Scorer, Weighted

_TOKENIZERS = {"llama2": "meta-llama/Llama-2-7b-chat-hf", "yi": "01-ai/Yi-34B-Chat"}
_MARKS = {"llama2": ("<s>", "</s>"), "yi": ("<|im_start|>", "<|im_end|>")}


class Starling(Weighted):
    """Starling-RM 7B or 34B: a Llama with a value head, read at the last token."""

    name: ClassVar[str] = "starling"
    template: ClassVar[str] = "<s>[INST] PROMPT </s> [/INST] RESPONSE</s> (base=llama2), ChatML (base=yi)"
    tokenizer: ClassVar[str] = "that of Llama-2-7b-chat or Yi-34B-Chat"

    base: str = Field("llama2", pattern="^(llama2|yi)$", description="the model it was trained from: llama2 (7B) or yi (34B)")
    tokenizer_source: str = Field(
        "", description="whose tokenizer: a folder or an id on the hub; by default the one in its folder, else that of the base"
    )

    def load(self, *, device: str = "auto") -> Scorer:
        whose = _TOKENIZERS[self.base]
        own = loading.has_tokenizer(loading.place_of(self.source, revision=self.revision))
        # the 7B's checkpoint holds its body twice, under model.* once more
        found = headed.opened(
            self, device, body="transformer.", heads=["v_head.weight"], ignored="model.",
            tokenizer=self.tokenizer_source or ("" if own else whose),
        )  # fmt: skip
        transcripts.check_marks(found.tokenizer, _MARKS[self.base], whose.partition("/")[2])
        render = _LLAMA2 if self.base == "llama2" else _chatml
        return headed.scorer(found, self, headed.linear(found.beside["v_head.weight"]), render)


_LLAMA2 = transcripts.framed(("<s>[INST] ", " </s> [/INST]"), (" ", "</s>"))


def _chatml(prompt: Conversation, response: Conversation) -> str:
    return "\n".join(f"<|im_start|>{role}\n{content}<|im_end|>" for role, content in (*prompt, *response))
