"""Policies compared on the same prompts, and what made the difference: the algorithm, the reward model, the cleaning.

`ours` and `theirs` are the scores of two responses to one prompt, (n,), NaN where there is none: such rows are left out.
`prompts` (n,) names the prompt of each row; whole prompts are redrawn. Runs are told as (runs, prompts): the outcome, such as
the mean gold score of its responses, of each run on each prompt; a run with one number for all prompts is (runs, 1).
"""

from collections.abc import Mapping
from itertools import product
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curation.stats.accuracy import Numbers
from curation.stats.correlation import Method, correlation
from curation.stats.figures import AT_ONCE, Figure, Groups, drawn_units, estimated, replicates, with_certain_ends
from curation.stats.length_control import at_equal_length
from curation.stats.preference_accuracy import mcnemar

Names = NDArray[Any]
NOTHING = "no prompt has a response of both"
_SAME = 1e-9  # sums of preferences that differ by less are the same sum, added up in another order
FEWEST_MODELS = 4  # Fisher's z divides by the root of n - 3


class WinRate(NamedTuple):
    """How often ours is better: a tie as one half (of preferences their mean), and strictly. n counts comparisons."""

    rate: Figure
    strict: Figure
    ties: int


def win_rate(ours: Numbers, theirs: Numbers, prompts: Names, rng: np.random.Generator, *, resamples: int = 1000) -> WinRate:
    """The share of comparisons in which ours scores higher; where all came out alike, with Wilson's interval over prompts."""
    return from_preferences(preferred(ours, theirs), prompts, rng, resamples=resamples)


def from_preferences(p: Numbers, prompts: Names, rng: np.random.Generator, *, resamples: int = 1000) -> WinRate:
    """The same from preferences: 1 ours, 0 theirs, 0.5 a tie, or a judge's P(ours is better); strictly, those above 0.5.

    Raises ValueError for a preference outside 0 to 1, or arrays of different lengths.
    """
    p, groups = _checked(p, prompts)
    sides = np.stack([p, p > 0.5], axis=1)

    def shares(weights: Numbers) -> Numbers:
        of = weights.sum(axis=1, keepdims=True)
        return np.asarray(np.divide(weights @ sides, of, out=np.full((len(weights), 2), np.nan), where=of > 0))

    redrawn = replicates(shares, len(p), rng, groups=groups, resamples=resamples)
    units = drawn_units(len(p), groups)
    rate, strict = (
        with_certain_ends(estimated(column, len(p), "comparisons", NOTHING, units=units), units=units) for column in redrawn.T
    )
    return WinRate(rate, strict, int((p == 0.5).sum()))


class Even(NamedTuple):
    """The test that two are even, a win rate of 1/2: p, two-sided, or the reason why there is none; n counts prompts."""

    p: float | None
    n: int
    undefined: str = ""  # goes on from "because"


def p_of_even(p: Numbers, prompts: Names, rng: np.random.Generator, *, flips: int = 9_999) -> Even:
    """How likely preferences so far from 1/2 are where the two are even, paired by prompt; of preferences as
    `from_preferences` takes them.

    What ours is ahead by on a prompt, the sum of its preferences less 1/2, is one unit, and its sign a coin's: Fisher's test of
    paired differences (The Design of Experiments (1935), section 21). The units add up to what the win rate is above 1/2, so
    both are of the same number. It holds its level for any n where swapping the two on a prompt changes nothing; a mean of
    1/2 made of many small wins and few large losses is even only roughly. Of wins, ties and losses every pattern of signs
    is counted: McNemar's exact test by prompts. Of other preferences every pattern is tried where there are at most `flips`,
    else so many are drawn and p is (b + 1) / (flips + 1), never 0 (Phipson and Smyth, Statistical Applications in Genetics and
    Molecular Biology 9 (2010) 39). Prompts on which both are even have no sign to turn, but count in n. Raises ValueError as
    `from_preferences` does.
    """
    p, groups = _checked(p, prompts)
    if not len(p):
        return Even(None, 0, NOTHING)
    ahead = np.bincount(groups, p - 0.5).astype(np.float64)
    apart = ahead[np.abs(ahead) > _SAME]
    if not len(apart):
        return Even(None, len(ahead), "the two are even on every prompt")
    if np.isin(p, (0, 0.5, 1)).all():
        return Even(mcnemar(p - 0.5, 0.5 - p, groups=groups).p, len(ahead))
    return Even(_sign_flip(apart, rng, flips), len(ahead))


