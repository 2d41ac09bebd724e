"""Over-optimisation curves: reward against sqrt(KL) along a policy's training, or over n of best-of-n, by the reward model that
was optimised and by one that was held out; the form fitted to it, and where the held-out reward is highest.

Rewards are the rise over the start, in standard deviations of the scores of the start's responses. KL is the mean log ratio of
the responses; of best-of-n the upper bound log n - (n-1)/n, and that it is a bound is said wherever it is shown.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from curation import benchmark, outcomes
from curation.outcomes import BEST_OF_N, Made, Standing
from curation.stats import best_of_n
from curation.stats.accuracy import Numbers
from curation.stats.figures import Figure
from curation.stats.overoptimisation import FORMS, Form, Overoptimisation, overoptimisation
from curation.workspace import Workspace
from training.policy_data import SCORE
from training.run import Run

SAMPLES = "samples.parquet"  # in a best-of-n run's output: every sample with every reward model's score
LOG_P = "log_p"  # of a sample: log pi of the whole response
_SAMPLES_AN_N = 4  # samples for each of the n whose KL is estimated from log-probabilities: with fewer it is biased
_DRAWN = 60  # points of a fitted form as it is drawn


class Sampled(NamedTuple):
    """KL of best-of-n as log-probabilities tell it, in nats."""

    n: int
    kl: Figure


class Matrices(NamedTuple):
    """What a curve is made of, all (points, prompts): KL in nats, rewards in the start's standard deviations. Where the
    optimised one is not known here, `proxy` is gold once more, and nobody is shown it."""

    points: tuple[int, ...]
    kl: Numbers
    gold: Numbers
    proxy: Numbers
    proxy_known: bool
    learned: int  # prompts left out, since a model or the policy learned from them


@dataclass(frozen=True)
class Curve:
    """A policy's way, as one reward model and the optimised one see it. `found` is None where there is nothing to draw, and
    `why` says why. `optimised_known` is whether the optimised reward model has scored what is drawn, so that found's proxy is
    its. `kl_sampled` is best-of-n's KL at an n as estimated from log-probabilities, where there are any."""

    made: Made
    model: str
    standing: Standing
    points: tuple[int, ...]
    found: Overoptimisation | None
    why: str
    optimised_known: bool
    is_bound: bool
    kl_sampled: Sampled | None
    learned: int

    @property
    def drawn(self) -> list[tuple[float, float]]:
        """The fitted form from the start to the end: distance and rise."""
        if self.found is None:
            return []
        across = np.linspace(0.0, max(one.d for one in self.found.points), _DRAWN)
        rise = self.found.fit.gold(across)
        return [] if rise is None else list(zip(across.tolist(), rise.tolist(), strict=True))

    @property
    def peak(self) -> tuple[Figure, float] | None:
        """The distance at which the fitted reward is highest, and how high it is; None where it is not known to turn."""
        if self.found is None or self.found.peak.d.value is None or self.found.peak.gold.value is None:
            return None
        return self.found.peak.d, self.found.peak.gold.value

    def record(self) -> dict[str, Any]:
        """For JSON."""
        base: dict[str, Any] = {
            "policy": self.made.generator, "reward_model": self.model, **self.standing._asdict(), "left_out": self.learned,
            "kl_is_a_bound": self.is_bound,
            "kl_sampled": None if self.kl_sampled is None else {"n": self.kl_sampled.n, **self.kl_sampled.kl.record()},
        }  # fmt: skip
        if self.found is None:
            return {**base, "undefined": self.why}
        points = [
            {
                "point": point, "kl": one.kl.record(), "gold": one.gold.record(),
                "proxy": one.proxy.record() if self.optimised_known else None,
            }
            for point, one in zip(self.points, self.found.points, strict=True)
        ]  # fmt: skip
        fit, peak = self.found.fit, self.found.peak
        return {
            **base, "points": points, "verdict": self.found.verdict, "words": self.found.words,
            "fit": {"form": FORMS[fit.form], "a": fit.a.record(), "b": fit.b.record(), "r_squared": fit.r_squared},
            "peak": {"kl": peak.kl.record(), "gold": peak.gold.record(), "still_rising": peak.still_rising},
            "fall": self.found.fall.record(),
        }  # fmt: skip


def curve(workspace: Workspace, one: Made, model: str) -> Curve:
    """One policy by one reward model, and by the one that was optimised."""
    return outcomes.kept(workspace, ("curve", one.generator, model), lambda: _curve(workspace, one, model))


def _curve(workspace: Workspace, one: Made, model: str) -> Curve:
    bound, standing = one.kind == BEST_OF_N, outcomes.standing(workspace, one, model)
    form: Form = "best-of-n" if bound else "rl"
    try:
        told = _best_of_n(workspace, one, model) if bound else _trained(workspace, one, model)
        if not told.kl.size:
            raise ValueError("no held-out prompt was scored at every point")
        found = overoptimisation(told.kl, told.gold, told.proxy, benchmark.rng(), form=form)
    except ValueError as error:
        return Curve(one, model, standing, one.points, None, str(error), False, bound, None, 0)
    sampled = _sampled(workspace, one) if bound else None
    return Curve(one, model, standing, told.points, found, "", told.proxy_known, bound, sampled, told.learned)


