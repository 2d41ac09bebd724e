"""The design of a study: what raters are asked, on which scale, by how many of them; and what of it may change later."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Choice = Literal["left", "right", "tie", "both bad"]
COMPARISON = "comparison"
CHOICES: tuple[Choice, ...] = ("left", "right", "tie", "both bad")
REASONS = ("wrong facts", "refusal", "off topic", "incomplete", "unsafe", "hard to read", "too long", "too short")


class Aspect(BaseModel):
    """One thing each response is rated on. Anchors are words for the lowest and the highest value, or for every value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=40, description="short, as in the exported files")
    question: str = Field("", max_length=300, description="what the rater is asked")
    points: int = Field(5, ge=2, le=7, description="values 1 to this many")
    anchors: tuple[str, ...] = Field((), description="words for 1 and the highest value, or for every value")

    @model_validator(mode="after")
    def _anchors_fit(self) -> Self:
        if len(self.anchors) not in (0, 2, self.points):
            raise ValueError(
                f"aspect {self.name!r} has {len(self.anchors)} anchors: expected 2 (lowest, highest) or one for each of "
                f"{self.points} points"
            )
        return self

    def words(self, value: int) -> str:
        """What a value is called; "" where the scale has no word for it."""
        if len(self.anchors) == self.points:
            return self.anchors[value - 1]
        return {1: self.anchors[0], self.points: self.anchors[1]}.get(value, "") if self.anchors else ""


class Found(BaseModel):
    """A scale that imported ratings brought: its lowest and highest value, and its words where values are words."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    low: float
    high: float
    words: tuple[str, ...] = ()


READY = {
    one.name: one
    for one in (
        Aspect(
            name="helpfulness", question="How well does it do what the person needs?",
            anchors=("no help at all", "does all of it, well"),
        ),
        Aspect(
            name="harmlessness", question="How safe is it to give this answer to anybody?",
            anchors=("could do serious harm", "no harm"),
        ),
        Aspect(
            name="honesty", question="How true is it, and how open about what it does not know?",
            anchors=("false or misleading", "true and open"),
        ),
        Aspect(name="overall", question="All in all, how good is it?", points=7, anchors=("very bad", "very good")),
    )
}  # fmt: skip


class Design(BaseModel):
    """A study's protocol. Every change is recorded; after the first answer only what widens the study may change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    guidelines: str = Field("", max_length=100_000, description="Markdown, shown to raters")
    protocol: Literal["rate", "compare", "both"] = Field("rate", description="rate each response, compare two, or both")
    aspects: tuple[Aspect, ...] = Field((READY["helpfulness"],), max_length=6, description="what responses are rated on")
    comparison: Literal["choice", "strength"] = Field("choice", description="A, B, tie, both bad; or a 7-point strength")
    question: str = Field("Which response is better?", max_length=300, description="what is asked of two responses")
    reasons: tuple[str, ...] = Field((), max_length=20, description="reasons a rater may tick")
    notes: bool = Field(True, description="let raters write a note")
    at_once: bool = Field(False, description="submit with the last value, without Enter")
    overlap: int = Field(3, ge=1, le=100, description="distinct raters for each item")
    raters_at_most: int = Field(0, ge=0, le=100, description="raters for an item at most, where they disagree; 0: overlap")
    extra_below: float = Field(0.5, ge=0, le=1, description="agreement on an item under which one more rater is asked")
    gold_share: float = Field(0.1, ge=0, le=0.5, description="share of gold and attention items mixed in")
    found: tuple[Found, ...] = Field((), description="scales of imported ratings")
    pause_seconds: float = Field(0, ge=0, le=600, description="pause a rater whose median answer is faster; 0: never")
    pause_gold: int = Field(0, ge=0, le=50, description="pause a rater after this many failed gold items; 0: never")
    least_claim_minutes: float = Field(5, gt=0, le=1440, description="an item is held for a rater at least this long")

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        names = [one.name for one in self.aspects]
        if COMPARISON in names:
            raise ValueError(f"an aspect is called {COMPARISON!r}, a name kept for comparisons: call it otherwise")
        if len(set(names)) < len(names):
            raise ValueError(f"the aspects are {', '.join(names)}: expected each name once")
        if self.rates and not self.aspects and not self.found:
            raise ValueError("a study that rates has no aspect: expected 1 to 6")
        if self.raters_at_most and self.raters_at_most < self.overlap:
            raise ValueError(
                f"{self.raters_at_most} raters at most for an item, but an overlap of {self.overlap}: expected as many or more"
            )
        return self

    @property
    def rates(self) -> bool:
        """Whether responses are rated."""
        return self.protocol != "compare"

    @property
    def compares(self) -> bool:
        """Whether two responses are compared."""
        return self.protocol != "rate"

    @property
    def most(self) -> int:
        """How many raters an item gets at most."""
        return self.raters_at_most or self.overlap


