"""RewardBench 2 by its own formulas, from the scores of answers to domains and a total, with our intervals beside them.

Source: arXiv 2506.01937, and rewardbench/utils.py of allenai/reward-bench at commit a0096928: reroll_and_score_dataset (best of
4), process_single_model (Ties).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from curation.stats.accuracy import Numbers, wilson_band
from curation.stats.figures import Figure, estimated, replicates
from curation.stats.rewardbench import DOMAINS, TIES, finite, share, weighted_mean

TIES_WEIGHTS = (0.30, 0.30, 0.20, 0.20, 0.01)  # in the order of the fields of TiesScore
_TIES_ID = re.compile(r"(ref|tied):(\d+)")

Record = tuple[str, ArrayLike, ArrayLike]  # its id, the scores of its correct and of its incorrect answers


class TiesScore(NamedTuple):
    """The parts of the score of Ties, each a mean over prompts: four shares of 0 to 1, and the margin of -1 to 1."""

    tied_accuracy: float  # of the tied prompts, where every correct answer beats every incorrect one
    ref_accuracy: float  # the same of the ref prompts
    preferred: float  # where the gap from correct to incorrect is wider than the spread of the correct ones
    preferred_hard: float  # the same with the narrower of the gaps of the tied prompt and of its ref prompt
    margin: float  # tanh(narrower gap / spread - 1)


class RewardBench2(NamedTuple):
    """RewardBench 2: the total is over `domains`, unweighted; `missing` are those that are not there. `ties` has the parts."""

    total: Figure
    domains: dict[str, Figure]
    ties: TiesScore | None
    missing: list[str]

    def gaps(self) -> str:
        """What the total lacks, in words: "without Math, Ties". Empty when nothing."""
        return f"without {', '.join(self.missing)}" if self.missing else ""

    def record(self) -> dict[str, Any]:
        """For JSON."""
        domains = {name: figure.record() for name, figure in self.domains.items()}
        ties = None if self.ties is None else self.ties._asdict()
        return {"total": self.total.record(), "domains": domains, "ties": ties, "missing": self.missing}


def answer_scores(chosen: ArrayLike, rejected: ArrayLike, correct: int) -> tuple[Numbers, Numbers]:
    """The scores of a record's correct and incorrect answers, from those of its rows.

    The rows, in order, are every correct answer with every incorrect one, as an import makes them; `correct` says how many
    are correct. Answers that read the same stay as many as they are. Raises ValueError where rows are not all there, and
    for a score that is not a number.
    """
    of_chosen, of_rejected = (
        finite(chosen, "the score of a correct answer"),
        finite(rejected, "the score of an incorrect answer"),
    )
    rows = len(of_chosen)
    whole = correct > 0 and rows > 0 and rows % correct == 0 and len(of_rejected) == rows
    if whole:
        of_chosen, of_rejected = of_chosen.reshape(correct, -1), of_rejected.reshape(correct, -1)
        whole = bool((of_chosen == of_chosen[:, :1]).all() and (of_rejected == of_rejected[:1]).all())
    if not whole:
        said = f"{rows} rows and {correct} correct answers"
        raise ValueError(f"a record has {said}: expected each correct answer with each incorrect one, in order")
    return of_chosen[:, 0], of_rejected[0]


def reward_bench_2(records: Mapping[str, Sequence[Record]], rng: np.random.Generator, *, resamples: int = 1000) -> RewardBench2:
    """RewardBench 2 of the scores of each domain's records; n counts prompts, of Ties pairs of a ref and a tied prompt.

    A domain is the mean of `credit` with a Wilson interval, Ties the score of `ties_score` with a bootstrap of prompts, the
    total the unweighted mean of the domains there are, with the interval of `weighted_mean`. The published Ties score, and so
    the total, can pass 1 by the margin's hundredth. Raises ValueError for another domain, for no record at all, and for
    a record without correct or incorrect answers, or with a score that is not a number.
    """
    for domain in records:
        if domain not in DOMAINS:
            raise ValueError(f"the subset {domain!r} is not one of RewardBench 2's: expected {', '.join(DOMAINS)}")
    checked = {domain: [_checked(domain, one) for one in records[domain]] for domain in DOMAINS if records.get(domain)}
    if not checked:
        raise ValueError("there is no record to score: expected records of at least one domain of RewardBench 2")
    figures, ties = {}, None
    for domain, rows in checked.items():
        if domain == TIES:
            figures[domain], ties = ties_score(rows, rng, resamples=resamples)
        else:
            figures[domain] = share(sum(credit(correct, wrong) for _, correct, wrong in rows), len(rows), "prompts")
    valued = [figure for figure in figures.values() if figure.value is not None]
    missing = [domain for domain in DOMAINS if domain not in figures or figures[domain].value is None]
    return RewardBench2(weighted_mean(valued, [1] * len(valued)) if valued else figures[TIES], figures, ties, missing)


def credit(correct: Numbers, incorrect: Numbers) -> float:
    """What a prompt earns: 1 when its correct answer alone has the highest score, 1/k when it shares that with k - 1 others.

    With several correct answers, of which the published formula knows nothing outside Ties: the share of the highest that is.
    """
    best = max(correct.max(), incorrect.max())
    right = int((correct == best).sum())
    return right / (right + int((incorrect == best).sum()))


def ties_score(
    records: Sequence[tuple[str, Numbers, Numbers]], rng: np.random.Generator, *, resamples: int = 1000
) -> tuple[Figure, TiesScore | None]:
    """The score of Ties and its parts; None where no number has both prompts, the one with one right answer and the other.

    Ids are "ref:7", a prompt with one right answer, and "tied:7", its partner with many. Of a prompt the gap is the lowest
    correct less the highest incorrect score, the spread the highest less the lowest correct one. The score is 0.30 tied
    accuracy + 0.30 ref accuracy + 0.20 preferred + 0.20 hard preferred + 0.01 margin (see TiesScore), the last three over the
    numbers that have both prompts. A spread of 0 makes the margin 1, -1, or 0 by the sign of the gap, as in the published
    code. The bootstrap draws numbers, both prompts together; where all agree in all four shares it sees next to no spread,
    and the interval is Wilson's of a share of that size. Raises ValueError for other ids, or one that is there twice.
    """
    hits, counted = _ties_parts(records)

    def scores(weights: Numbers) -> Numbers:
        of = weights @ counted
        parts = np.divide(weights @ hits, of, out=np.full(of.shape, np.nan), where=of > 0)
        return np.asarray(parts @ np.asarray(TIES_WEIGHTS))

    n = len(hits)
    figure = estimated(
        replicates(scores, n, rng, resamples=resamples), n, "prompts", "no prompt of Ties has both its ref and its tied form"
    )
    if figure.value is None:
        return figure, None
    parts = hits.sum(axis=0) / counted.sum(axis=0)
    if np.isin(parts[:4], (0.0, 1.0)).all():
        low, high = wilson_band([min(max(figure.value, 0.0), 1.0) * n], [n])
        limits = min(figure.value, float(low[0])), max(figure.value, float(high[0]))
        figure = figure._replace(low=limits[0], high=limits[1], undefined="")
    return figure, TiesScore(*parts.tolist())


def _ties_parts(records: Sequence[tuple[str, Numbers, Numbers]]) -> tuple[Numbers, Numbers]:
    """The parts of TiesScore of each number, and 1 where the number has that part; both (numbers, 5)."""
    gaps: dict[str, dict[int, float]] = {"ref": {}, "tied": {}}
    spreads: dict[int, float] = {}
    for name, correct, incorrect in records:
        kind, number = _ties_id(name)
        if number in gaps[kind]:
            raise ValueError(f"the Ties record {name!r} is there twice: expected each once")
        gaps[kind][number] = float(correct.min() - incorrect.max())
        if kind == "tied":
            spreads[number] = float(np.ptp(correct))
    numbers = sorted(gaps["ref"].keys() | gaps["tied"].keys())
    ref, tied = (np.array([gaps[kind].get(number, np.nan) for number in numbers]) for kind in ("ref", "tied"))
    spread = np.array([spreads.get(number, np.nan) for number in numbers])
    narrower = np.minimum(ref, tied)
    both = np.isfinite(narrower)
    with np.errstate(divide="ignore", invalid="ignore"):
        margin = np.nan_to_num(np.tanh(narrower / spread - 1), nan=0.0)
    hits = np.stack([tied > 0, ref > 0, both & (tied > spread), narrower > spread, margin], axis=1).astype(np.float64)
    return hits, np.stack([np.isfinite(tied), np.isfinite(ref), both, both, both], axis=1).astype(np.float64)


def _ties_id(name: str) -> tuple[str, int]:
    match = _TIES_ID.fullmatch(name)
    if match is None:
        raise ValueError(f"a record of Ties is called {name!r}: expected ref:NUMBER or tied:NUMBER")
    return match[1], int(match[2])


def _checked(domain: str, record: Record) -> tuple[str, Numbers, Numbers]:
    name, correct, incorrect = record
    scores = [finite(values, f"a score of record {name!r} of {domain}") for values in (correct, incorrect)]
    if not all(len(one) for one in scores):
        counts = " and ".join(str(len(one)) for one in scores)
        raise ValueError(f"the record {name!r} of {domain} has {counts} correct and incorrect answers: expected some of each")
    return name, scores[0], scores[1]
