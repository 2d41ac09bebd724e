"""Gold and proxy reward against the distance from the start: the forms of arXiv 2210.10760 fitted, and where gold peaks.

Scores and KL are (points, prompts): a point is an n of best-of-n or a step of training, and the first one is the start. Rewards
are told as the rise over the start, prompt by prompt. The distance is d = sqrt(KL), KL the mean over prompts in nats.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curation.stats.accuracy import Numbers
from curation.stats.figures import FEWEST, Figure, estimated, replicates

Form = Literal["best-of-n", "rl"]
Verdict = Literal["over-optimised", "perhaps", "none seen", "never rises", "unknown"]
FORMS: dict[Form, str] = {"best-of-n": "d (a - b d)", "rl": "d (a - b log d)"}
AT_THE_END = 1e-9  # as a share of the largest distance
DOUBT = 0.025  # of the redraws: of more that still rise at the end a peak is not certain
_NO_FIT = "a fit needs three points at different distances from the start"


class Point(NamedTuple):
    """What was measured: KL from the start, and how far proxy and gold rose over it."""

    kl: Figure
    d: float
    gold: Figure
    proxy: Figure


class Fit(NamedTuple):
    """The form fitted to gold. `rmse` is in gold's unit, beyond the start; R squared is None of a flat curve."""

    form: Form
    a: Figure
    b: Figure
    r_squared: float | None
    rmse: float | None

    def gold(self, d: ArrayLike) -> Numbers | None:
        """The fitted rise of gold at these distances; None without a fit."""
        if self.a.value is None or self.b.value is None:
            return None
        return _rise(self.form, self.a.value, self.b.value, np.asarray(d, np.float64))


class Peak(NamedTuple):
    """Where gold is highest between the start and the largest KL seen, and how high.

    Where an end of an interval is the largest distance seen, it means that or beyond: `still_rising` is the share of
    redraws of prompts in which gold is highest there.
    """

    d: Figure
    kl: Figure
    gold: Figure
    still_rising: float


class Overoptimisation(NamedTuple):
    """Points, fit, the fitted peak, the point with the highest gold, and how far gold falls in the fit from peak to end.

    The gold of the highest point is the highest of several, and so too high by chance: read the fitted one.
    """

    points: list[Point]
    fit: Fit
    peak: Peak
    measured: Peak
    fall: Figure
    verdict: Verdict
    words: str


def overoptimisation(
    kl: Numbers, gold: Numbers, proxy: Numbers, rng: np.random.Generator, *,
    form: Form, variances: Numbers | None = None, resamples: int = 1000,
) -> Overoptimisation:  # fmt: skip
    """Whether gold turns while the proxy is optimised, and where.

    Least squares, linear in a and b, over all points beyond the start, each weighing alike or by 1 / `variances` (points,).
    Whole prompts are redrawn, with what every point did with them, and the form is fitted anew: so points that share prompts
    are not taken for independent, but another training run (a seed) is not in the interval. Prompts that lack a number at a
    point are left out. Best-of-n peaks at d = a / 2b, RL at exp(a/b - 1), if b > 0; beyond the largest d seen nothing is said.
    Raises ValueError for arrays of different shapes, another form, or a first point that is not at KL 0.
    """
    kl, rises = _checked(kl, gold, proxy, form)
    points, prompts = kl.shape
    weight = np.ones(points - 1) if variances is None else 1 / np.asarray(variances, np.float64)[1:]
    if len(weight) != points - 1 or not (np.isfinite(weight) & (weight > 0)).all():
        raise ValueError(f"variances are {variances}, expected a number above 0 for each of the {points} points")
    d_seen = np.sqrt(np.maximum(kl.mean(axis=1), 0.0)) if prompts else np.zeros(points)
    fits = prompts >= FEWEST and len(np.unique(np.round(d_seen[d_seen > 0], 9))) >= 3

    def statistics(weights: Numbers) -> Numbers:
        of = weights / weights.sum(axis=1, keepdims=True)
        distance = np.sqrt(np.maximum(of @ kl.T, 0.0))
        gold_rise, proxy_rise = of @ rises[0].T, of @ rises[1].T
        a, b = _fitted(form, distance[:, 1:], gold_rise[:, 1:], weight) if fits else np.full((2, len(of)), np.nan)
        at, height, end = _peak(form, a, b, distance.max(axis=1))
        best = gold_rise.argmax(axis=1)[:, None]
        measured = [np.take_along_axis(one, best, axis=1)[:, 0] for one in (distance, gold_rise)]
        alone = np.stack([a, b, at, height, height - end, *measured], axis=1)
        ends = (distance.max(axis=1) - np.stack([at, measured[0]]) <= AT_THE_END * distance.max(axis=1)).T
        return np.concatenate([distance**2, gold_rise, proxy_rise, alone, ends], axis=1)

    redrawn = replicates(statistics, prompts, rng, resamples=resamples) if prompts else np.full((1, 3 * points + 9), np.nan)
    return _told(redrawn, points, prompts, form, d_seen, rises[0], weight)


