"""What is known of one filter, of the control sample and of a threshold moved: in numbers, in words and for JSON.

The words used here are defined in curation/worth.py, which makes these.
"""

from dataclasses import dataclass
from typing import Any

from curation.stats.accuracy import Ratio
from curation.stats.shares import Estimate, Share

LONGEST = 300.0  # seconds counted of one answer at most: a longer one holds a break
COLUMNS = {
    "precision": "problems among its reviewed flags; pairs on which reviewers come to no decision are left out",
    "of its own type": "the same for the one type of problem that the filter looks for, of the same pairs",
    "times the control": "how many times more often its reviewed flags are problems than pairs of the control sample are",
    "flagged by it alone": "pairs that no other filter flags",
    "time per problem": "reviewers' time for each confirmed problem, over the reviewed flags whose time is known; "
    f"of one answer at most {LONGEST / 60:.0f} min are counted",
}


@dataclass(frozen=True)
class Control:
    """What the filters miss, by the control sample.

    Misses: problems among the unflagged pairs. Those already reviewed otherwise (`known`, such as pairs flagged before a
    threshold was raised) are counted, the rest of the unflagged is the base rate times their number. `untold` pairs are
    left out: a filter flagged them until its threshold was raised, so the sample was not drawn from them, and nobody
    reviewed them.
    """

    rate: Share
    by_type: dict[str, Share]
    unflagged: int
    known: Share
    known_by_type: dict[str, int]
    undecided: int
    untold: int = 0

    def misses(self, verdict: str | None = None) -> Estimate | None:
        """Problems, or pairs of one type, that no filter flags; None without a control sample."""
        share = self.by_type[verdict] if verdict else self.rate
        known = self.known_by_type[verdict] if verdict else self.known.part
        if share.value is None:
            return None
        rest = self.unflagged - self.known.n - self.untold
        low, high = share.limits()
        return Estimate(*(known + round(rest * one) for one in (share.value, low, high)))

    def headline(self) -> str:
        """The sample and what follows from it, in a sentence or two."""
        if not self.rate.n:
            return "Control sample: none yet. Review some of it, so that what the filters miss is measured."
        return (
            f"Pairs that no filter flags: {self.unflagged:,}. Problems among the control sample of them: {self.rate.words()}. "
            f"So the filters miss {_about(self.misses())} problems."
        )

    def details(self) -> list[str]:
        """More sentences about it: by type, and what was counted how."""
        if not self.rate.n:
            return []
        said = []
        seen = [(name, self.misses(name)) for name, share in self.by_type.items() if share.part]
        if seen:
            said.append("Missed by type: " + "; ".join(f"{name} {_about(misses)}" for name, misses in seen) + ".")
        unseen = [name for name, share in self.by_type.items() if not share.part]
        most = max((one.high for name in unseen if (one := self.misses(name)) is not None), default=0)
        if unseen:
            said.append(f"None of the sample is {' or '.join(unseen)}: at most {most:,} pairs of each are missed.")
        if self.undecided:
            said.append(f"Reviewers came to no decision on {self.undecided:,} control pairs, which are left out.")
        if self.known.n:
            said.append(
                f"{self.known.n:,} of the unflagged pairs were reviewed, but not as control: their {self.known.part:,} "
                "problems are counted, not estimated."
            )
        if self.untold:
            said.append(
                f"{self.untold:,} unflagged pairs were flagged until a threshold was raised, and nobody reviewed them: what "
                "they hold is not known, and they are not in the estimate."
            )
        return said

    def record(self) -> dict[str, Any]:
        """For JSON."""
        types = {name: self.misses(name) for name in self.by_type}
        return {
            "reviewed": self.rate.n, "undecided": self.undecided, "unflagged": self.unflagged, "untold": self.untold,
            "problems": self.rate.record(),
            "known": {"reviewed": self.known.n, "problems": self.known.part}, "misses": _estimated(self.misses()),
            "misses_by_type": {name: _estimated(one) for name, one in types.items()},
        }  # fmt: skip


