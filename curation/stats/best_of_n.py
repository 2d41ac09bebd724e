"""Best-of-n from one set of samples: what n samples are worth for every n there are samples for, and how far that goes.

`proxy` and `gold` are (prompts, samples): the scores of the samples of each prompt, drawn from the start, by the reward model
that picks and by the one that judges. NaN is no sample: prompts may have different numbers of them. KL is in nats a response.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curation.stats.accuracy import Numbers
from curation.stats.figures import Figure, estimated, replicates

Counts = NDArray[np.int64]
EVERY_UP_TO = 8  # n shown one by one; beyond that a few to each doubling
A_DOUBLING = 4


class Curve(NamedTuple):
    """Gold, and proxy, of the best of n, for each n; and the upper bounds that hold for any reward model."""

    n: Counts
    gold: list[Figure]
    proxy: list[Figure]
    kl_bound: Numbers
    win_rate_bound: Numbers


def curve(
    proxy: Numbers, gold: Numbers, rng: np.random.Generator, *,
    ns: Sequence[int] = (), gain: bool = False, resamples: int = 1000,
) -> Curve:  # fmt: skip
    """The mean over prompts of `expected_best` for each n, with intervals that redraw whole prompts.

    Without `ns`: a grid of all there are samples for. With `gain` what is told is the rise over n = 1, prompt by prompt. A
    prompt with fewer than n samples is left out at that n, and the figure's n counts the others.
    """
    chosen = grid(int(_known(proxy, gold).sum(axis=1).max(initial=0))) if not len(ns) else np.asarray(ns, np.int64)
    of_both = gold, np.where(np.isnan(gold), np.nan, proxy)
    expected = [expected_best(proxy, values, np.concatenate([[1], chosen])) for values in of_both]
    judged, picked = (values[:, 1:] - values[:, :1] if gain else values[:, 1:] for values in expected)
    figures = means(np.concatenate([judged, picked], axis=1), rng, resamples=resamples)
    return Curve(chosen, figures[: len(chosen)], figures[len(chosen) :], kl_bound(chosen), win_rate_bound(chosen))


def expected_best(proxy: Numbers, gold: Numbers, ns: ArrayLike) -> Numbers:
    """The expected gold score of the sample with the highest proxy score among n, for each prompt and n: (prompts, ns).

    The unbiased estimate from M >= n samples sorted by proxy, sum_i C(i-1, n-1) / C(M, n) gold_(i): the mean over all ways to
    take n of the M. Where samples tie in the proxy it is the mean over all ways to order them. NaN where a prompt has
    fewer than n samples with both scores. Raises ValueError for arrays of different shapes, or an n below 1.
    """
    known, wanted = _known(proxy, gold), np.atleast_1d(np.asarray(ns, np.int64))
    if (wanted < 1).any():
        raise ValueError(f"n is {wanted.min()}, expected at least 1")
    found = np.full((len(proxy), len(wanted)), np.nan)
    counts = known.sum(axis=1)
    for count in np.unique(counts[counts > 0]):
        rows = np.flatnonzero(counts == count)
        shape = (len(rows), count)
        ordered = _by_proxy(proxy[rows][known[rows]].reshape(shape), gold[rows][known[rows]].reshape(shape))
        for place in np.flatnonzero(wanted <= count):
            found[rows, place] = ordered @ chances(int(count), int(wanted[place]))
    return found


def chances(samples: int, n: int) -> Numbers:
    """The chance of each of `samples`, sorted from worst to best, to be the best of n of them: C(i-1, n-1) / C(samples, n).

    From the top down each is the one above times (i-n+1)/i: products of numbers below 1, exact to rounding for any size.
    """
    i = np.arange(samples - 1, 0, -1, dtype=np.float64)
    return np.cumprod(np.concatenate([[n / samples], np.maximum(i - n + 1, 0.0) / i]))[::-1]


def picks(proxy: Numbers, n: int) -> Counts:
    """Which sample of each prompt best-of-n takes among the first n, (prompts,); of equally good ones the first.

    Raises ValueError where a prompt has no scored sample among them.
    """
    if n < 1:
        raise ValueError(f"n is {n}, expected at least 1")
    first = proxy[:, :n]
    lost = np.isnan(first).all(axis=1)
    if lost.any():
        raise ValueError(f"prompt {int(np.flatnonzero(lost)[0])} has no scored sample among the first {n}, expected one")
    return np.asarray(np.nanargmax(first, axis=1), np.int64)


def means(values: Numbers, rng: np.random.Generator, *, resamples: int = 1000) -> list[Figure]:
    """The mean over prompts of each column of (prompts, columns), all in the same redraws of prompts; NaN is left out."""
    there = ~np.isnan(values)
    filled, counted = np.where(there, values, 0.0), there.astype(np.float64)

    def averages(weights: Numbers) -> Numbers:
        of = weights @ counted
        return np.asarray(np.divide(weights @ filled, of, out=np.full(of.shape, np.nan), where=of > 0))

    redrawn = replicates(averages, len(values), rng, resamples=resamples)
    columns = zip(redrawn.T, there.sum(axis=0).tolist(), strict=True)
    return [estimated(column, n, "prompts", "no prompt has so many samples") for column, n in columns]


def grid(samples: int) -> Counts:
    """The n to show of so many samples: the first few, then some to each doubling, and all of them."""
    if samples <= EVERY_UP_TO:
        return np.arange(1, samples + 1)
    steps = np.arange(np.log2(EVERY_UP_TO), np.log2(samples), 1 / A_DOUBLING)
    return np.unique(np.concatenate([np.arange(1, EVERY_UP_TO + 1), np.round(2**steps), [samples]])).astype(np.int64)


# ---- how far it goes from the start


def kl_bound(n: ArrayLike) -> Numbers:
    """log n - (n-1)/n, an upper bound of KL(best-of-n || start): equal only where no two outcomes tie and none has a mass of
    its own (arXiv 2401.01879)."""
    of = np.asarray(n, np.float64)
    return np.asarray(np.log(of) - (of - 1) / of)


def win_rate_bound(n: ArrayLike) -> Numbers:
    """n/(n+1), an upper bound of the share in which the best of n beats one sample by the proxy itself, a tie as half."""
    of = np.asarray(n, np.float64)
    return np.asarray(of / (of + 1))


def kl_exact(probabilities: Numbers, scores: Numbers, n: int) -> float:
    """KL(best-of-n || start) where all outcomes are known: their probabilities and scores, both (outcomes,).

    With q the mass of an outcome's equals in score, itself among them, and F that of those with at most its score, the best of
    n is one of these equals with chance F^n - (F-q)^n, and among them as likely as under the start. So only masses of scores
    count: KL = sum over scores of P log(P/q), P = F^n - (F-q)^n.
    """
    _, place = np.unique(scores, return_inverse=True)
    mass = np.bincount(place, probabilities)
    mass = mass[mass > 0] / mass.sum()
    ratio = _log_ratio(np.maximum(mass.cumsum() - mass, 0.0), mass, n)
    return float((mass * np.exp(ratio) * ratio).sum())


def kl_sampled(log_p: Numbers, scores: Numbers, n: int, *, texts: ArrayLike | None = None) -> float:
    """KL(best-of-n || start) of one prompt, estimated from samples of the start with their log-probabilities; all (samples,).

    `texts` tells which samples are the same response; without it those with equal score and log-probability are.

    Were no mass on any score, KL would be the bound, whatever the scores. A score with a mass m, above a mass L of lower ones,
    takes away what the density n u^(n-1) varies within it: the integral over u from L to L+m of n u^(n-1) log(n u^(n-1) / r),
    r = ((L+m)^n - L^n) / m. So the estimate is the bound less that of every score seen, each divided by the
    chance 1 - (1-m)^M that M samples see it (Horvitz and Thompson, Journal of the American Statistical Association 47 (1952)
    663). The mass of a score that one response has is p of that response, which is known exactly: that is what the
    log-probabilities are for. Where several have it, it is the sum of their p and, for those not seen, the share of samples
    that are the only ones of their response (Good, Biometrika 40 (1953) 237). L is the share of lower samples among the others,
    of 1 - m.

    Bias: exact but for rounding where nothing ties and p is small. Otherwise L, and a mass shared with responses not seen, are
    estimated: on made distributions, of the order of 1% for n up to M/8 and up to 5% too low for n = M where scores are whole
    numbers. Never above the bound. For the mean over prompts, give the estimates of all to `means`.
    Raises ValueError for arrays of different lengths, no samples, or a log-probability above 0.
    """
    if not len(log_p) == len(scores) or not len(log_p):
        raise ValueError(f"there are {len(log_p)} log-probabilities and {len(scores)} scores, expected one of each a sample")
    if not (np.asarray(log_p) <= 1e-6).all() or np.isnan(scores).any():
        raise ValueError("a log-probability is above 0 or a number is missing, expected log p <= 0 and a score of each sample")
    same = np.stack([scores, np.round(log_p, 6)], axis=1) if texts is None else np.stack([scores, _numbered(texts)], axis=1)
    _, first, _, times = np.unique(same, axis=0, return_index=True, return_inverse=True, return_counts=True)
    _, score, samples = np.unique(scores, return_inverse=True, return_counts=True)
    of_response = score[first]
    several = np.bincount(of_response) > 1
    known = np.bincount(of_response, np.exp(np.minimum(log_p[first], 0.0)))
    unseen = several * np.bincount(of_response, times == 1) / len(scores)
    mass = np.asarray(np.minimum(known + unseen, 1.0), np.float64)
    others = len(scores) - samples
    share: Numbers = np.divide(samples.cumsum() - samples, others, out=np.zeros(len(samples)), where=others > 0)
    seen = -np.expm1(len(scores) * np.log1p(-np.minimum(mass, 1 - 1e-16)))
    lost = np.divide(_lost(share * (1 - mass), mass, n), seen, out=np.zeros(len(mass)), where=seen > 0)
    return float(np.clip(kl_bound(n) - lost.sum(), 0.0, kl_bound(n)))


def _lost(lower: Numbers, mass: Numbers, n: int) -> Numbers:
    """What the mass of each score takes from the bound: the integral of n u^(n-1) log(n u^(n-1) / r) from L to L + m.

    With the antiderivative of n u^(n-1) log(n u^(n-1)), that is u^n (log n + (n-1) log u - (n-1)/n). The two ends cancel for a
    small mass, of which nothing is lost (it goes with m^3).
    """
    upper = lower + mass
    ends = [u**n * (np.log(n) + (n - 1) * np.log(np.maximum(u, 1e-300)) - (n - 1) / n) for u in (lower, upper)]
    chance = mass * np.exp(_log_ratio(lower, mass, n))
    lost = ends[1] - ends[0] - chance * _log_ratio(lower, mass, n)
    return np.where(mass * n > 1e-4, np.maximum(lost, 0.0), 0.0)


def _log_ratio(lower: Numbers, mass: Numbers, n: int) -> Numbers:
    """log(((L+m)^n - L^n) / m), also for a mass so small that the difference of powers would be 0; -inf where there is none."""
    upper = np.maximum(lower + mass, 1e-300)
    share = np.minimum(mass / upper, 1.0)
    with np.errstate(divide="ignore"):
        above = -np.expm1(n * np.log1p(-share))  # 1 - (L / (L+m))^n
        spread = np.where(share > 0, above / np.maximum(share, 1e-300), n)
        return np.asarray((n - 1) * np.log(upper) + np.log(spread))


# ---- what all share


def _known(proxy: Numbers, gold: Numbers) -> NDArray[np.bool_]:
    if np.shape(proxy) != np.shape(gold) or np.ndim(proxy) != 2:
        raise ValueError(f"proxy is {np.shape(proxy)} and gold {np.shape(gold)}, expected (prompts, samples) of both")
    return ~np.isnan(proxy) & ~np.isnan(gold)


def _by_proxy(proxy: Numbers, gold: Numbers) -> Numbers:
    """Gold from the lowest proxy to the highest, within each prompt; samples that tie in the proxy share their mean."""
    order = np.argsort(proxy, axis=1, kind="stable")
    proxy, gold = np.take_along_axis(proxy, order, axis=1), np.take_along_axis(gold, order, axis=1)
    starts = np.ones(proxy.shape, np.bool_)
    starts[:, 1:] = proxy[:, 1:] != proxy[:, :-1]
    tie = starts.ravel().cumsum() - 1
    return np.asarray((np.bincount(tie, gold.ravel()) / np.bincount(tie))[tie].reshape(gold.shape))


def _numbered(texts: ArrayLike) -> Counts:
    return np.unique(np.asarray(texts), return_inverse=True)[1].astype(np.int64)
