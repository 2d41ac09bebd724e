"""Filter: responses that say nothing in particular, by their words or by how far they are from what was asked."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from curation.filters import stubs
from curation.filters.base import Flag, Numbers, Read, ReadingFilter, several
from curation.pairs import Pair
from curation.readings import Reader
from training.embeddings import PACKAGED, Embedder, asked

# what can be said to anything: a response near one of these and far from its prompt does not answer it
_NOT_KNOWING = (
    "I don't know the answer to that.", "I don't have any information about that.", "I'm not sure I can answer that question.",
)  # fmt: skip
_NON_ANSWERS = (
    "I'm sorry, I don't understand your question.", "Could you tell me more about what you mean?",
    "I'm not sure what you mean.", "What would you like to know?", "I'd be happy to help with that.",
    "Could you give me more details?", "Would you like me to look that up for you?", "That's an interesting question.",
    "What do you think about it?", "Is there something specific you have in mind?",
    "I'm not really sure what you're asking for.", *_NOT_KNOWING,
)  # fmt: skip
_REFUSAL = re.compile(
    r"\b(?:can'?t|cannot|won'?t|will not|not (?:going|willing|comfortable|able|allowed|appropriate|a good idea|okay|right)|"
    r"unable|refuse|illegal|unethical|immoral|inappropriate|harm\w*|danger\w*|hurt\w*|violen\w*|racis\w*|offensive|"
    r"shouldn'?t|don'?t (?:want to (?:help|do|say|talk|discuss|give|tell)|think (?:that|this|it|you should)))\b"
)
_APOSTROPHES = str.maketrans("’‘`", "'''")
_LETTERS = re.compile(r"[^\W\d_]{2,}")
_CONSONANTS = re.compile(r"(?i)^[bcdfghjklmnpqrstvwxz]{4,}$|[bcdfghjklmnpqrstvwxz]{6,}")
_STOCK, _FAR, _UNRELATED = 0.45, 0.25, 0.12  # cosines of all-MiniLM-L6-v2, read off HH-RLHF: see EXPERIMENTS.md
_SENTENCE = 4  # words: "1983." and "Paris" are answers, shorter stubs are known by their words
_ENOUGH_WORDS = 12  # a shorter answer can be right and yet share nothing with its prompt


class Vague(ReadingFilter):
    """Responses that say nothing in particular: stubs such as 'What?' or 'I see.', non-answers that could be said to
    anything, and responses about something else than what was asked, while the other side is about it. Short
    answers, thanks and refusals are left alone. Also prompts that nobody could judge, for want of any words."""

    name = "vague"
    version = 2
    fixed: ClassVar[tuple[str, ...]] = _NON_ANSWERS

    threshold: float = Field(0.6, ge=0, le=1, description="the score from which a finding is a flag")
    longest: int = Field(120, ge=1, le=1000, description="characters up to which a response can be a stub")
    not_knowing_too: bool = Field(True, description="also responses that say no more than 'I don't know.' or 'It depends.'")
    relevance: bool = Field(True, description="also how far a response is from its prompt, by sentence embeddings")
    model: str = Field(PACKAGED, min_length=1, description="the embeddings: minilm, a folder, or a sentence-transformers id")

    def judges_alone(self) -> bool:
        return not self.relevance

    def reader(self) -> Reader | None:
        return Embedder(self.model) if self.relevance else None

    def texts(self, pair: Pair) -> Sequence[str]:
        return (asked(pair.prompt), pair.chosen.text, pair.rejected.text)

    def judged(self, pairs: Iterable[Pair], read: Read, given: Path | None = None) -> Iterator[Flag]:
        non_answers = read(_NON_ANSWERS) if self.relevance else None
        for some in several(pairs):
            nearness = self._nearness(some, read, non_answers) if non_answers is not None else [(None, None)] * len(some)
            for pair, numbers in zip(some, nearness, strict=True):
                if prompt := _unjudgeable(pair):
                    yield self.flag(pair, "pair", 0.7, f"nobody could judge an answer to this prompt: {prompt!r}")
                    continue
                found = {
                    side: said
                    for (side, text), near in zip(pair.sides(), numbers, strict=True)
                    if (said := self._stub(pair, text) or (_meaning(pair, text, near) if near else None))
                }
                yield from self._of_sides(pair, found)

    def _nearness(self, pairs: Sequence[Pair], read: Read, non_answers: Numbers) -> "list[tuple[_Near, _Near]]":
        prompts = read([asked(pair.prompt) for pair in pairs])
        sides = [read([pair.chosen.text for pair in pairs]), read([pair.rejected.text for pair in pairs])]
        near = [np.sum(prompts * one, axis=1).tolist() for one in sides]
        generic = [self._generic(one @ non_answers.T) for one in sides]
        return [
            (_Near(chosen, rejected, chosen_generic), _Near(rejected, chosen, rejected_generic))
            for chosen, rejected, chosen_generic, rejected_generic in zip(*near, *generic, strict=True)
        ]

    def _generic(self, cosines: Numbers) -> list[float]:
        """How near each response is to the nearest stock non-answer; nan where that one is allowed."""
        nearest = cosines.max(axis=1)
        if not self.not_knowing_too:
            nearest[cosines.argmax(axis=1) >= len(_NON_ANSWERS) - len(_NOT_KNOWING)] = np.nan
        return [float(one) for one in nearest]

    def _stub(self, pair: Pair, text: str) -> "_Said | None":
        stub = stubs.stub_in(pair, text, longest=self.longest, not_knowing_too=self.not_knowing_too)
        return None if stub is None else _Said(stub.score, "says nothing in particular", stub.shown, stub.excused)

    def _of_sides(self, pair: Pair, found: Mapping[Literal["chosen", "rejected"], "_Said"]) -> Iterator[Flag]:
        if len(found) == 2 and all(one.empty for one in found.values()):
            # whatever excuses one, two of them leave nothing to choose
            one, other = sorted(found.values(), key=lambda said: said.shown)  # by text: the order tells no side
            reason = f"both responses say nothing in particular: {one.shown} and {other.shown}"
            yield self.flag(pair, "both", max(one.score, other.score), reason, _detail(found))
            return
        for side, said in found.items():
            if not said.excused:
                yield self.flag(pair, side, said.score, f"the {side} response {said.what}: {said.shown}", _detail({side: said}))


class _Near(NamedTuple):
    """Cosines: a response with its prompt, the other response with it, and this one with the nearest stock non-answer."""

    prompt: float
    other: float
    generic: float


class _Said(NamedTuple):
    """What is wrong with a response. `empty`: it says nothing, rather than something else."""

    score: float
    what: str
    shown: str
    excused: bool = False
    empty: bool = True
    near: _Near | None = None


def _meaning(pair: Pair, text: str, near: _Near) -> _Said | None:
    """What the embeddings say of a response to a request; None where it may well be an answer."""
    words = text.lower().translate(_APOSTROPHES)
    if (
        not text.strip()
        or math.isnan(near.generic)
        or near.generic == 0
        or stubs.excused("asking on", stubs.asked_last(pair))
        or _REFUSAL.search(words)
    ):
        return None
    shown = repr(" ".join(text.split())[:80])
    if near.generic >= _STOCK and near.prompt < _FAR and len(text.split()) >= _SENTENCE:
        score = min(0.95, near.generic + 0.05)
        return _Said(score, f"could be said to anything (nearness to its prompt {near.prompt:.2f})", shown, near=near)
    gap = near.other - near.prompt
    if len(text.split()) >= _ENOUGH_WORDS and near.prompt < _UNRELATED and near.other >= 0.4:
        what = f"is about something else (nearness to its prompt {near.prompt:.2f}, of the other {near.other:.2f})"
        return _Said(min(0.9, gap), what, shown, empty=False, near=near)
    return None


def _unjudgeable(pair: Pair) -> str:
    """The prompt where the user's turns hold no word anybody could answer; an empty text where they do."""
    asked_for = " ".join(one.content for one in pair.prompt if one.role == "user").strip()
    if not pair.prompt or len(asked_for) > 200 or not asked_for.isascii() or any(one.isdigit() for one in asked_for):
        return ""
    words = _LETTERS.findall(asked_for)
    garbled = [word for word in words if _CONSONANTS.search(word) and not word.isupper()]
    return (asked_for or "(blank)") if len(garbled) == len(words) else ""


def _detail(found: Mapping[Any, _Said]) -> str:
    numbers = {
        side: {name: round(value, 3) for name, value in one.near._asdict().items()} for side, one in found.items() if one.near
    }
    return json.dumps(numbers) if numbers else ""