@dataclass(frozen=True)
class FilterWorth:
    """One filter at one threshold; pairs are distinct, shares are over reviewed and decided pairs.

    `problems` is the precision, `own` the same for the filter's own type. `lift` is the precision over the control
    sample's base rate. `alone` counts flagged pairs that no other filter flags, `shared` those that each other one does.
    `minutes` are reviewers' minutes for each confirmed problem, over reviewed flags with an answer whose time is known
    (`timed`), each answer counted with at most LONGEST seconds; `untimed` answers, imported ones, are left out, and so is
    the time of adjudicators. `unseen`: of the flags nobody reviewed, those that score below every reviewed one.
    """

    filter: str
    threshold: float
    flagged: int
    below: int
    problems: Share
    own_type: str | None
    own: Share | None
    undecided: int
    lift: Ratio
    control: Share
    alone: int
    shared: dict[str, int]
    minutes: Ratio
    timed: int
    untimed: int
    unseen: Share

    def own_in_words(self) -> str:
        """The precision for the filter's own type."""
        return f"{self.own_type} {self.own.words().partition(', n=')[0]}" if self.own is not None else "any problem counts"

    def lift_in_words(self) -> str:
        """The lift, or why there is none."""
        if not self.problems.n:
            return "none yet"
        if not self.control.n:
            return "undefined, because the control sample is not reviewed yet"
        value, low, high = self.lift
        if value is None:
            return f"undefined, because none of {self.control.n:,} control pairs is a problem; at least {low or 0:.1f} ×"
        upper = "no limit" if high is None else f"{high:.1f}"
        return f"{value:.1f} × [{low or 0:.1f}, {upper}]"

    def minutes_in_words(self) -> str:
        """Reviewers' time for each confirmed problem, or why there is none."""
        value, low, high = self.minutes
        if not self.problems.n and not self.undecided:
            return "none yet"
        if not self.timed:
            return "undefined, because no answer's time is known"
        if value is None:
            return f"undefined, because no problem is confirmed (n={self.timed:,})"
        limits = "" if low is None or high is None else f" [{low:.1f}, {high:.1f}]"
        return f"{value:.1f} min{limits}, n={self.timed:,}"

    def row(self) -> dict[str, str]:
        """The filter in the overview, in words."""
        undecided = f", {self.undecided:,} undecided" if self.undecided else ""
        pairs = "pair" if self.flagged == 1 else "pairs"
        return {
            "filter": self.filter, "flagged": f"{self.flagged:,} {pairs} from {self.threshold:.2f} on",
            "precision": self.problems.words() + undecided, "of its own type": self.own_in_words(),
            "times the control": self.lift_in_words(), "flagged by it alone": _of(self.alone, self.flagged),
            "time per problem": self.minutes_in_words(),
        }  # fmt: skip

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "filter": self.filter, "threshold": self.threshold, "flagged": self.flagged, "kept_below": self.below,
            "reviewed": self.problems.n, "undecided": self.undecided, "precision": self.problems.record(),
            "own_type": self.own_type, "precision_own_type": self.own.record() if self.own else None,
            "lift": {**_numbers(self.lift), "control_n": self.control.n, "in_words": self.lift_in_words()},
            "alone": self.alone, "shared": self.shared,
            "minutes_per_problem": {**_numbers(self.minutes), "n": self.timed, "untimed": self.untimed},
            "unreviewed": self.unseen.n, "unreviewed_below_every_reviewed": self.unseen.part,
        }  # fmt: skip


@dataclass(frozen=True)
class Move:
    """What another threshold changes: the pairs flagged at one of the two and not at the other.

    `problems` are those among the reviewed of them; `held` of these problems another filter flags all the same.
    """

    raised: bool
    pairs: int
    problems: Share
    held: int

    def words(self) -> str:
        """For people."""
        if not self.pairs:
            return "The same pairs are flagged as now."
        does = "no longer be flagged" if self.raised else "be flagged in addition"
        if not self.problems.n:
            return f"{self.pairs:,} pairs would {does}. None of them is reviewed: what that loses or finds is not known."
        verb = "be lost" if self.raised else "be found"
        held = f"; another filter flags {self.held:,} of these all the same" if self.problems.part else ""
        share = f"{self.problems.part:,} of {self.problems.n:,} reviewed ({self.problems.words()})"
        return f"{self.pairs:,} pairs would {does}. Problems that would {verb}: {share}{held}."


def _numbers(ratio: Ratio) -> dict[str, float | None]:
    return ratio._asdict()


def _estimated(misses: Estimate | None) -> dict[str, int] | None:
    return None if misses is None else misses._asdict()


def _about(misses: Estimate | None) -> str:
    return "none yet" if misses is None else misses.words()


def _of(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}" if whole else "none"