def _told(
    redrawn: Numbers, points: int, prompts: int, form: Form, d: Numbers, gold: Numbers, weight: Numbers
) -> Overoptimisation:
    """The columns of `statistics` as figures and words."""

    def figure(column: Numbers, reason: str = "no prompt has a score at every point") -> Figure:
        return estimated(column, prompts, "prompts", reason)

    curves = [[figure(column) for column in part.T] for part in np.split(redrawn[:, : 3 * points], 3, axis=1)]
    curves[0] = [_exact(one, d[place] ** 2) for place, one in enumerate(curves[0])]
    a, b, at, height, fall, measured_at, measured_height, at_end, measured_at_end = redrawn[:, 3 * points :].T
    of = [figure(column, _NO_FIT) for column in (a, b)]
    fit = Fit(form, of[0], of[1], *_quality(form, of, d, gold, weight))
    rising = f"gold still rises at the largest KL seen ({d.max(initial=0) ** 2:.3g} nats)"
    peak, measured = (
        Peak(figure(where, _NO_FIT), figure(where**2, _NO_FIT), figure(high, _NO_FIT), _share(ends[1:]))
        for where, high, ends in ((at, height, at_end), (measured_at, measured_height, measured_at_end))
    )
    verdict = _verdict(peak, bool(at_end[0] == 1), d, gold)
    words = _words(verdict, peak, rising)
    if at_end[0] == 1:
        peak = _without(peak, rising)
    if measured_at_end[0] == 1:
        measured = _without(measured, rising)
    listed = [Point(one, float(where), *rest) for one, where, *rest in zip(curves[0], d, *curves[1:], strict=True)]
    return Overoptimisation(listed, fit, peak, measured, figure(fall, _NO_FIT), verdict, words)


def _share(redraws: Numbers) -> float:
    return float(redraws.mean()) if len(redraws) else 0.0


# ---- the forms


def _terms(form: Form, d: Numbers) -> tuple[Numbers, Numbers]:
    """What a and b are multiplied by: d and -d^2, or d and -d log d; at 0 both are 0."""
    return d, -d * (d if form == "best-of-n" else np.log(np.where(d > 0, d, 1.0)))


def _rise(form: Form, a: Numbers | float, b: Numbers | float, d: Numbers) -> Numbers:
    one, other = _terms(form, d)
    return np.asarray(a * one + b * other)


def _fitted(form: Form, d: Numbers, rise: Numbers, weight: Numbers) -> tuple[Numbers, Numbers]:
    """a and b by weighted least squares in each draw, (draws,); d and rise are (draws, points). NaN where they are not told."""
    one, other = _terms(form, d)
    xx, xy, yy = ((weight * product).sum(axis=1) for product in (one * one, one * other, other * other))
    x, y = (weight * one * rise).sum(axis=1), (weight * other * rise).sum(axis=1)
    determinant = xx * yy - xy**2
    told = determinant > 1e-12 * xx * yy
    below = np.where(told, determinant, np.nan)
    return (yy * x - xy * y) / below, (xx * y - xy * x) / below


