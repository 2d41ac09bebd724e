"""A release's policy: what it says, and what becomes of a pair under it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from curation.review import Verdict

Fate = Literal["keep", "swap", "drop"]
Outcome = Literal["kept", "swapped", "dropped"]
Basis = Literal["adjudicated", "voted", "undecided", "too few verdicts", "nobody"]

OUTCOMES: dict[Fate, Outcome] = {"keep": "kept", "swap": "swapped", "drop": "dropped"}
REVIEWED: tuple[Basis, ...] = ("adjudicated", "voted", "undecided")
_PAPER: dict[Verdict, Fate] = {Verdict.SAME: "keep", Verdict.OPPOSITE: "swap"}


class Policy(BaseModel):
    """What stays, what is swapped and what goes. An adjudication wins over any number of verdicts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdicts: dict[Verdict, Fate] = Field(
        default_factory=dict, validate_default=True,
        description="what becomes of a pair of each type; types left out: same is kept, opposite swapped, the rest dropped",
    )  # fmt: skip
    flagged_unreviewed: Literal["keep", "drop"] = Field("keep", description="flagged pairs that are not reviewed")
    drop_unreviewed_filters: tuple[str, ...] = Field(
        (), description="filters whose flags drop a pair that is not reviewed, even where other flagged pairs are kept"
    )
    votes_needed: int = Field(1, ge=1, le=20, description="with fewer standing verdicts a pair counts as not reviewed")
    decision: Literal["majority", "unanimous"] = Field(
        "majority", description="what decides: more than half of the verdicts, or all of them"
    )
    undecided: Literal["keep", "drop"] = Field("drop", description="pairs with enough verdicts that decide nothing")
    include_notes: bool = Field(False, description="put the reviewers' notes into labels.jsonl; they may name people")

    @field_validator("verdicts")
    @classmethod
    def _every_type(cls, given: Mapping[Verdict, Fate]) -> dict[Verdict, Fate]:
        return {one: given.get(one, _PAPER.get(one, "drop")) for one in Verdict}

    @classmethod
    def keep_everything(cls) -> "Policy":
        """The policy that changes nothing, whatever was said."""
        return cls(verdicts=dict.fromkeys(Verdict, "keep"), undecided="keep")

    def decided(self, votes: Counter[str]) -> str | None:
        """The verdict these votes come to, None when they decide nothing."""
        verdict, most = votes.most_common(1)[0]
        enough = most == votes.total() if self.decision == "unanimous" else 2 * most > votes.total()
        return verdict if enough else None

    def in_words(self) -> list[str]:
        """The policy as sentences for people."""
        fates = {fate: [one.value for one in Verdict if self.verdicts[one] == fate] for fate in OUTCOMES}
        needed = "one verdict is" if self.votes_needed == 1 else f"{self.votes_needed} verdicts are"
        decides = "more than half of them decide" if self.decision == "majority" else "they decide when all agree"
        filters = ", ".join(self.drop_unreviewed_filters)
        return [
            *(f"Pairs judged {_listed(types)} are {OUTCOMES[fate]}." for fate, types in fates.items() if types),
            f"A pair counts as reviewed when {needed} in; {decides}. An adjudication wins over all verdicts.",
            f"Pairs with enough verdicts that decide nothing are {OUTCOMES[self.undecided]}.",
            f"Flagged pairs that are not reviewed are {OUTCOMES[self.flagged_unreviewed]}"
            + (f"; those flagged by {filters} are dropped." if filters else "."),
            "Pairs that are neither flagged nor reviewed are kept.",
        ]


def policy_from(text: str) -> Policy:
    """The policy a JSON text holds. Raises ValueError that names the field, the value seen and what was expected."""
    try:
        return Policy.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "[key]")
    if first["type"] == "extra_forbidden":
        raise ValueError(f"the policy has no field {where!r}: expected one of {', '.join(Policy.model_fields)}")
    place = f"the policy's {where} is {first['input']!r}" if where else "the policy is not what was expected"
    raise ValueError(f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}")


class Ruling(NamedTuple):
    """What becomes of a pair and why. `agreeing` of `votes` verdicts name `verdict`; `filters` flag the pair."""

    outcome: Outcome
    basis: Basis
    verdict: str = ""  # empty where nothing is decided
    agreeing: int = 0
    votes: int = 0
    filters: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """The outcome with its reason, for people."""
        return f"{self.outcome}: {self._why()}"

    def _why(self) -> str:
        if self.basis == "adjudicated":
            return f"adjudicated {self.verdict}"
        if self.basis == "voted":
            who = "every reviewer" if self.agreeing == self.votes else "majority"
            return f"{who} says {self.verdict} ({self.agreeing} of {self.votes})"
        if self.basis == "undecided":
            return f"{self.votes} reviewers do not agree and nobody settled it"
        many = "nobody reviewed it" if not self.votes else f"too few verdicts ({self.votes})"
        return f"flagged by {', '.join(self.filters)}, {many}" if self.filters else many


def rule(policy: Policy, votes: Counter[str], *, settled: str | None = None, filters: tuple[str, ...] = ()) -> Ruling:
    """What becomes of a pair with these standing verdicts, this adjudication and these filters' flags."""
    total = votes.total()
    if settled is not None:
        return Ruling(OUTCOMES[policy.verdicts[Verdict(settled)]], "adjudicated", settled, votes[settled], total, filters)
    if total >= policy.votes_needed:
        verdict = policy.decided(votes)
        if verdict is None:
            return Ruling(OUTCOMES[policy.undecided], "undecided", votes=total, filters=filters)
        return Ruling(OUTCOMES[policy.verdicts[Verdict(verdict)]], "voted", verdict, votes[verdict], total, filters)
    drops = filters and (policy.flagged_unreviewed == "drop" or not set(filters).isdisjoint(policy.drop_unreviewed_filters))
    basis: Basis = "too few verdicts" if total else "nobody"
    return Ruling("dropped" if drops else "kept", basis, votes=total, filters=filters)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " or " + names[-1] if len(names) > 1 else names[0]
