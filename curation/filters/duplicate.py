"""Filter: pairs that come again in the dataset, with the same label or with the label swapped."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from curation.filters.base import Filter, Flag
from curation.pairs import Pair


@dataclass(frozen=True)
class _Seen:
    """What is kept of a pair: whole datasets are held at once, texts are not."""

    pair_id: str
    rows: tuple[int, ...]
    times: int


class Duplicate(Filter):
    """The same pair again in the dataset, or the same prompt and responses with the label swapped: then one of the
    two labels is wrong."""

    name = "duplicate"
    alone = False

    def flags(self, pairs: Iterable[Pair]) -> Iterator[Flag]:
        seen: dict[tuple[str, str], _Seen] = {}
        for pair in pairs:
            key = (pair.chosen_id, pair.rejected_id)
            before = seen.get(key, _Seen(pair.pair_id, (), 0))
            rows = tuple(sorted({*before.rows, *pair.rows}))
            seen[key] = _Seen(pair.pair_id, rows, max(before.times + 1, len(rows)))
        for (chosen, rejected), one in seen.items():
            swapped = seen.get((rejected, chosen)) if chosen != rejected else None
            reasons = []
            if swapped:
                reasons.append(f"the same responses stand with the label swapped{_at(swapped)}")
            if one.times > 1:
                reasons.append(f"the same pair comes {one.times} times{_at(one)}")
            if reasons:
                yield Flag(one.pair_id, self.name, "pair", 1.0 if swapped else 0.9, ", and ".join(reasons))


def _at(pair: _Seen) -> str:
    """In which rows the pair stands, counted from 0."""
    if not pair.rows:
        return ""
    shown = ", ".join(map(str, pair.rows[:5])) + (", ..." if len(pair.rows) > 5 else "")
    return f" in row{'s' if len(pair.rows) > 1 else ''} {shown}"
