"""Filter: pairs whose two sides are, for a reader, one and the same."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field
from rapidfuzz import fuzz

from curation.filters.base import Flag, Read, ReadingFilter, several
from curation.pairs import Pair
from curation.readings import Reader
from training.embeddings import PACKAGED, Embedder

# words, and signs that mean something: currency, arithmetic, emoji
_TOKENS = re.compile(r"\w+|[$€£%^+=<>&|~]|[-*/](?=\s*\d)|[\u2190-\u21ff\u2600-\u27bf\U0001f000-\U0001faff]")
_APOSTROPHES = re.compile(r"['’‘]")
_CHANGES_MEANING = re.compile(
    r"\d[\d.,:/]*|\b(?:no|not|never|none|nobody|nothing|nor|neither|without|yes|cannot|\w+n['’]t)\b",
    re.IGNORECASE,
)
_SHORT = 200  # characters: below, comparing the words costs little
_LONG = 20_000  # characters: above, only what can be compared in linear time is
_ALIKE = 0.9  # cosine of two embeddings: below, too much differs to be kept even as a finding
_READ_WHOLE = 170  # words: what MiniLM reads of a text; of a longer one the rest could say anything
_NAME = re.compile(r"(?<![.!?:\n] )(?<![.!?:\n]  )(?<=[\w,;] )[A-Z][\w'’-]+")


class Indistinct(ReadingFilter):
    """Pairs with nothing to choose between: both sides identical, the same up to case, spaces and punctuation,
    different in a few letters only, or saying the same thing in other words. A changed number, name or negation is a
    difference."""

    name = "indistinct"
    version = 2

    threshold: float = Field(0.9, ge=0, le=1, description="the score from which a finding is a flag")
    at_least: float = Field(
        0.95, ge=0.8, le=1, description="how alike the sides must be, letter for letter; 1: no near matches"
    )
    shortest: int = Field(6, ge=1, le=1000, description="words both sides must have to count as nearly the same")
    meaning: bool = Field(True, description="also sides that say the same in other words, by sentence embeddings")
    model: str = Field(PACKAGED, min_length=1, description="the embeddings: minilm, a folder, or a sentence-transformers id")

    def judges_alone(self) -> bool:
        return not self.meaning

    def reader(self) -> Reader | None:
        return Embedder(self.model) if self.meaning else None

    def texts(self, pair: Pair) -> Sequence[str]:
        return (pair.chosen.text, pair.rejected.text)

    def judged(self, pairs: Iterable[Pair], read: Read, given: Path | None = None) -> Iterator[Flag]:
        for some in several(pairs):
            cosines = [0.0] * len(some)
            if self.meaning:
                chosen, rejected = read([pair.chosen.text for pair in some]), read([pair.rejected.text for pair in some])
                cosines = np.sum(chosen * rejected, axis=1).tolist()
            for pair, cosine in zip(some, cosines, strict=True):
                found = self._letters(pair) or self._meaning(pair, cosine)
                if found:
                    yield self.flag(pair, "pair", *found)

    def _letters(self, pair: Pair) -> tuple[float, str] | None:
        """How alike the sides are as written: score and reason."""
        chosen, rejected = pair.chosen.text, pair.rejected.text
        if chosen == rejected:
            return (1.0, "the two sides are identical") if chosen.strip() else None  # two blank sides are `empty`'s
        longer = max(len(chosen), len(rejected))
        if abs(len(chosen) - len(rejected)) > 0.2 * longer + 8:
            return None
        if _SHORT < longer <= _LONG and fuzz.ratio(chosen.lower(), rejected.lower(), score_cutoff=80) == 0:
            return None
        tokens = _tokens(chosen)
        if tokens and tokens == _tokens(rejected):
            return 0.95, "the two sides are the same up to case, spaces and punctuation"
        alike = self._alike(chosen, rejected) if longer <= _LONG else 0.0
        return (min(alike, 0.94), f"the two sides are {alike:.1%} alike, letter for letter") if alike else None

    def _meaning(self, pair: Pair, cosine: float) -> tuple[float, str] | None:
        """How alike the sides are in what they say; numbers, names and negations must be the same."""
        if cosine < _ALIKE:
            return None
        chosen, rejected = pair.chosen.text, pair.rejected.text
        if not chosen.strip() or not rejected.strip():
            return None
        words = sorted(_length(text) for text in (chosen, rejected))
        if words[1] > _READ_WHOLE or words[1] > 1.3 * words[0] + 3 or _facts(chosen) != _facts(rejected):
            return None
        score = min(0.93, 0.9 + 2 * (cosine - 0.95))  # 0.95 alike is a flag, what is a little less is kept below
        return score, f"the two sides say the same in other words (their meanings are {cosine:.2f} alike, of 1)"

    def _alike(self, chosen: str, rejected: str) -> float:
        """How alike two sides are that differ in no number and no negation; 0 where that is not enough."""
        alike = fuzz.ratio(chosen, rejected, score_cutoff=100 * self.at_least) / 100
        if not alike or alike == 1 or self.at_least == 1:
            return 0.0
        if min(len(chosen.split()), len(rejected.split())) < self.shortest:
            return 0.0
        one, other = (Counter(_CHANGES_MEANING.findall(text.lower())) for text in (chosen, rejected))
        return alike if one == other else 0.0


def _tokens(text: str) -> list[str]:
    return _TOKENS.findall(_APOSTROPHES.sub("", text.lower()))


def _length(text: str) -> int:
    """Words, roughly as many as a model reads: scripts without spaces count by their signs."""
    return len(text.split()) + sum(not sign.isascii() for sign in text)


def _facts(text: str) -> Counter[str]:
    """What must not differ where the words may: numbers, negations, names amid a sentence, signs that mean something."""
    signs = [one for one in _TOKENS.findall(text) if not one[0].isalnum() and one[0] != "_"]
    return Counter([*(one.lower() for one in _CHANGES_MEANING.findall(text)), *_NAME.findall(text), *signs])
