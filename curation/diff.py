"""Word diff of two texts as pieces: what both have, what only the first has, what only the second has."""

import re
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

_TOKEN = re.compile(r"\s+|\w+|[^\w\s]")
_LONG = 4000  # tokens; longer texts are compared line by line, as matching takes time quadratic in the worst case


class Piece(NamedTuple):
    """A stretch of text and where it stands."""

    where: Literal["both", "first", "second"]
    text: str


def words(first: str, second: str) -> tuple[list[Piece], list[Piece]]:
    """The two texts cut into pieces; joining a side's pieces gives that side back, character for character."""
    one, other = _tokens(first), _tokens(second)
    if len(one) + len(other) > _LONG:
        one, other = first.splitlines(keepends=True), second.splitlines(keepends=True)
    left: list[Piece] = []
    right: list[Piece] = []
    for operation, a, b, c, d in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        same = operation == "equal"
        if a < b:
            left.append(Piece("both" if same else "first", "".join(one[a:b])))
        if c < d:
            right.append(Piece("both" if same else "second", "".join(other[c:d])))
    return left, right


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)
