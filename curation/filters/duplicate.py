"""Filter: pairs that come again in the dataset, the same or nearly so, with the same label or with the label swapped."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from pydantic import Field

from curation.filters.base import Filter, Flag
from curation.filters.near import Member, Nearness
from curation.pairs import Pair

_SAME = 0.9  # what the score is multiplied by where the label is the same: no label is wrong for sure


@dataclass(frozen=True)
class _Seen:
    """What is kept of a pair: whole datasets are held at once, texts are not."""

    pair_id: str
    rows: tuple[int, ...]
    times: int


@dataclass(frozen=True)
class _Cluster:
    """Pairs nearly the same, in the order they came."""

    members: list[_Seen]

    @cached_property
    def name(self) -> str:
        """Short, and the same whatever the order of the dataset."""
        return min(one.pair_id for one in self.members)[:12]

    @cached_property
    def size(self) -> int:
        """How many pairs it has, one that comes twice counted twice."""
        return sum(one.times for one in self.members)


class Duplicate(Filter):
    """The same pair again in the dataset, or the same prompt and responses with the label swapped: then one of the
    two labels is wrong. Nearly the same counts too: pairs whose last human turn and two responses share most of their
    words, whatever came before in the conversation."""

    name = "duplicate"
    version = 2
    alone = False

    threshold: float = Field(
        0.6, ge=0, le=1,
        description="the score from which a finding is a flag: the share of word pairs in common with the nearest pair, "
        f"times {_SAME} where the label is the same; above {_SAME} only swapped labels are left",
    )  # fmt: skip

    def flags(self, pairs: Iterable[Pair]) -> Iterator[Flag]:
        seen: dict[tuple[str, str], _Seen] = {}
        nearness = Nearness()
        for pair in pairs:
            key = (pair.chosen_id, pair.rejected_id)
            if key not in seen:
                nearness.add(pair)
            before = seen.get(key, _Seen(pair.pair_id, (), 0))
            rows = tuple(sorted({*before.rows, *pair.rows}))
            seen[key] = _Seen(pair.pair_id, rows, max(before.times + 1, len(rows)))
        all_seen = list(seen.values())
        near = nearness.members([one.pair_id for one in all_seen])
        clusters: dict[int, _Cluster] = {}
        for index, member in near.items():
            clusters.setdefault(member.cluster, _Cluster([])).members.append(all_seen[index])
        for index, ((chosen, rejected), one) in enumerate(seen.items()):
            swapped = seen.get((rejected, chosen)) if chosen != rejected else None
            member = near.get(index, Member(-1, 0, 0))
            flag = self._found(one, swapped, member, clusters.get(member.cluster, _Cluster([one])))
            if flag:
                yield flag

    def _found(self, one: _Seen, swapped: _Seen | None, member: Member, cluster: _Cluster) -> Flag | None:
        same, turned = member.same, member.turned
        reasons = []
        if swapped:
            reasons.append(f"the same responses stand with the label swapped{_at(swapped.rows)}")
            turned = 1.0
        if one.times > 1:
            reasons.append(f"the same pair comes {one.times} times{_at(one.rows)}")
            same = 1.0
        if len(cluster.members) > (2 if swapped else 1):
            reasons.append(_near(one, cluster, member))
        if not reasons:
            return None
        detail = {"cluster": cluster.name, "size": cluster.size, "alike": round(max(same, turned), 3), "swapped": turned > 0}
        return Flag(one.pair_id, self.name, "pair", max(_SAME * same, turned), ", and ".join(reasons), json.dumps(detail))


def _near(one: _Seen, cluster: _Cluster, member: Member) -> str:
    others = islice((other for other in cluster.members if other is not one), 6)
    rows = (row for other in others for row in other.rows)
    nearest = f"{_percent(max(member.same, member.turned))} alike to its nearest"
    if member.turned > member.same:
        nearest += " with the label swapped"
    elif member.turned:
        nearest += f", {_percent(member.turned)} alike to one with the label swapped"
    count = len(cluster.members) - 1
    return f"{count} other pair{'s are' if count > 1 else ' is'} nearly the same{_at(rows)}: {nearest}"


def _percent(alike: float) -> str:
    return f"{int(100 * alike)}%"  # 100% is for no difference at all


def _at(rows: Iterable[int]) -> str:
    """In which rows a pair stands, counted from 0."""
    first = list(islice(rows, 6))
    if not first:
        return ""
    shown = ", ".join(map(str, first[:5])) + (", ..." if len(first) > 5 else "")
    return f" in row{'s' if len(first) > 1 else ''} {shown}"
