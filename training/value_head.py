"""The value head of PPO: what a response is expected to earn from each of its tokens on, read off the policy's hidden state."""

from typing import Any

import torch

from training.rewards.base import Scorer
from training.rewards.decoder import DecoderScorer


class ValueHead(torch.nn.Linear):
    """A linear map of the last hidden state, (..., hidden) to (...), in float32; it begins as 0."""

    def __init__(self, hidden: int, device: torch.device) -> None:
        super().__init__(hidden, 1, device=device, dtype=torch.float32)
        torch.nn.init.zeros_(self.weight)
        torch.nn.init.zeros_(self.bias)

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        with torch.autocast(state.device.type, enabled=False):
            value: torch.Tensor = super().forward(state.float()).squeeze(-1)
        return value

    def take(self, scorer: Scorer | None, *, mean: float, spread: float) -> None:
        """Begin as the head of a reward model whose scores count as (score - mean) / spread.

        Raises ValueError where it has none of this shape: it fits where policy and reward model have one hidden size.
        """
        head: Any = scorer.head if isinstance(scorer, DecoderScorer) else None
        if not isinstance(head, torch.nn.Linear) or head.weight.shape != self.weight.shape:
            has = "none that reads a decoder's hidden state"
            if isinstance(head, torch.nn.Linear):
                has = f"one of {head.in_features:,} numbers to {head.out_features}"
            raise ValueError(
                f"the value head cannot begin as the reward model's, which has {has}: expected {self.in_features:,} numbers to "
                "1, as the policy's hidden state has (or value_from=zero)"
            )
        with torch.no_grad():
            self.weight.copy_(head.weight.float() / spread)
            offset = float(head.bias) if head.bias is not None else 0.0
            self.bias.fill_((offset - mean) / spread)