# what may change after the first answer: the questions stay, more of the same may come
_WIDENS = ("overlap", "raters_at_most")
_HOUSEKEEPING = ("found", "pause_seconds", "pause_gold", "gold_share", "least_claim_minutes")


def changes(old: Design, new: Design) -> dict[str, tuple[object, object]]:
    """What differs between two designs: field, before, after."""
    return {
        name: (getattr(old, name), getattr(new, name))
        for name in Design.model_fields
        if getattr(old, name) != getattr(new, name)
    }


def check_widens(old: Design, new: Design) -> None:
    """Raises ValueError, naming the fields, when the change would make new answers of another kind than the old ones.

    Overlap and the most raters may rise; how many gold items are mixed in, when a rater is paused, and how long a claim
    lasts may change, since they change no question.
    """
    wrong = []
    for name, (before, after) in changes(old, new).items():
        grows = name in _WIDENS and _at_least(name, old, new)
        if not grows and name not in _HOUSEKEEPING:
            wrong.append(f"{name} from {_short(before)} to {_short(after)}")
    if wrong:
        raise ValueError(
            f"the study has answers, so {'; '.join(wrong)} cannot change any more: only what widens it can "
            "(overlap or raters_at_most upward, more items); make a new study for another question"
        )


def _at_least(name: str, old: Design, new: Design) -> bool:
    return new.most >= old.most if name == "raters_at_most" else new.overlap >= old.overlap


def _short(value: object) -> str:
    words = str(value)
    return repr(words if len(words) <= 40 else words[:39] + "…")


# ---- what is asked of one item


class Question(NamedTuple):
    """One thing to answer on an item: an aspect of one response, or the comparison of two (then `response` is "").

    `response` is the id of the response and `place` where it is shown, from 0. `values` are the keys 1, 2, ... in words.
    """

    response: str
    place: int
    aspect: str
    text: str
    values: tuple[str, ...]

    @property
    def key(self) -> str:
        """Its name in a draft."""
        return f"{self.response}/{self.aspect}" if self.response else self.aspect


_STRENGTHS = ("A much better", "A better", "A slightly better", "the same", "B slightly better", "B better", "B much better")
CHOICE_WORDS = ("A is better", "B is better", "Tie", "Both bad")


def questions(design: Design, shown: Sequence[str]) -> list[Question]:
    """What is asked of an item whose responses are shown in this order, in the order of the card."""
    found = []
    if design.rates:
        for place, response in enumerate(shown):
            for one in design.aspects:
                values = tuple(one.words(value) for value in range(1, one.points + 1))
                found.append(Question(response, place, one.name, one.question, values))
    if design.compares and len(shown) == 2:
        values = CHOICE_WORDS if design.comparison == "choice" else _STRENGTHS
        found.append(Question("", 0, COMPARISON, design.question, values))
    return found


class Marks(NamedTuple):
    """What one answer says, by response id: ratings of responses, and a comparison of two (left is shown first).

    The choice is one of CHOICES; strength is -3 (left much better) to 3 (right much better), None where it was not asked.
    """

    ratings: tuple[tuple[str, str, float], ...] = ()
    preferences: tuple[tuple[str, str, Choice, int | None], ...] = ()