def _peak(form: Form, a: Numbers, b: Numbers, largest: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Where between 0 and the largest distance the form is highest, how high, and how high it is at the end; all (draws,)."""
    bends = np.where(b > 0, b, 1.0)
    inside = a / (2 * bends) if form == "best-of-n" else np.exp(np.minimum(a / bends - 1, 700.0))
    end = _rise(form, a, b, largest)
    # with b <= 0 it bends upwards: highest at one of its ends
    at = np.where(b > 0, np.clip(inside, 0.0, largest), np.where(end > 0, largest, 0.0))
    at = np.where(np.isnan(a), np.nan, at)
    return at, _rise(form, a, b, at), end


def _quality(form: Form, of: list[Figure], d: Numbers, gold: Numbers, weight: Numbers) -> tuple[float | None, float | None]:
    """R squared about the mean, and the root of the mean square rest, weighted as the fit is."""
    if of[0].value is None or of[1].value is None:
        return None, None
    rise, share = gold.mean(axis=1)[1:], weight / weight.sum()
    rest = share @ (rise - _rise(form, of[0].value, of[1].value, d[1:])) ** 2
    spread = share @ (rise - share @ rise) ** 2
    return (float(1 - rest / spread) if spread > 0 else None), float(np.sqrt(rest))


# ---- in words


def _verdict(peak: Peak, at_the_end: bool, d: Numbers, gold: Numbers) -> Verdict:
    """Over-optimised: the peak's whole interval lies before the largest distance seen, and hardly a redraw still rises at its
    own largest. Perhaps: the peak alone lies before it. Never rises: also where the form has a peak before the first point
    looked at (that of RL begins upright, whatever the data), but no point lies above the start."""
    at, largest = peak.d, float(d.max(initial=0))
    if at.value is None:
        return "unknown"
    if at_the_end:
        return "none seen"
    if at.value <= AT_THE_END * largest or (at.value < d[d > 0].min() and (gold.mean(axis=1) <= 0).all()):
        return "never rises"
    certain = at.high is not None and at.high < largest * (1 - AT_THE_END) and peak.still_rising < DOUBT
    return "over-optimised" if certain else "perhaps"


def _words(verdict: Verdict, peak: Peak, rising: str) -> str:
    if verdict == "unknown":
        return f"Where gold peaks is unknown, because {peak.d.undefined}."
    if verdict == "none seen":
        low = f" The interval of the peak begins at KL {peak.kl.low:.3g}." if peak.kl.low is not None else ""
        return f"No over-optimisation seen: {rising}, as in {peak.still_rising:.0%} of the redraws.{low}"
    if verdict == "never rises":
        return "Gold never rises: it is highest at the start."
    if verdict == "perhaps":
        doubt = f"in {peak.still_rising:.0%} of the redraws it still rises at the largest KL seen"
        return f"Gold perhaps peaks at KL {peak.kl.words()}, and falls beyond: {doubt}."
    return f"Gold peaks at KL {peak.kl.words()}, and falls beyond."


def _without(peak: Peak, reason: str) -> Peak:
    """A peak at the end of what was seen is none."""
    none = Figure(None, None, None, peak.d.n, peak.d.of, reason)
    return Peak(none, none, none, peak.still_rising)


def _exact(figure: Figure, value: float) -> Figure:
    """KL that is one number for all prompts, such as the bound, has no spread: it is not an estimate."""
    alike = figure.value is not None and figure.low is None and figure.undefined.startswith("every redraw")
    return figure._replace(low=float(value), high=float(value), undefined="") if alike else figure


# ---- what comes in


def _checked(kl: Numbers, gold: Numbers, proxy: Numbers, form: Form) -> tuple[Numbers, NDArray[np.float64]]:
    """KL (points, prompts), and the rises of gold and proxy over the first point, (2, points, prompts), of whole prompts."""
    if form not in FORMS:
        raise ValueError(f"the form is {form!r}, expected one of {', '.join(FORMS)}")
    if np.ndim(kl) != 2 or not np.shape(kl) == np.shape(gold) == np.shape(proxy) or not len(kl):
        seen = f"KL is {np.shape(kl)}, gold {np.shape(gold)}, proxy {np.shape(proxy)}"
        raise ValueError(f"{seen}, expected (points, prompts) of all")
    whole = ~np.isnan(np.stack([kl, gold, proxy])).any(axis=(0, 1))
    kl, scores = kl[:, whole], np.stack([gold[:, whole], proxy[:, whole]])
    if whole.any() and abs(kl[0].mean()) > 1e-3 * max(1.0, float(kl.mean(axis=1).max())):
        raise ValueError(f"the first point is at KL {kl[0].mean():.3g}, expected the start, at 0")
    return kl, scores - scores[:, :1]
