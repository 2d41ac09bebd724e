"""Filter: responses that repeat themselves or an earlier answer."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from pydantic import Field
from rapidfuzz import fuzz

from curation.filters.base import Filter, Flag
from curation.pairs import Pair

_LIST_MARK = re.compile(r"[\s\-*•–>]*(?:\(?\d{1,3}[.):])?\s*")
_WORD = re.compile(r"\w+")
# asked to change its last answer, a good response is nearly that answer
_EDIT = re.compile(
    r"\b(?:add|again|bold|break|bullets?|capital\w*|change|combine|concise|correct|cut|delete|double|edit|expand|fix|format\w*|"
    r"full|grammar|include|instead|lines?|list|longer|make|number(?:s|ed)?|order|paragraphs?|punctuat\w*|put|re-?order|"
    r"re-?phrase|re-?write|remove|repeat|replace|revise|same|sentences?|separate|shorten|shorter|show|spell\w*|"
    r"substitute|take out|translate|try|use|without)\b",
    re.IGNORECASE,
)
_LONG = 20_000  # characters: a longer answer is said again only word for word; likeness takes quadratic time
_PHRASE = 4  # words
_CHARACTERS = 8  # for scripts that put no spaces between words


class Repetitive(Filter):
    """Responses that say the same thing again: a phrase, sentence or line in a loop, or an earlier answer of the
    same conversation once more."""

    name = "repetitive"

    at_least: float = Field(
        0.35, gt=0, le=1, description="share of a response's four-word phrases, or of its lines, that are repeats"
    )
    shortest: int = Field(10, ge=5, le=1000, description="words a response must have to be looked at")
    like_before: float = Field(
        0.93, ge=0.5, le=1, description="how alike an earlier answer, letter for letter, must be to count as said again"
    )

    def flags(self, pairs: Iterable[Pair]) -> Iterator[Flag]:
        for pair in pairs:
            for side, text in pair.sides():
                if len(text) < 2 * self.shortest:
                    continue
                found = self._loop(text) or self._again(pair, text)
                if found:
                    yield self.flag(pair, side, found[0], f"the {side} response {found[1]}")

    def _loop(self, text: str) -> tuple[float, str] | None:
        words: Sequence[str] = text.lower().split()
        size = _PHRASE
        if len(text) > 15 * len(words) and not text.isascii():
            words, size = "".join(_WORD.findall(text)), _CHARACTERS
        phrases = len(words) - size + 1
        if phrases <= 0 or len(words) < self.shortest:
            return None
        # a phrase said again begins with a word said again: most responses are let go on this cheaper count
        if len(words) - len(set(words)) >= self.at_least * phrases:
            share = 1 - len(set(_phrases(words, size))) / phrases
            if share >= self.at_least:
                return share, _in_words(share, words, size)
        if text.count("\n") >= 3:  # the items of a numbered list differ in their numbers
            return self._lines(text)
        return None

    def _lines(self, text: str) -> tuple[float, str] | None:
        lines = [_LIST_MARK.sub("", line, count=1).strip().lower() for line in text.split("\n")]
        lines = [line for line in lines if sum(map(str.isalpha, line)) >= 4]  # not braces, rules and table borders
        if len(lines) < 4:
            return None
        share = 1 - len(set(lines)) / len(lines)
        if share < self.at_least:
            return None
        line, times = Counter(lines).most_common(1)[0]
        return share, f"repeats its lines: {share:.0%} are repeats, {line[:80]!r} comes {times} times"

    def _again(self, pair: Pair, text: str) -> tuple[float, str] | None:
        for number, turn in enumerate(pair.prompt, start=1):
            earlier = turn.content
            if turn.role != "assistant" or not 0.8 < (len(text) + 1) / (len(earlier) + 1) < 1.25:
                continue
            if len(text) > _LONG and text != earlier:
                continue
            alike = fuzz.ratio(text, earlier, score_cutoff=100 * self.like_before) / 100
            if not alike or min(len(text.split()), len(earlier.split())) < self.shortest:
                continue
            if _EDIT.search(pair.prompt[-1].content) and _WORD.findall(text) != _WORD.findall(earlier):
                continue
            how = "word for word" if text == earlier else f"{alike:.1%} alike"
            return alike, f"says the earlier answer in turn {number} once more, {how}"
        return None


def _phrases(words: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(size)), strict=False)


def _in_words(share: float, words: Sequence[str], size: int) -> str:
    phrase, times = Counter(_phrases(words, size)).most_common(1)[0]
    shown = (" " if size == _PHRASE else "").join(phrase)[:80]
    return f"repeats itself: {share:.0%} of its phrases are repeats, {shown!r} comes {times} times"
