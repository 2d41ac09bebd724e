"""Near duplicates: which of many pairs are nearly the same, in time and memory linear in their number.

A pair is compared by its last human turn and its two responses, in either order of the sides: in conversations that
share a long beginning these are what differs. Each of the three is kept as the set of its shingles, two neighbouring
words each, hashed; texts are not kept. MinHash brings together pairs whose sets are likely to be alike, and exact
Jaccard indices of the sets then decide.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from curation.pairs import Pair

FLOOR = 0.6  # how alike pairs must be to be near at all
PART = 0.5  # how alike the turns, and each of the responses, must be by themselves
_SHORT = 30  # words of a pair's turn and responses; with fewer, pairs may differ in case, spaces and punctuation only

_BANDS, _ROWS = 51, 5  # pairs 0.6 alike meet in some band with probability 0.98, 0.7 alike with 0.9999; 0.1 with 0.0005
_ROUNDS = 4  # how many members of a bucket all others are compared with, at most
_PANEL = 4  # how many members of a cluster, of either order of sides, all others are compared with
_HELD = 200_000  # words held at once
_STEP = 1 << 22  # shingles compared at once

# words; each character by itself where a script puts no spaces; and signs, but not punctuation
_WORDS = re.compile(
    r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]|[^\W\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]+"
    r"|[^\w\s!-/:-@\[-`{-~¡¿«»‐-―‘-‟…、。，！？：；「」]"
)

Indices = NDArray[np.int64]
Hashes = NDArray[np.uint64]


class Member(NamedTuple):
    """A pair in a cluster: how alike the nearest other is that has its sides in the same order, and in the other order.

    0 where there is none.
    """

    cluster: int
    same: float
    turned: float


class Nearness:
    """What is kept of pairs, added one by one, to tell in the end which of them are nearly the same."""

    def __init__(self) -> None:
        self.comparisons = 0  # how many pairs of pairs were looked at more closely
        self._waiting: list[list[str]] = []  # words of turn, chosen and rejected, of one pair after the other
        self._held = 0
        self._shingles: list[NDArray[np.uint32]] = []
        self._sizes: list[Indices] = []
        self._bands: list[NDArray[np.uint32]] = []
        self._whole: list[int] = []  # a hash that pairs share which differ in case, spaces and punctuation only
        self._long: list[bool] = []

    def add(self, pair: Pair) -> None:
        """Keep what is needed of one more pair."""
        asked = next((turn.content for turn in reversed(pair.prompt) if turn.role == "user"), "")
        parts = [words(asked), words(pair.chosen.text), words(pair.rejected.text)]
        size = sum(map(len, parts))
        turns = [] if size >= _SHORT else [words(turn.content) for turn in pair.prompt]  # "Thanks!" comes often
        self._whole.append(_hash([*turns, parts[0]], sorted(parts[1:])))
        self._long.append(size >= _SHORT)
        self._waiting += parts
        self._held += size + len(parts)
        if self._held >= _HELD:
            self._flush()

    def members(self, names: Sequence[str]) -> dict[int, Member]:
        """The pairs, by the order they came in, that are nearly the same as some other.

        `names` are unique, one for each pair; with them the outcome does not depend on the order the pairs came in.
        """
        self._flush()
        if not names:
            return {}
        order = np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)
        texts = _Texts(np.concatenate(self._shingles), np.concatenate(self._sizes))
        self._shingles, self._sizes = [], []
        clusters = _Clusters(len(names))  # from here on a pair is its place by name
        for left, right in self._meetings(order, clusters):
            clusters.join(left, right, *texts.alike(order[left], order[right]))
        left, right = clusters.panel()
        clusters.join(left, right, *texts.alike(order[left], order[right]))
        self.comparisons = texts.comparisons
        return dict(sorted((int(order[place]), member) for place, member in clusters.members()))

    def _flush(self) -> None:
        """Shingles and band keys of the pairs whose words are held."""
        if not self._waiting:
            return
        sizes = np.array([len(part) + 1 for part in self._waiting], np.int64)
        flat = ["", *chain.from_iterable([*part, ""] for part in self._waiting)]  # "" begins and ends each part
        hashes = np.array(RMinHash.hash_token_sets([flat])[0], np.uint64)
        pairs_of_words = _mixed(_mixed(hashes[:-1]) + hashes[1:]) >> np.uint64(32)
        parts = np.repeat(np.arange(len(sizes), dtype=np.uint64), sizes)
        kept = np.unique(parts << np.uint64(32) | pairs_of_words)
        parts = kept >> np.uint64(32)
        self._sizes.append(np.bincount(parts.astype(np.int64), minlength=len(sizes)))
        self._shingles.append(kept.astype(np.uint32))
        # the two responses are one set here, whichever is chosen; the turn is another, so that it counts however short
        tagged = _mixed(kept & np.uint64(0xFFFFFFFF) | np.uint64(1 << 32) * (parts % np.uint64(3) == 0))
        self._bands.append(_band_keys(tagged, self._sizes[-1].reshape(-1, 3).sum(axis=1)))
        self._waiting, self._held = [], 0

    def _meetings(self, order: Indices, clusters: "_Clusters") -> Iterator[tuple[Indices, Indices]]:
        """Pairs to compare: of each bucket its first member with all others; then, of those that were not joined to it,
        again the first with all others, some times over. So a bucket costs no more than a few times its size."""
        keys = np.concatenate(self._bands)[order]
        self._bands = []
        long = np.flatnonzero(np.array(self._long)[order])
        whole = _buckets(np.array(self._whole, np.uint64)[order], np.arange(len(order)))
        found = [whole, *(_buckets(keys[long, band], long) for band in range(_BANDS))]
        del keys
        member, first = (np.concatenate(part) for part in zip(*found, strict=True))
        for _ in range(_ROUNDS):
            led = np.maximum.accumulate(np.where(first, np.arange(len(member)), 0))
            leader = member[led]
            packed = np.unique((leader << 32 | member)[~first])
            if not len(packed):
                return
            yield packed >> 32, packed & 0xFFFFFFFF
            clusters_of = clusters.of()
            left = clusters_of[member] != clusters_of[leader]
            member, led = member[left], led[left]
            first = np.diff(led, prepend=-1) != 0


class _Texts:
    """The shingles of all pairs, sorted within each part: turn, chosen, rejected."""

    def __init__(self, shingles: NDArray[np.uint32], sizes: Indices) -> None:
        self._shingles, self._sizes = shingles, sizes
        self._starts = np.cumsum(sizes) - sizes
        self.comparisons = 0

    def alike(self, left: Indices, right: Indices) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """How alike these pairs are, with their sides in the same order and with one's turned round; 0 if not near.

        The Jaccard index over all three parts, where that is at least FLOOR, and PART or more in each part.
        """
        self.comparisons += len(left)
        same, turned = np.zeros(len(left)), np.zeros(len(left))
        turns = self._common(3 * left, 3 * right)
        near = np.flatnonzero(turns[0] >= PART * turns[1])
        left, right, turns = left[near], right[near], turns[:, near]
        for found, one, other in ((same, 1, 2), (turned, 2, 1)):
            parts = [turns, self._common(3 * left + 1, 3 * right + one), self._common(3 * left + 2, 3 * right + other)]
            alike = sum(part[0] for part in parts) / sum(part[1] for part in parts)
            enough = np.all([part[0] >= PART * part[1] for part in parts], axis=0) & (alike >= FLOOR)
            found[near] = np.where(enough, alike, 0)
        return same, turned

    def _common(self, left: Indices, right: Indices) -> NDArray[np.int64]:
        """How many shingles these parts have in common, and how many in all: two rows."""
        sizes = self._sizes[left], self._sizes[right]
        common = np.zeros(len(left), np.int64)
        hopeful = np.flatnonzero(np.minimum(*sizes) >= PART * np.maximum(*sizes))
        steps = np.cumsum((sizes[0] + sizes[1])[hopeful]) // _STEP
        for some in np.split(hopeful, np.flatnonzero(np.diff(steps)) + 1):
            keys = np.sort(np.concatenate([self._keys(left[some]), self._keys(right[some])]))
            twice = keys[1:][keys[1:] == keys[:-1]] >> np.uint64(32)
            common[some] = np.bincount(twice.astype(np.int64), minlength=len(some))
        return np.stack([common, sizes[0] + sizes[1] - common])

    def _keys(self, parts: Indices) -> Hashes:
        """The shingles of these parts, each with the number of its part here above it."""
        sizes = self._sizes[parts]
        number = np.repeat(np.arange(len(parts)), sizes)
        place = np.arange(sizes.sum()) + (self._starts[parts] - np.cumsum(sizes) + sizes)[number]
        keys: Hashes = number.astype(np.uint64) << np.uint64(32) | self._shingles[place]
        return keys


class _Clusters:
    """Union-find over pairs; of each it knows whether its sides stand as its root's, and its nearest in either order."""

    def __init__(self, pairs: int) -> None:
        self._above = list(range(pairs))
        self._against = [False] * pairs  # turned round as compared with the one above
        self._same, self._turned = np.zeros(pairs), np.zeros(pairs)

    def join(self, left: Indices, right: Indices, same: NDArray[np.float64], turned: NDArray[np.float64]) -> None:
        """Join these pairs where they are alike, the most alike first."""
        for best, found in (
            (self._same, np.where(same >= turned, same, 0)),
            (self._turned, np.where(turned > same, turned, 0)),
        ):
            np.maximum.at(best, left, found)
            np.maximum.at(best, right, found)
        alike = np.maximum(same, turned)
        near = np.flatnonzero(alike)
        near = near[np.argsort(-alike[near], kind="stable")]
        for one, other, against in zip(left[near].tolist(), right[near].tolist(), (turned > same)[near].tolist(), strict=True):
            self._unite(one, other, against)

    def of(self) -> Indices:
        """The root of each pair."""
        return np.array([self._root(index)[0] for index in range(len(self._above))], np.int64)

    def panel(self) -> tuple[Indices, Indices]:
        """Pairs to compare so that all in a cluster know whom they are near: with its first members of either order."""
        roots = [self._root(index) for index in range(len(self._above))]
        sizes = Counter(root for root, _ in roots)
        many = [index for index, (root, _) in enumerate(roots) if sizes[root] > 2]
        first: dict[tuple[int, bool], list[int]] = defaultdict(list)
        for index in many:
            if len(first[roots[index]]) < _PANEL:
                first[roots[index]].append(index)
        met = {
            (min(one, index), max(one, index))
            for index in many
            for turned in (False, True)
            for one in first.get((roots[index][0], turned), ())
            if one != index
        }
        pairs = np.array(sorted(met), np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

    def members(self) -> Iterator[tuple[int, Member]]:
        """All pairs that have a near one."""
        for index in np.flatnonzero(np.maximum(self._same, self._turned)).tolist():
            yield index, Member(self._root(index)[0], float(self._same[index]), float(self._turned[index]))

    def _root(self, index: int) -> tuple[int, bool]:
        """The root, and whether the pair is turned round as compared with it."""
        path, turned = [], False
        while self._above[index] != index:
            path.append(index)
            index = self._above[index]
        for one in reversed(path):
            turned ^= self._against[one]
            self._above[one], self._against[one] = index, turned
        return index, turned

    def _unite(self, one: int, other: int, against: bool) -> None:
        (root, turned), (second, also) = self._root(one), self._root(other)
        if root != second:
            self._above[second], self._against[second] = root, turned ^ also ^ against


def words(text: str) -> list[str]:
    """The words of a text in order, without case, spaces and punctuation."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return _WORDS.findall(text.replace("'", "").replace("’", "").replace("‘", ""))


def _hash(turns: list[list[str]], responses: list[list[str]]) -> int:
    text = "\n\n".join("\n".join(" ".join(part) for part in parts) for parts in (turns, responses))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())


def _mixed(hashes: Hashes) -> Hashes:
    """These numbers scattered over all of 64 bits: the finaliser of SplitMix64."""
    hashes = (hashes ^ hashes >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ hashes >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return hashes ^ hashes >> np.uint64(31)


def _band_keys(tokens: Hashes, sizes: Indices) -> NDArray[np.uint32]:
    """A row for each set of tokens, with a number for each band; alike sets are likely to share some."""
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.uint64)
    digests = RMinHash.digest_matrix_from_flat_token_hashes(tokens, offsets, _BANDS * _ROWS, 42).to_rows()
    rows = np.array(digests, np.uint64).reshape(-1, _BANDS, _ROWS)
    keys = np.zeros(rows.shape[:2], np.uint64)
    for row in range(_ROWS):
        keys = _mixed(keys + rows[:, :, row])
    return (keys >> np.uint64(32)).astype(np.uint32)


def _buckets(keys: NDArray[np.unsignedinteger], pairs: Indices) -> tuple[Indices, NDArray[np.bool_]]:
    """The pairs that share their key with another, bucket after bucket, and which of them begin a bucket."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    begins = np.concatenate([[True], keys[1:] != keys[:-1]]) if len(keys) else np.zeros(0, bool)
    shared = ~(begins & np.concatenate([begins[1:], [True]])) if len(keys) else begins
    return pairs[order[shared]], begins[shared]
