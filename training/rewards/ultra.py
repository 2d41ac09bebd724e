"""UltraRM and Eurus-RM, of one shape: the body under model.*, a head regression_head without bias, the score at the last token.

The texts are those of the model cards openbmb/UltraRM-13b and openbmb/Eurus-RM-7b: neither ends in an end-of-text token.
"""

from typing import ClassVar

from training.rewards import headed, transcripts
from training.rewards.base import Scorer, Weighted


class Ultra(Weighted):
    """UltraRM: a Llama with a regression head, read at the last token."""

    name: ClassVar[str] = "ultra"
    template: ClassVar[str] = "Human: PROMPT, a line, Assistant: RESPONSE"

    def load(self, *, device: str = "auto") -> Scorer:
        return _opened(self, device, transcripts.spoken("Human: ", "Assistant: ", between="\n"))


class Eurus(Weighted):
    """Eurus-RM: a Mistral with a regression head, read at the last token."""

    name: ClassVar[str] = "eurus"
    template: ClassVar[str] = "that of Mistral-Instruct: [INST] PROMPT [/INST] RESPONSE"

    def load(self, *, device: str = "auto") -> Scorer:
        return _opened(self, device, transcripts.framed(("[INST] ", " [/INST]"), (" ", "</s>"), last=""))


def _opened(family: Weighted, device: str, render: transcripts.Render) -> Scorer:
    found = headed.opened(family, device, body="model.", heads=["regression_head.weight"])
    return headed.scorer(found, family, headed.linear(found.beside["regression_head.weight"]), render)
