"""What a filter is worth: its flags held against people's verdicts, at the threshold in force and at any other.

*Verdict* on a pair: the adjudication, else what more than half of the standing verdicts say, as a release by the default
policy has it. Pairs on which that decides nothing are left out and counted. A swapped gold pair is another pair, which is
not in the dataset, so it is not counted; verdicts on a gold pair as it stands are verdicts like others.
*Problem*: a pair whose verdict is anything but `same`. Some filters also look for one type of problem, OWN_TYPE.
*Flagged* by a filter at a threshold: its highest score on the pair is at least that. *Kept below*: found, with a lower one.
*Control sample*: pairs handed out as control, reviewed, and flagged by no filter now.

All is loaded once; thresholds are then moved in memory. Nothing here corrects for which flags were reviewed: the most
suspicious usually come first, so a precision stands for the flags that were reviewed and not for those that were not.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from curation.filters.registry import FILTERS
from curation.release_policy import Policy, rule
from curation.review import Verdict
from curation.stats.accuracy import ratio_of_shares, ratio_of_sums, wilson_band
from curation.stats.shares import Share
from curation.store.flags import Screening
from curation.store.verdicts import Decision
from curation.workspace import Workspace
from curation.worth_results import LONGEST, Control, FilterWorth, Move

OWN_TYPE = {
    "empty": Verdict.EMPTY, "repetitive": Verdict.REPETITIVE, "vague": Verdict.VAGUE, "indistinct": Verdict.VAGUE,
    "toxic": Verdict.TOXIC, "contested": Verdict.OPPOSITE,
}  # fmt: skip
GOOD_PRECISION = 0.9  # the lower limit of the precision from which pairs may be dropped unreviewed
GOOD_REVIEWED = 30  # reviewed flags wanted for that
MOST_UNSEEN = 0.1  # of the flags nobody reviewed, at most this share may score below every reviewed one
GRID = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))  # the thresholds a proposal may choose: 0.5 to 0.95
MOVED_CONFIDENCE = 1 - 0.05 / len(GRID)  # Bonferroni: so many thresholds could have been tried on the same verdicts
RULE = (
    f"Proposed where at least {GOOD_REVIEWED} flags are reviewed, the lower limit of the precision is at least "
    f"{GOOD_PRECISION:.0%}, and hardly any flag nobody reviewed scores below every reviewed one. A person decides."
)

Mask = NDArray[np.bool_]
_TYPES = list(Verdict)  # a verdict's place here is its number; SAME is 0, so that a problem is a number above 0
_NOBODY, _UNDECIDED = -1, -2


class Proposal(NamedTuple):
    """Whether a filter's flags may be dropped unreviewed, and why. `threshold`: a higher one from which they may."""

    filter: str
    drop: bool
    reason: str
    threshold: float | None = None


