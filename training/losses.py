"""Losses as pure functions of scores, apart from the machinery that computes them."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_TINY = 1e-8  # added to a variance before it is divided by


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


# ---- log-probabilities. Tokens of a response are (responses, tokens); a mask is 1 where a response has a token


def log_probs_of(logits: "Tensor", ids: "Tensor", *, temperature: float = 1.0) -> "Tensor":
    """log p(id) where the logits (..., tokens) at the same place give p = softmax(logits / temperature). float32, as `ids`."""
    from torch.nn.functional import cross_entropy

    scaled = logits.float() / temperature
    return -cross_entropy(scaled.flatten(0, -2), ids.flatten(), reduction="none").view(ids.shape)


def token_log_probs(logits: "Tensor", ids: "Tensor", *, temperature: float = 1.0) -> "Tensor":
    """What a causal model says of each token but the first: log p(ids[t + 1] | ids[: t + 1]).

    Logits are (texts, tokens, vocabulary), ids (texts, tokens); the result is (texts, tokens - 1).
    """
    return log_probs_of(logits[:, :-1], ids[:, 1:], temperature=temperature)


def entropy_of(logits: "Tensor", *, temperature: float = 1.0) -> "Tensor":
    """-sum p log p over the vocabulary, in nats, where p = softmax(logits / temperature). (..., vocabulary) to (...)."""
    log_p = (logits.float() / temperature).log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


# ---- statistics of response tokens alone


def _alone(value: "Tensor") -> "Tensor":
    return value


Total = Callable[["Tensor"], "Tensor"]  # the sum of a number over all processes; with one process the number itself


def masked_mean(values: "Tensor", mask: "Tensor", *, total: Total = _alone) -> "Tensor":
    """The mean of the values whose mask is 1; 0 where there is none."""
    return total((values * mask).sum()) / total(mask.sum()).clamp(min=1)


def masked_variance(values: "Tensor", mask: "Tensor", *, total: Total = _alone) -> "Tensor":
    """The mean squared distance from that mean (divided by n, not n - 1)."""
    return masked_mean((values - masked_mean(values, mask, total=total)) ** 2, mask, total=total)


def whitened(values: "Tensor", mask: "Tensor", *, shift: bool = True, total: Total = _alone) -> "Tensor":
    """Values to standard deviation 1, and with `shift` to mean 0; without it their mean stays. 0 where the mask is."""
    from torch import rsqrt

    mean = masked_mean(values, mask, total=total)
    scaled = (values - mean) * rsqrt(masked_variance(values, mask, total=total) + _TINY)
    return (scaled if shift else scaled + mean) * mask


def explained_variance(values: "Tensor", returns: "Tensor", mask: "Tensor", *, total: Total = _alone) -> float:
    """1 - var(returns - values) / var(returns): 1 where values foretell returns, 0 where they are as good as a constant.

    NaN where all returns are equal: there is nothing to explain.
    """
    spread = float(masked_variance(returns, mask, total=total))
    left = float(masked_variance(returns - values, mask, total=total))
    return 1 - left / spread if spread > _TINY else float("nan")


# ---- Kullback-Leibler divergence, from samples x of p: log_ratio = log p(x) - log q(x)


def kl_k1(log_ratio: "Tensor") -> "Tensor":
    """log p/q: its mean is KL(p || q), single ones may be negative (Schulman, "Approximating KL divergence", 2020)."""
    return log_ratio


def kl_k3(log_ratio: "Tensor") -> "Tensor":
    """q/p - 1 - log q/p: the same mean where q is nowhere 0, never negative, and less spread where p and q are alike."""
    return (-log_ratio).exp() - 1 + log_ratio


# ---- what each token earned


def rewards_per_token(scores: "Tensor", log_ratio: "Tensor", lengths: "Tensor", *, kl: float) -> "Tensor":
    """-kl (log pi - log pi_start) at each token, at the response's last token the score besides (eq. 2 of arXiv 1909.08593).

    Scores and lengths are (responses,), log_ratio (responses, tokens); after a response's length all is 0.
    """
    from torch import arange

    places = arange(log_ratio.shape[1], device=log_ratio.device)
    last = places == (lengths - 1)[:, None]
    return (-kl * log_ratio) * (places < lengths[:, None]) + last * scores[:, None]


def gae(rewards: "Tensor", values: "Tensor", mask: "Tensor", *, discount: float, trace: float) -> tuple["Tensor", "Tensor"]:
    """Advantages and returns, as generalised advantage estimation has them (eq. 16 of arXiv 1506.02438):

        d_t = r_t + gamma V_(t+1) - V_t,  A_t = d_t + gamma lambda A_(t+1),  return_t = A_t + V_t

    `values[:, t]` is the value before token t; after the last token it is 0. All (responses, tokens), 0 where the mask is.
    """
    from torch import stack, zeros_like

    rewards, values = rewards * mask, values * mask
    ahead = zeros_like(values[:, 0])
    after, found = ahead, []
    for t in reversed(range(values.shape[1])):
        ahead = rewards[:, t] + discount * after - values[:, t] + discount * trace * ahead
        after = values[:, t]
        found.append(ahead)
    advantages = stack(found[::-1], dim=1) * mask
    return advantages, advantages + values


# ---- PPO's losses, of each token


def clipped_policy_loss(new: "Tensor", old: "Tensor", advantages: "Tensor", *, clip: float) -> "Tensor":
    """-min(r A, clip(r, 1 - c, 1 + c) A) with r = exp(new - old), log-probabilities (eq. 7 of arXiv 1707.06347)."""
    from torch import maximum

    ratio = (new - old).exp()
    return maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip))


def clipped_value_loss(new: "Tensor", old: "Tensor", returns: "Tensor", *, clip: float) -> "Tensor":
    """max((V - R)^2, (clip(V, V_old - c, V_old + c) - R)^2) / 2."""
    from torch import maximum

    near = old + (new - old).clamp(-clip, clip)
    return maximum((new - returns) ** 2, (near - returns) ** 2) / 2


def clipped(new: "Tensor", old: "Tensor", *, clip: float) -> "Tensor":
    """1 where the probability ratio left 1 - clip .. 1 + clip, else 0."""
    return (((new - old).exp() - 1).abs() > clip).to(new.dtype)
