"""How strongly a policy is held to its start: the weight of the KL penalty, fixed or adapted to a target."""

from dataclasses import dataclass

_ERROR = 0.2  # the relative error counts as at most this much


@dataclass
class KLControl:
    """The weight of the penalty on each nat of KL, and how it changes (section 2.2 of arXiv 1909.08593):

        e = clip(KL / target - 1, -0.2, 0.2),  weight <- weight (1 + n e / horizon)

    where n responses were answered. A target of 0 leaves it as it is.
    """

    weight: float
    target: float = 0.0
    horizon: int = 10_000

    def adapt(self, kl: float, responses: int) -> None:
        """Take in the mean KL, in nats a response, of so many responses."""
        if self.target:
            error = min(max(kl / self.target - 1, -_ERROR), _ERROR)
            self.weight *= 1 + error * responses / self.horizon
