"""Filter: pairs whose two sides are, for a reader, one and the same."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from pydantic import Field
from rapidfuzz import fuzz

from curation.filters.base import Filter, Flag
from curation.pairs import Pair

# words, and signs that mean something: currency, arithmetic, emoji
_TOKENS = re.compile(r"\w+|[$€£%^+=<>&|~]|[-*/](?=\s*\d)|[\u2190-\u21ff\u2600-\u27bf\U0001f000-\U0001faff]")
_APOSTROPHES = re.compile(r"['’‘]")
_CHANGES_MEANING = re.compile(
    r"\d[\d.,:/]*|\b(?:no|not|never|none|nobody|nothing|nor|neither|without|yes|cannot|\w+n['’]t)\b",
    re.IGNORECASE,
)
_SHORT = 200  # characters: below, comparing the words costs little
_LONG = 20_000  # characters: above, only what can be compared in linear time is


class Indistinct(Filter):
    """Pairs with nothing to choose between: both sides identical, the same up to case, spaces and punctuation, or
    different in a few letters only. A changed number or a negation is a difference."""

    name = "indistinct"

    at_least: float = Field(
        0.95, ge=0.8, le=1, description="how alike the sides must be, letter for letter; 1: no near matches"
    )
    shortest: int = Field(6, ge=1, le=1000, description="words both sides must have to count as nearly the same")

    def flags(self, pairs: Iterable[Pair]) -> Iterator[Flag]:
        for pair in pairs:
            chosen, rejected = pair.chosen.text, pair.rejected.text
            if chosen == rejected:
                if chosen.strip():  # two blank sides are `empty`'s
                    yield self.flag(pair, "pair", 1.0, "the two sides are identical")
                continue
            longer = max(len(chosen), len(rejected))
            if abs(len(chosen) - len(rejected)) > 0.2 * longer + 8:
                continue
            if _SHORT < longer <= _LONG and fuzz.ratio(chosen.lower(), rejected.lower(), score_cutoff=80) == 0:
                continue
            tokens = _tokens(chosen)
            if tokens and tokens == _tokens(rejected):
                yield self.flag(pair, "pair", 0.95, "the two sides are the same up to case, spaces and punctuation")
                continue
            alike = self._alike(chosen, rejected) if longer <= _LONG else 0.0
            if alike:
                reason = f"the two sides are {alike:.1%} alike, letter for letter"
                yield self.flag(pair, "pair", min(alike, 0.94), reason)

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