class Worth:
    """All filters of a dataset against its verdicts, as they were when it was made."""

    def __init__(
        self, dataset: str, pairs: int, screenings: Sequence[Screening], scores: NDArray[np.float64], judged: "_Judged"
    ) -> None:
        """`scores`: filters by pairs, NaN where nothing was found; `judged` of the same pairs. `pairs` counts them all."""
        self.dataset, self.pairs = dataset, pairs
        self.screenings = {one.filter: one for one in screenings}
        self.thresholds = {one.filter: one.threshold for one in screenings}
        self._scores: dict[str, NDArray[np.float64]] = dict(zip(self.screenings, scores, strict=True))
        self._judged = judged

    @cached_property
    def filters(self) -> dict[str, FilterWorth]:
        """Each filter at the threshold in force."""
        return {name: self.at(name, threshold) for name, threshold in self.thresholds.items()}

    @cached_property
    def control(self) -> Control:
        """The control sample at the thresholds in force."""
        return self._control(self._flagged_by_any(self.thresholds))

    @cached_property
    def proposals(self) -> dict[str, Proposal]:
        """For each filter, whether its flags may be dropped unreviewed; those that may come first."""
        every = [self._proposal(name) for name in self.screenings]
        return {one.filter: one for one in sorted(every, key=lambda one: not one.drop)}

    def at(self, filter: str, threshold: float) -> FilterWorth:
        """A filter as it would be with this threshold, the others as they are. ValueError for one that did not screen."""
        scores, judged = self._of(filter), self._judged
        flagged = scores >= threshold
        others = {name: self._scores[name] >= least for name, least in self.thresholds.items() if name != filter}
        shared = {name: int((flagged & one).sum()) for name, one in others.items()}
        by_others = self._flagged_by_any({name: self.thresholds[name] for name in others})
        control = self._control(flagged | by_others).rate
        problems, own_type = self._share(flagged), OWN_TYPE.get(filter)
        timed = flagged & (judged.timed > 0)
        return FilterWorth(
            filter, threshold, int(flagged.sum()), int(((scores < threshold) & ~np.isnan(scores)).sum()), problems,
            own_type.value if own_type else None, self._share(flagged, own_type) if own_type else None,
            int((flagged & (judged.verdict == _UNDECIDED)).sum()),
            ratio_of_shares(problems.part, problems.n, control.part, control.n), control,
            int((flagged & ~by_others).sum()), shared,
            ratio_of_sums(judged.seconds[timed] / 60, judged.verdict[timed] > 0),
            int(timed.sum()), int(judged.untimed[flagged].sum()), self._unseen(scores, threshold),
        )  # fmt: skip

    def move(self, filter: str, threshold: float) -> Move:
        """What this threshold would change, compared with the one in force."""
        scores, now = self._of(filter), self.thresholds[filter]
        between = (scores >= min(now, threshold)) & (scores < max(now, threshold))
        by_others = self._flagged_by_any({name: one for name, one in self.thresholds.items() if name != filter})
        held = int((between & by_others & (self._judged.verdict > 0)).sum())
        return Move(threshold > now, int(between.sum()), self._share(between), held)

    def curve(self, filter: str) -> pd.DataFrame:
        """At each threshold from 0 to 1 by hundredths: threshold, flagged, reviewed, precision, low, high (NaN without n)."""
        found = ~np.isnan(self._of(filter))
        scores, verdict = self._of(filter)[found], self._judged.verdict[found]
        thresholds = np.round(np.arange(101) / 100, 2)
        flagged, n, hits = (
            len(part) - np.searchsorted(np.sort(part), thresholds)
            for part in (scores, scores[verdict >= 0], scores[verdict > 0])
        )
        low, high = wilson_band(hits, n)
        precision = np.divide(hits, n, out=np.full(len(n), np.nan), where=n > 0)
        columns = {"threshold": thresholds, "flagged": flagged, "reviewed": n}
        return pd.DataFrame({**columns, "precision": precision, "low": low, "high": high})

    @property
    def busiest(self) -> str:
        """The filter that found something about the most pairs, flags or not."""
        return max(self._scores, key=lambda name: int((~np.isnan(self._scores[name])).sum()))

    def spread(self, filter: str) -> tuple[float, float] | None:
        """The lowest and the highest score the filter found, flags or not; None when it found nothing."""
        scores = self._of(filter)
        return None if np.isnan(scores).all() else (float(np.nanmin(scores)), float(np.nanmax(scores)))

    def proposals_in_words(self) -> list[str]:
        """Which flags may be dropped unreviewed, a line for each filter."""
        verb = {True: "may be dropped unreviewed", False: "review first"}
        return [RULE, *(f"{name}: {verb[one.drop]}. {one.reason}" for name, one in self.proposals.items())]

    def record(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "dataset": self.dataset, "pairs": self.pairs,
            "reviewed": int((self._judged.verdict >= 0).sum()), "undecided": int((self._judged.verdict == _UNDECIDED).sum()),
            "control": self.control.record(),
            "filters": [
                {**one.record(), "proposal": self.proposals[name]._asdict(), "read_by": self.screenings[name].read_by}
                for name, one in self.filters.items()
            ],
            "rule": {
                "least_precision": GOOD_PRECISION, "least_reviewed": GOOD_REVIEWED, "most_unseen": MOST_UNSEEN,
                "thresholds_tried": GRID, "confidence_after_moving": MOVED_CONFIDENCE,
            },
        }  # fmt: skip

    # ---- inside

    def _of(self, filter: str) -> NDArray[np.float64]:
        if filter not in self._scores:
            known = ", ".join(self._scores) or "none yet"
            raise ValueError(f"filter {filter!r} has not screened {self.dataset!r}: there is {known}")
        return self._scores[filter]

    def _flagged_by_any(self, thresholds: dict[str, float]) -> Mask:
        flagged = np.zeros(len(self._judged.verdict), bool)
        for name, least in thresholds.items():
            np.logical_or(flagged, self._scores[name] >= least, out=flagged)
        return flagged

    def _share(self, among: Mask, verdict: Verdict | None = None) -> Share:
        """Problems, or pairs of one type, among the decided pairs of these."""
        found = self._judged.verdict[among]
        hits = found > 0 if verdict is None else found == _TYPES.index(verdict)
        return Share(int(hits.sum()), int((found >= 0).sum()))

    def _control(self, flagged: Mask) -> Control:
        sample, others = self._judged.control & ~flagged, ~self._judged.control & ~flagged
        decided = self._judged.verdict >= 0
        types = [one for one in _TYPES if one != Verdict.SAME]
        return Control(
            self._share(sample), {one.value: self._share(sample, one) for one in types}, self.pairs - int(flagged.sum()),
            self._share(others), {one.value: self._share(others, one).part for one in types},
            int((sample & (self._judged.verdict == _UNDECIDED)).sum()), int((self._before & others & ~decided).sum()),
        )  # fmt: skip

    @cached_property
    def _before(self) -> Mask:
        """What was flagged by the thresholds the filters screened with."""
        return self._flagged_by_any({name: _screened_with(one) for name, one in self.screenings.items()})

    def _unseen(self, scores: NDArray[np.float64], threshold: float) -> Share:
        flagged, seen = scores >= threshold, self._judged.verdict != _NOBODY
        unreviewed = scores[flagged & ~seen]
        lowest = scores[flagged & seen].min(initial=np.inf)
        return Share(int((unreviewed < lowest).sum()), len(unreviewed))

    def _proposal(self, filter: str) -> Proposal:
        """The rule: enough reviewed flags, their precision's lower limit high enough, and no blind extrapolation.

        The threshold the filter screened with is held to a 95% interval. One moved since, and those of GRID that are
        tried here when it is not good enough, are held to MOVED_CONFIDENCE: the best of several on the same verdicts
        looks better than it is.
        """
        now = self.thresholds[filter]
        moved = now != _screened_with(self.screenings[filter])
        reason = self._against(filter, now, moved=moved)
        if reason is None:
            return Proposal(filter, True, self._because(filter, now, moved=moved))
        higher = next((one for one in GRID if one > now and self._against(filter, one, moved=True) is None), None)
        if higher is None:
            return Proposal(filter, False, reason)
        return Proposal(
            filter, False, f"{reason} From {higher:.2f} on it would do: {self._because(filter, higher, moved=True)}", higher
        )

    def _against(self, filter: str, threshold: float, *, moved: bool) -> str | None:
        """What speaks against dropping what is flagged at this threshold; None when nothing does."""
        scores = self._of(filter)
        flagged = scores >= threshold
        if not flagged.any():
            return "It flags nothing."
        share, unseen = self._share(flagged), self._unseen(scores, threshold)
        if share.n < GOOD_REVIEWED:
            return f"{share.n:,} of its flags reviewed, at least {GOOD_REVIEWED} are wanted."
        confidence = MOVED_CONFIDENCE if moved else 0.95
        low = share.limits(confidence)[0]
        if low < GOOD_PRECISION:
            return f"Precision {_held_to(share, moved)}: its lower limit {low:.1%} is below {GOOD_PRECISION:.0%}."
        if unseen.n and unseen.part > MOST_UNSEEN * unseen.n:
            return (
                f"Precision {_held_to(share, moved)}, but {unseen.part:,} of the {unseen.n:,} flags nobody reviewed score "
                "lower than every reviewed one: review some in random order first."
            )
        return None

    def _because(self, filter: str, threshold: float, *, moved: bool) -> str:
        flagged = self._of(filter) >= threshold
        return f"Precision {_held_to(self._share(flagged), moved)}, {int(flagged.sum()):,} pairs."