def _sign_flip(apart: Numbers, rng: np.random.Generator, flips: int) -> float:
    """P(|sum| at least as large as it is) were each sign a coin's: of every pattern, or of so many drawn and the one seen."""
    least = abs(apart.sum()) - _SAME * len(apart)
    if 2 ** len(apart) <= flips:
        turned = np.arange(2 ** len(apart))[:, None] >> np.arange(len(apart)) & 1
        return float((np.abs((1.0 - 2 * turned) @ apart) >= least).mean())
    as_far, left = 0, flips
    while left > 0:
        draws = min(left, max(1, AT_ONCE // len(apart)))
        as_far += int((np.abs((2.0 * rng.integers(0, 2, (draws, len(apart))) - 1) @ apart) >= least).sum())
        left -= draws
    return (as_far + 1) / (flips + 1)


def length_controlled(
    p: Numbers, length_differences: Numbers, prompts: Names, rng: np.random.Generator, *, resamples: int = 200
) -> Figure:
    """The win rate at equal length, as AlpacaEval 2 has it (arXiv 2404.04475), without the instruction's difficulty.

    `p` is a preference as `from_preferences` takes it; of scores give `preferred(ours, theirs)`. `length_differences` is the
    length of ours less theirs, in any unit. logit P(ours) = a + b tanh(difference / its standard deviation), read at 0; whole
    prompts are redrawn and fitted anew.
    """
    _same_length(length_differences, prompts)
    differences = np.asarray(length_differences, np.float64)[~np.isnan(p)]
    if not np.isfinite(differences).all():
        raise ValueError(f"a length difference is {differences[~np.isfinite(differences)][0]}, expected a finite number")
    p, groups = _checked(p, prompts)
    redrawn = replicates(
        lambda weights: at_equal_length(p, differences, weights), len(p), rng, groups=groups, resamples=resamples
    )
    reason = NOTHING if not len(p) else "the length difference is the same everywhere, or alone parts the won from the lost"
    return estimated(redrawn, len(p), "comparisons", reason, units=drawn_units(len(p), groups))


def preferred(ours: Numbers, theirs: Numbers) -> Numbers:
    """1 where ours scores higher, 0.5 where both score the same, 0 where theirs does, NaN where one has no score; (n,)."""
    if len(ours) != len(theirs):
        raise ValueError(f"there are {len(ours)} scores of ours and {len(theirs)} of theirs, expected the same rows of both")
    return np.asarray((np.sign(np.asarray(ours, np.float64) - theirs) + 1) / 2)


# ---- seeds, algorithms, reward models


class Cell(NamedTuple):
    """A cell of algorithm x reward model: its mean, and what is left of it when algorithm and reward model only add up."""

    mean: Figure
    beyond_additive: Figure


class Interaction(NamedTuple):
    """The table, and whether the two interact: F and p of a two-way analysis of variance on the means of runs.

    p is None where it is undefined, and `undefined` says why: "a cell has one seed".
    """

    cells: dict[tuple[str, str], Cell]
    f: float | None
    p: float | None
    undefined: str


def over_seeds(outcomes: Numbers) -> Figure:
    """The mean of (seeds, prompts), with a 95% interval over seeds and prompts both; n counts seeds.

    Every seed answers the same prompts, so both are drawn at random and crossed: the variance of the mean is
    (MS_seeds + MS_prompts - MS_rest) / (seeds x prompts), from the mean squares of the two-way table (Cornfield and Tukey,
    Annals of Mathematical Statistics 27 (1956) 907), Student's t with Satterthwaite's degrees of freedom (Biometrics Bulletin 2
    (1946) 110). With three seeds that differ, t has about two: a bootstrap of three values would be far too narrow. Prompts
    without a number in a seed are left out; with one number a seed, (seeds, 1), it is Student's interval over seeds. No
    interval for fewer than two seeds.
    """
    from scipy.stats import t  # a second to import, wanted only here

    outcomes = _of_every_seed(outcomes)
    if not outcomes.size:
        return Figure(None, None, None, 0, "seeds", "no prompt has an outcome in every seed")
    mean, seeds = float(outcomes.mean()), len(outcomes)
    if seeds < 2:
        return Figure(mean, None, None, seeds, "seeds", "an interval needs at least 2 seeds")
    error, freedom = _error(outcomes)
    if not error:
        return Figure(mean, None, None, seeds, "seeds", "every seed gives the same")
    half = float(t.ppf(0.975, freedom)) * error
    return Figure(mean, mean - half, mean + half, seeds, "seeds")


def p_of_no_effect(outcomes: Numbers) -> float | None:
    """How likely a mean of (seeds, prompts) so far from 0 is where it is 0: two-sided, by the t of `over_seeds`' interval, so
    below 0.05 where that leaves 0 out. None where there is no interval."""
    from scipy.stats import t  # a second to import, wanted only here

    outcomes = _of_every_seed(outcomes)
    error, freedom = _error(outcomes) if outcomes.size and len(outcomes) > 1 else (0.0, 1.0)
    return float(2 * t.sf(abs(float(outcomes.mean())) / error, freedom)) if error else None


def _of_every_seed(outcomes: Numbers) -> Numbers:
    """Without the prompts that lack a number in a seed."""
    return np.asarray(outcomes[:, ~np.isnan(outcomes).any(axis=0)])


def _error(outcomes: Numbers) -> tuple[float, float]:
    """The standard error of the mean of (seeds, prompts), two seeds at least, and its degrees of freedom; 0 without spread."""
    mean, (seeds, prompts) = float(outcomes.mean()), outcomes.shape
    of_seed, of_prompt = outcomes.mean(axis=1) - mean, outcomes.mean(axis=0) - mean
    rest = outcomes - mean - of_seed[:, None] - of_prompt
    df = np.array([seeds - 1, prompts - 1, (seeds - 1) * (prompts - 1)])
    squares = np.array([prompts * (of_seed**2).sum(), seeds * (of_prompt**2).sum(), (rest**2).sum()])
    by_seed, by_prompt, by_rest = np.divide(squares, df, out=np.zeros(3), where=df > 0)
    parts = np.array([by_seed, by_prompt, -min(by_rest, by_seed, by_prompt) if prompts > 1 else 0.0])
    variance = parts.sum()
    if variance <= 1e-24 * max(1.0, mean**2):
        return 0.0, 1.0
    freedom = variance**2 / np.divide(parts**2, df, out=np.zeros(3), where=df > 0).sum()
    return float(np.sqrt(variance / (seeds * prompts))), max(float(freedom), 1.0)


def interaction(outcomes: Numbers, algorithms: Names, reward_models: Names, seeds: Names) -> Interaction:
    """The outcome by algorithm and reward model, and whether a reward model does the same under every algorithm.

    `outcomes` is (runs, prompts), the others (runs,). What is beyond additive is the cell's mean less those of its row and
    column, plus that of all, seed by seed and prompt by prompt; it takes every cell, with the seeds that all of them have. The
    test is over runs on these very prompts. Raises ValueError for arrays of different lengths, or two runs of a cell and seed.
    """
    for names in (algorithms, reward_models, seeds):
        _same_length(outcomes, names)
    runs: dict[tuple[str, str], dict[str, Numbers]] = {}
    for row, algorithm, reward_model, seed in zip(outcomes, algorithms, reward_models, seeds, strict=True):
        cell = runs.setdefault((str(algorithm), str(reward_model)), {})
        if str(seed) in cell:
            raise ValueError(f"{algorithm} with {reward_model} has two runs of seed {seed}, expected one")
        cell[str(seed)] = row
    means = {cell: over_seeds(np.stack(list(rows.values()))) for cell, rows in runs.items()}
    whole, reason = _crossed(runs)
    if whole is None:
        none = Figure(None, None, None, 0, "seeds", reason)
        return Interaction({cell: Cell(mean, none) for cell, mean in means.items()}, None, None, reason)
    rests = whole - whole.mean(axis=0) - whole.mean(axis=1)[:, None] + whole.mean(axis=(0, 1))
    beyond = {cell: over_seeds(rests[place]) for cell, place in _places(runs).items()}
    return Interaction({cell: Cell(means[cell], beyond[cell]) for cell in means}, *_anova(whole))


class Quality(NamedTuple):
    """How the quality of reward models goes with the outcome of alignment; n counts reward models."""

    pearson: Figure
    spearman: Figure


def quality_against_outcome(quality: Numbers, outcome: Numbers) -> Quality:
    """The correlations of a measure of quality with an outcome, one of each a reward model, NaN where there is none.

    With the few there are a bootstrap is too narrow, so the interval is Fisher's: tanh(atanh r +- 1.96 s), s^2 = 1 / (n-3) of
    Pearson's (Metron 1 (1921) 3), (1 + r^2/2) / (n-3) of Spearman's (Bonett and Wright, Psychometrika 65 (2000) 23). Undefined
    for fewer than 4 reward models. Raises ValueError for arrays of different lengths.
    """
    known = ~np.isnan(quality) & ~np.isnan(outcome) if len(quality) == len(outcome) else None
    n = len(quality) if known is None else int(known.sum())
    if known is not None and n < FEWEST_MODELS:
        reason = f"a correlation of fewer than {FEWEST_MODELS} reward models says nothing"
        return Quality(*[Figure(None, None, None, n, "reward models", reason)] * 2)
    rng = np.random.default_rng(0)  # nothing is redrawn
    methods: tuple[Method, ...] = ("pearson", "spearman")
    plain, ranked = (correlation(quality, outcome, rng, method=method, resamples=0) for method in methods)
    return Quality(
        _fisher(plain, 0.0, "they lie on a line"), _fisher(ranked, 0.5, "both put them in one order, or in its reverse")
    )


# ---- what all share


def _checked(p: Numbers, prompts: Names) -> tuple[Numbers, Groups]:
    _same_length(p, prompts)
    known = ~np.isnan(p)
    strange = p[known][(p[known] < 0) | (p[known] > 1)]
    if len(strange):
        raise ValueError(f"a preference is {strange[0]:g}, expected 0 (theirs) to 1 (ours)")
    return p[known], np.unique(np.asarray(prompts)[known], return_inverse=True)[1]


def _same_length(one: Numbers, other: Names) -> None:
    if len(one) != len(other):
        raise ValueError(f"arrays of different lengths: {len(one)} and {len(other)}, expected one entry a row in each")


def _fisher(found: Figure, more: float, perfect: str) -> Figure:
    """A correlation with Fisher's interval; the variance of z is (1 + more r^2) / (n - 3). `perfect`: what 1 and -1 mean."""
    r, n = found.value, found.n
    if r is None:
        return Figure(None, None, None, n, "reward models", "the quality or the outcome is the same of all")
    if abs(r) > 1 - 1e-12:
        return Figure(r, None, None, n, "reward models", f"{perfect}, which so few can do by chance")
    half = NormalDist().inv_cdf(0.975) * np.sqrt((1 + more * r**2) / (n - 3))
    return Figure(r, float(np.tanh(np.arctanh(r) - half)), float(np.tanh(np.arctanh(r) + half)), n, "reward models")


def _crossed(runs: Mapping[tuple[str, str], Mapping[str, Numbers]]) -> tuple[Numbers | None, str]:
    """The outcomes as (algorithms, reward models, seeds, prompts) where every cell is there; else the reason why not."""
    algorithms, reward_models = (sorted({cell[side] for cell in runs}) for side in (0, 1))
    if min(len(algorithms), len(reward_models)) < 2:
        return None, "there are not two algorithms and two reward models"
    missing = [cell for cell in product(algorithms, reward_models) if cell not in runs]
    if missing:
        return None, f"no run has {missing[0][0]} with {missing[0][1]}"
    seeds = sorted(set.intersection(*(set(rows) for rows in runs.values())))
    if not seeds:
        return None, "no seed is in every cell"
    cells = [[[runs[one, other][seed] for seed in seeds] for other in reward_models] for one in algorithms]
    return np.asarray(cells, np.float64), ""


def _places(runs: Mapping[tuple[str, str], Any]) -> dict[tuple[str, str], tuple[int, int]]:
    algorithms, reward_models = (sorted({cell[side] for cell in runs}) for side in (0, 1))
    return {(one, other): (algorithms.index(one), reward_models.index(other)) for one, other in runs}


def _anova(whole: Numbers) -> tuple[float | None, float | None, str]:
    """F and p of the interaction in a two-way analysis of variance on the means of runs, or the reason why there are none."""
    from scipy.stats import f  # a second to import, wanted only here

    means = whole[..., ~np.isnan(whole).any(axis=(0, 1, 2))]
    if not means.size:
        return None, None, "no prompt has an outcome in every run"
    means = means.mean(axis=3)
    one, other, seeds = means.shape
    if seeds < 2:
        return None, None, "a cell has one seed"
    cells = means.mean(axis=2)
    rest = cells - cells.mean(axis=0) - cells.mean(axis=1)[:, None] + cells.mean()
    df, df_within = (one - 1) * (other - 1), one * other * (seeds - 1)
    between, within = seeds * (rest**2).sum() / df, ((means - cells[:, :, None]) ** 2).sum() / df_within
    if within <= 1e-24 * max(1.0, float(cells.mean()) ** 2):
        return None, None, "the seeds of a cell give the same"
    return float(between / within), float(f.sf(between / within, df, df_within)), ""
