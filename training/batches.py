"""Batches of texts of like length: little is computed on padding."""

from collections.abc import Iterator, Sequence


def by_budget(lengths: Sequence[int], *, budget: int, at_most: int = 256, squares: int = 0) -> Iterator[list[int]]:
    """Places in `lengths` (in tokens), the longest first, cut where count times longest would pass `budget` tokens.

    Every place comes once; a text longer than the budget stands alone. With `squares` count times longest squared does not
    pass that either: what a mask of every token against every other holds.
    """
    order = sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))
    start = 0
    while start < len(order):
        longest = max(1, lengths[order[start]])
        size = min(at_most, max(1, budget // longest))
        if squares:
            size = min(size, max(1, squares // longest**2))
        yield order[start : start + size]
        start += size