def _trained(workspace: Workspace, one: Made, model: str) -> Matrices:
    """Raises ValueError with the reason where there is no curve."""
    if not one.moved:
        raise ValueError("it was looked at once only")
    gold = outcomes.looked(workspace, one.generator, model)
    proxy = outcomes.looked(workspace, one.generator, one.optimised) if one.optimised else gold
    if gold.raw is None or not gold.prompts:
        raise ValueError(outcomes.NO_SPREAD if gold.prompts else "no held-out prompt was scored at every point")
    kl = gold.kl.copy()
    if np.isnan(kl[0]).all():
        kl[0] = 0.0
    if np.isnan(kl).all(axis=1).any():
        raise ValueError("its KL from the start was not measured at every point")
    place = {prompt: number for number, prompt in enumerate(proxy.prompts)}
    chosen = [place.get(prompt) for prompt in gold.prompts]
    both = np.array([each is not None for each in chosen])
    if proxy.raw is None or not both.any():  # the optimised one scored none of these: gold is told all the same
        return Matrices(gold.points, kl, gold.rewards, gold.rewards, False, gold.learned)
    columns, known = [each for each in chosen if each is not None], bool(one.optimised)
    return Matrices(gold.points, kl[:, both], gold.rewards[:, both], proxy.rewards[:, columns], known, gold.learned)


# ---- best of n, from all its samples


def _best_of_n(workspace: Workspace, one: Made, model: str) -> Matrices:
    """For each n the unbiased estimate of what the best by the optimised one is worth to the other, prompt by prompt."""
    prompts, scores = _samples(workspace, one, (one.optimised, model))
    seen = outcomes.learned(workspace, one, model)
    use = np.array([prompt not in seen for prompt in prompts], bool)
    proxy, gold = (_standard(scores[name][use]) for name in (one.optimised, model))
    most = int((~np.isnan(proxy) & ~np.isnan(gold)).sum(axis=1).max(initial=0))
    ns = best_of_n.grid(most - (0 in one.points))  # one sample is the start's own answer, in no pick
    if len(ns) < 2:
        raise ValueError("it has one sample of each prompt")
    judged = best_of_n.expected_best(proxy, gold, ns).T
    picked = best_of_n.expected_best(proxy, np.where(np.isnan(gold), np.nan, proxy), ns).T
    kl = np.repeat(best_of_n.kl_bound(ns)[:, None], judged.shape[1], axis=1)
    return Matrices(tuple(ns.tolist()), kl, judged, picked, True, int((~use).sum()))


def _samples(workspace: Workspace, one: Made, models: tuple[str, ...]) -> tuple[list[str], dict[str, Numbers]]:
    """Its prompts, and by reward model the score of every sample, (prompts, samples), NaN where there is none.

    Raises ValueError where they are not kept, or a model has not scored them.
    """
    table = _table(workspace, one, ("prompt_id", "sample", *(SCORE + name for name in dict.fromkeys(models))))
    asked = table.column("prompt_id").to_pylist()
    prompts = list(dict.fromkeys(asked))
    row = {prompt: place for place, prompt in enumerate(prompts)}
    places = np.array([row[prompt] for prompt in asked]), table.column("sample").to_numpy()
    found = {}
    for name in dict.fromkeys(models):
        values = np.full((len(prompts), int(places[1].max(initial=-1)) + 1), np.nan)
        values[places] = table.column(SCORE + name).to_numpy(zero_copy_only=False)
        found[name] = values
    return prompts, found


def _table(workspace: Workspace, one: Made, columns: tuple[str, ...]) -> Any:
    file = Run(workspace.runs / workspace.policies.policy(one.policy).run_id).output / SAMPLES
    if not file.is_file():
        raise ValueError("its samples are not kept on this machine")
    there = pq.read_schema(file).names
    missing = [name.removeprefix(SCORE) for name in columns if name not in there]
    if missing:
        raise ValueError(f"all its samples have no score by {', '.join(missing)}, only its picks have")
    return pq.read_table(file, columns=list(columns))


def _standard(scores: Numbers) -> Numbers:
    """In standard deviations of all samples, which are the start's own responses. Raises ValueError where they are alike."""
    spread = float(np.nanstd(scores, ddof=1)) if np.count_nonzero(~np.isnan(scores)) > 1 else 0.0
    if spread <= 1e-12:
        raise ValueError(outcomes.NO_SPREAD)
    return np.asarray((scores - np.nanmean(scores)) / spread)


def _sampled(workspace: Workspace, one: Made) -> Sampled | None:
    """KL of best-of-n by the optimised reward model as its samples' log-probabilities tell it, the mean over prompts, for an n
    well below their number; None without these."""
    try:
        table = _table(workspace, one, ("prompt_id", "text", LOG_P, SCORE + one.optimised))
    except ValueError:
        return None
    prompts, texts, log_p, scores = (table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names)
    estimates = []
    known = ~np.isnan(np.asarray(log_p, np.float64)) & ~np.isnan(np.asarray(scores, np.float64))
    rows = [np.flatnonzero(known & (prompts == prompt)) for prompt in dict.fromkeys(prompts.tolist())]
    n = min((len(row) for row in rows), default=0) // _SAMPLES_AN_N
    if n < 2:
        return None
    for row in rows:
        estimates.append(best_of_n.kl_sampled(log_p[row], scores[row], n, texts=texts[row]))
    return Sampled(n, outcomes.mean_over_prompts(np.array(estimates)))
