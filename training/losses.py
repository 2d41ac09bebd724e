"""Losses as pure functions of scores, apart from the machinery that computes them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def bradley_terry_loss(
    chosen: "Tensor", rejected: "Tensor", *, margin: "Tensor | None" = None, smoothing: float = 0.0
) -> "Tensor":  # fmt: skip
    """The mean over pairs of -(1 - s) log sigma(d) - s log sigma(-d), where d = chosen - rejected - margin.

    Scores and margins are (pairs,). P(chosen wins) = sigma(chosen - rejected) is Bradley and Terry's model (Biometrika 39
    (1952) 324); a margin asks for that much more difference (eq. 2 of arXiv 2307.09288); `smoothing` is s, the share of labels
    taken to be turned round. As log sigma(-d) = log sigma(d) - d, smoothing adds s times the mean of d.
    """
    from torch.nn.functional import logsigmoid

    d = chosen - rejected if margin is None else chosen - rejected - margin
    return -logsigmoid(d).mean() + smoothed(d, smoothing)


def smoothed(d: "Tensor", smoothing: float) -> "Tensor":
    """What label smoothing adds to the Bradley-Terry loss of these differences."""
    return smoothing * d.mean()
