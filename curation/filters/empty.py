"""Filter: empty responses."""

import re
from collections.abc import Iterable, Iterator

from pydantic import Field

from curation.filters.base import Filter, Flag
from curation.pairs import Pair

_WORD = re.compile(r"\w")


class Empty(Filter):
    """Responses with nothing in them: no text at all or, where wanted, punctuation without a single word character."""

    name = "empty"

    punctuation_too: bool = Field(False, description="also responses such as '...' or '?' (`vague` finds them otherwise)")

    def flags(self, pairs: Iterable[Pair]) -> Iterator[Flag]:
        for pair in pairs:
            for side, text in pair.sides():
                if len(text) > 200 or _WORD.search(text):
                    continue
                if not text.strip():
                    yield self.flag(pair, side, 1.0, f"the {side} response is empty")
                elif self.punctuation_too:
                    yield self.flag(pair, side, 0.9, f"the {side} response has no word in it: {text.strip()[:40]!r}")