def marks_of(design: Design, shown: Sequence[str], values: Mapping[str, int]) -> Marks:
    """The marks of a filled card. `shown` are response ids in the order shown, `values` the keys pressed by question.

    Raises ValueError that names what is missing.
    """
    asked = questions(design, shown)
    missing = [one for one in asked if one.key not in values]
    if missing:
        names = ", ".join(_where(one, len(shown)) for one in missing)
        raise ValueError(f"not answered yet: {names}")
    ratings = tuple((one.response, one.aspect, float(values[one.key])) for one in asked if one.response)
    preferences: list[tuple[str, str, Choice, int | None]] = []
    if asked and not asked[-1].response:
        left, right = shown
        pressed = values[COMPARISON]
        if design.comparison == "choice":
            preferences.append((left, right, CHOICES[pressed - 1], None))
        else:
            preferences.append((left, right, choice_of_strength(pressed - 4), pressed - 4))
    return Marks(ratings, tuple(preferences))


def values_of(design: Design, shown: Sequence[str], marks: Marks) -> dict[str, int]:
    """The keys that give these marks on a card that shows the responses in this order: the other way round."""
    keys = {one.key for one in questions(design, shown)}
    found = {f"{response}/{aspect}": int(value) for response, aspect, value in marks.ratings}
    for left, _, choice, strength in marks.preferences:
        turned = left != shown[0]
        if design.comparison == "strength" and strength is not None:
            found[COMPARISON] = 4 + (-strength if turned else strength)
        elif design.comparison == "choice":
            found[COMPARISON] = 1 + CHOICES.index(other_side(choice) if turned else choice)
    return {key: value for key, value in found.items() if key in keys}


def choice_of_strength(strength: int) -> Choice:
    """Which side a strength of -3 to 3 is for."""
    return "left" if strength < 0 else "right" if strength > 0 else "tie"


def other_side(choice: Choice) -> Choice:
    """A choice as seen with the sides exchanged."""
    if choice == "left":
        return "right"
    return "left" if choice == "right" else choice


def letter(place: int) -> str:
    """What the response at a place is called on the card: A, B, C, ..."""
    return chr(ord("A") + place)


def _where(question: Question, responses: int) -> str:
    if not question.response:
        return question.aspect
    return f"{question.aspect} of {letter(question.place)}" if responses > 1 else question.aspect


# ---- agreement on one item, for deciding whether one more rater is wanted


def agreement_on_item(design: Design, answers: Mapping[str, Marks]) -> float | None:
    """How far raters agree on an item, 0 to 1: the mean over pairs of raters and over what both answered.

    Two values of a scale of k points agree to 1 - |difference| / (k - 1), two strengths to 1 - |difference| / 6, two
    choices to 1 or 0. None where no two raters answered the same.
    """
    widths = {one.name: one.high - one.low for one in design.found} | {one.name: one.points - 1.0 for one in design.aspects}
    rated: dict[tuple[str, str], list[float]] = defaultdict(list)
    compared: dict[tuple[str, str], list[tuple[Choice, int | None]]] = defaultdict(list)
    for marks in answers.values():
        for response, aspect, value in marks.ratings:
            rated[response, aspect].append(value)
        for left, right, choice, strength in marks.preferences:
            turned = left > right
            side = other_side(choice) if turned else choice
            compared[min(left, right), max(left, right)].append((side, -strength if turned and strength else strength))
    found = [_near(values, widths.get(aspect) or 1.0) for (_, aspect), values in rated.items()]
    for sides in compared.values():
        strengths = [strength for _, strength in sides if strength is not None]
        found.append(_near(strengths, 6.0) if len(strengths) == len(sides) else _alike([choice for choice, _ in sides]))
    pairs = sum(count for _, count in found)
    return sum(agreeing for agreeing, _ in found) / pairs if pairs else None


def _near(values: Sequence[float], width: float) -> tuple[float, int]:
    """The sum of 1 - |difference| / width over pairs of values, and the pairs: from ranks, since pairs can be thousands."""
    n = len(values)
    apart = sum(value * (2 * place - n + 1) for place, value in enumerate(sorted(values)))
    pairs = n * (n - 1) // 2
    return pairs - min(float(pairs), apart / width), pairs


def _alike(choices: Sequence[Choice]) -> tuple[float, int]:
    n = len(choices)
    return sum(count * (count - 1) / 2 for count in Counter(choices).values()), n * (n - 1) // 2