@dataclass(frozen=True)
class _Judged:
    """What people said of pairs, an entry a pair: the verdict's number, whether it was handed out as control, and the
    seconds, timed and untimed answers it took."""

    verdict: NDArray[np.int8]
    control: Mask
    seconds: NDArray[np.float64]
    timed: NDArray[np.int64]
    untimed: NDArray[np.int64]


def worth(workspace: Workspace, dataset: str) -> Worth:
    """Load a dataset's findings and verdicts. ValueError for an unknown dataset and for one that is not screened."""
    workspace.pairs.dataset(dataset)
    places = {name: place for place, name in enumerate(FILTERS)}
    screenings = sorted(workspace.flags.current(dataset), key=lambda one: places.get(one.filter, len(places)))
    if not screenings:
        raise ValueError(f"{dataset!r} is not screened yet: run `elephant screen {dataset}` first")
    standing, findings = workspace.verdicts.standing(dataset), workspace.flags.findings(dataset)
    verdicts = _verdicts(standing, {one.pair_id: one.verdict for one in workspace.verdicts.settlements(dataset)})
    pair_ids, known = pd.factorize(np.array([*verdicts, *(pair_id for _, pair_id, _ in findings)], dtype=object))
    order = {one.filter: row for row, one in enumerate(screenings)}
    scores = np.full((len(order), len(known)), np.nan)
    scores[[order[name] for name, _, _ in findings], pair_ids[len(verdicts) :]] = [score for _, _, score in findings]
    judged = _judged(verdicts, standing, len(known))
    return Worth(dataset, workspace.verdicts.progress(dataset).pairs, screenings, scores, judged)


