"""Beaver reward and cost, of Safe RLHF (arXiv 2310.12773): a Llama under model.*, a head score_head, the score at </s>.

The text and the normalizer are those that the paper's code trains with (PKU-Alignment/safe-rlhf): a reward is normalized to
mean 0 and standard deviation 1, a cost is divided by its standard deviation only, so that its sign still says unsafe or safe.
"""

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from training.rewards import headed, transcripts
from training.rewards.base import Scorer, Weighted
from training.rewards.decoder import Head

if TYPE_CHECKING:
    import torch

_NORMALIZER = ("normalizer.mean", "normalizer.var", "normalizer.count")
_SMALL = 1e-8  # added to the standard deviation


class Beaver(Weighted):
    """Beaver reward, or Beaver cost, which counts negative: what costs more is worse."""

    name: ClassVar[str] = "beaver"
    template: ClassVar[str] = "BEGINNING OF CONVERSATION: USER: PROMPT ASSISTANT:RESPONSE</s>"

    cost: bool = Field(False, description="whether it is the cost model, whose score counts negative")

    def load(self, *, device: str = "auto") -> Scorer:
        found = headed.opened(
            self, device, body="model.", heads=["score_head.weight"], optional=["score_head.bias", *_NORMALIZER]
        )
        transcripts.check_marks(found.tokenizer, ["</s>"], "Beaver")
        kind = getattr(found.body.config, "score_type", None)
        if kind is not None and (kind == "cost") != self.cost:
            raise ValueError(
                f"{self.source!r} says it is a {kind} model (score_type in its config.json): expected "
                f"cost={'true' if kind == 'cost' else 'false'}"
            )
        if len(found.beside["score_head.weight"]) != 1:
            raise ValueError(f"{self.source!r} gives {len(found.beside['score_head.weight'])} scores: expected one")
        render = transcripts.framed(("USER: ", " ASSISTANT:"), ("", "</s>"), before="BEGINNING OF CONVERSATION: ")
        return headed.scorer(found, self, self._head(found), render)

    def _head(self, found: headed.Headed) -> Head:
        """The linear map, normalized where the model's config says so, and negative for a cost."""
        linear = headed.linear(found.beside["score_head.weight"], found.beside.get("score_head.bias"))
        shift, scale = self._normalizer(found) if getattr(found.body.config, "do_normalize", False) else (0.0, 1.0)
        sign = -1.0 if self.cost else 1.0
        return lambda states: sign * (linear(states) - shift) / scale

    def _normalizer(self, found: headed.Headed) -> tuple[Any, Any]:
        """What is subtracted and what is divided by. Raises ValueError where the model does not say."""
        mean, variance = (_given(found, name) for name in ("mean", "var"))
        if mean is None or variance is None:
            raise ValueError(f"{self.source!r} says do_normalize, but its files hold no normalizer.mean and normalizer.var")
        return (0.0 if self.cost else mean), variance.sqrt() + _SMALL


def _given(found: headed.Headed, name: str) -> "torch.Tensor | None":
    """The normalizer's mean or var: from the weights, else from the config."""
    import torch

    value = found.beside.get(f"normalizer.{name}")
    if value is None and getattr(found.body.config, name, None) is not None:
        value = torch.as_tensor(getattr(found.body.config, name), dtype=torch.float32, device=found.where)
    return value
