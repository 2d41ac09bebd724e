"""Ziya-LLaMA-7B-Reward: a Llama under model.*, a head value_head without bias, the score at the last token.

The text is that of the model card IDEA-CCNL/Ziya-LLaMA-7B-Reward, whose tokenizer ends every text with </s>. Files written for
several devices hold a row of the head for each; their mean is the score.
"""

from typing import ClassVar

from training.rewards import headed, transcripts
from training.rewards.base import Scorer, Weighted


class Ziya(Weighted):
    """Ziya-LLaMA-7B-Reward: a Llama with a value head, read at the end-of-text token."""

    name: ClassVar[str] = "ziya"
    template: ClassVar[str] = "Human:PROMPT, an empty line, Assistant:RESPONSE</s>"

    def load(self, *, device: str = "auto") -> Scorer:
        found = headed.opened(self, device, body="model.", heads=["value_head.weight"])
        transcripts.check_marks(found.tokenizer, ["</s>"], "Ziya-LLaMA")
        render = transcripts.spoken("Human:", "Assistant:", between="\n\n", end="</s>")
        return headed.scorer(found, self, headed.linear(found.beside["value_head.weight"]), render)