def move_thresholds(workspace: Workspace, dataset: str, thresholds: dict[str, float], person: str) -> None:
    """Put thresholds in force, all of them or none; one that is in force already is no event.

    ValueError for an unknown dataset, a filter that has not screened it, and a threshold outside 0..1.
    """
    workspace.pairs.dataset(dataset)
    now = {one.filter: one.threshold for one in workspace.flags.current(dataset)}
    for filter, threshold in thresholds.items():
        if filter not in now:
            raise ValueError(f"filter {filter!r} has not screened {dataset!r}: there is {', '.join(now) or 'none yet'}")
        if not 0 <= threshold <= 1:
            raise ValueError(f"the threshold {threshold} of {filter}: expected 0 to 1")
    for filter, threshold in thresholds.items():
        if threshold != now[filter]:
            workspace.flags.set_threshold(dataset, filter, threshold, person, workspace.clock())


def _verdicts(standing: Sequence[Decision], settled: dict[str, str]) -> dict[str, int]:
    """The verdict's number of each pair that somebody judged, under the default policy of a release."""
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for one in standing:
        votes[one.pair_id][one.verdict] += 1
    policy, verdicts = Policy(), {}
    for pair_id in dict.fromkeys([*votes, *settled]):
        ruling = rule(policy, votes[pair_id], settled=settled.get(pair_id))
        verdicts[pair_id] = _TYPES.index(Verdict(ruling.verdict)) if ruling.verdict else _UNDECIDED
    return verdicts


def _judged(verdicts: dict[str, int], standing: Sequence[Decision], pairs: int) -> _Judged:
    """The same as arrays; the judged pairs come first, in their order."""
    places = {pair_id: place for place, pair_id in enumerate(verdicts)}
    where = np.array([places[one.pair_id] for one in standing], int)
    timed = np.array([one.seconds is not None for one in standing], bool)
    seconds = np.array([min(one.seconds or 0.0, LONGEST) for one in standing])
    verdict, control = np.full(pairs, _NOBODY, np.int8), np.zeros(pairs, bool)
    verdict[: len(verdicts)] = list(verdicts.values())
    control[[places[one.pair_id] for one in standing if one.kind == "control"]] = True
    return _Judged(
        verdict, control, np.bincount(where, seconds, pairs).astype(float), np.bincount(where[timed], minlength=pairs),
        np.bincount(where[~timed], minlength=pairs),
    )  # fmt: skip


def _held_to(share: Share, moved: bool) -> str:
    """A precision with the interval that counts."""
    if not moved:
        return share.words()
    return f"{share.words(MOVED_CONFIDENCE)} (interval widened for {len(GRID)} thresholds tried)"


def _screened_with(screening: Screening) -> float:
    """The threshold a filter screened with, whatever it was moved to since."""
    return float(json.loads(screening.parameters).get("threshold", 0.0))
