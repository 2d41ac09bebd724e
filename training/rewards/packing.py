"""Rows for a causal model in which texts that begin alike share their beginning: its tokens are computed once.

A row is [beginning, tail 1, tail 2, ...]. Every tail sees the beginning and itself, never another tail, and its positions go
on from the beginning's end; so each text is read as if it stood alone. The beginning is found on the token ids themselves,
so that what is computed does not depend on how a template or tokenizer joins prompt and response.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from training.batches import by_budget

Ids = Sequence[int]

WORTH = 8  # shared tokens from which sharing pays
_SHARE = 8  # and from this part of the shorter text on, an eighth: a longer row costs more attention than a header saves
_PASSES = 10  # over texts that are still alone: two of one prompt may stand on both sides of two that are more alike


class Row(NamedTuple):
    """Texts that share their first `shared` tokens; `places` names them. A text alone shares all but nothing."""

    places: tuple[int, ...]
    shared: int
    length: int  # of the whole row, in tokens


def rows(texts: Sequence[Ids], *, share: bool = True, longest: int = 0) -> list[Row]:
    """Every text in one row. Texts that stand next to each other in alphabetical order share the most.

    With `longest` no row grows beyond so many tokens (a text alone may). Raises ValueError for a text without tokens.
    """
    if any(not len(text) for text in texts):
        raise ValueError(f"text {next(n for n, text in enumerate(texts) if not len(text))} has no tokens")
    if not share:
        return [Row((place,), 0, len(text)) for place, text in enumerate(texts)]
    left = sorted(range(len(texts)), key=lambda place: (list(texts[place]), place))
    found: list[Row] = []
    for _ in range(_PASSES):
        some = _passed(texts, left, longest)
        found += [row for row in some if len(row.places) > 1]
        left = [row.places[0] for row in some if len(row.places) == 1]
        if len(left) == len(some):
            break
    return found + [Row((place,), 0, len(texts[place])) for place in left]


def _passed(texts: Sequence[Ids], order: Sequence[int], longest: int) -> list[Row]:
    """One pass over texts in alphabetical order: a text joins the row before it where that saves tokens, and at least as
    many as joining the text after it would."""
    alike = [common(texts[one], texts[other]) for one, other in pairwise(order)] + [0]
    found: list[Row] = []
    for number, place in enumerate(order):
        joined = _joined(found[-1], texts, place, alike[number - 1], alike[number]) if found else None
        if joined is not None and (not longest or joined.length <= longest):
            found[-1] = joined
        else:
            found.append(Row((place,), 0, len(texts[place])))
    return found


def _joined(row: Row, texts: Sequence[Ids], place: int, before: int, after: int) -> Row | None:
    """The row with one more text, None where it does better without."""
    together = min(before, row.shared) if len(row.places) > 1 else before
    saved = (len(row.places) - 1) * row.shared
    shorter = min(len(texts[one]) for one in (*row.places, place))
    if together < max(WORTH, shorter // _SHARE) or together < after or len(row.places) * together <= saved:
        return None
    places = (*row.places, place)
    return Row(places, together, together + sum(len(texts[one]) - together for one in places))


def common(one: Ids, other: Ids) -> int:
    """How many tokens two texts have in common at their beginning; the last token of neither counts, as it is read from."""
    most = min(len(one), len(other)) - 1
    one, other = list(one[:most]), list(other[:most])  # a tuple is never equal to a list
    if one == other:
        return most
    low, high = 0, most  # the first `low` are the same, the first `high` are not
    while high - low > 1:
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low


def batches(packed: Sequence[Row], *, budget: int, at_most: int = 256, squares: int = 0) -> list[list[int]]:
    """Places in `packed`, the longest rows first, cut as `training.batches.by_budget` says."""
    return list(by_budget([row.length for row in packed], budget=budget, at_most=at_most, squares=squares))
