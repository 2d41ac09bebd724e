"""The picks of best-of-n: the sample of each prompt that a reward model scores highest among the first n, for several n."""

from collections.abc import Mapping, Sequence
from math import log
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from training import policy_data
from training.policy_data import CUT, SCORE, Answer


class Part(NamedTuple):
    """The samples `first` to `first + samples` of these prompts, named by their places among those handed over."""

    number: int
    places: tuple[int, ...]
    first: int
    samples: int

    @property
    def responses(self) -> int:
        """How many they are."""
        return len(self.places) * self.samples


class Pick(NamedTuple):
    """The sample of a prompt that a reward model scores highest among the first `n`, as a row of samples.parquet.

    With n = 0 it is the sample after all of these: what the start answers, which no pick was chosen against. The best of n set
    against one of the n would win more often than it does.
    """

    reward_model: str
    n: int
    row: Mapping[str, Any]


def parts_of(places: Sequence[int], *, n: int, group: int, size: int) -> list[Part]:
    """All samples in parts of `group` prompts, in the order given, and `size` samples; a group's parts follow one another."""
    groups = [tuple(places[start : start + group]) for start in range(0, len(places), group)]
    cuts = [(some, first, min(size, n - first)) for some in groups for first in range(0, n, size)]
    return [Part(number, *cut) for number, cut in enumerate(cuts)]


def shown(n: int) -> list[int]:
    """The n that picks are kept for: 1, 2, 4, ... and n itself."""
    return sorted({*(1 << power for power in range(n.bit_length())), n})


class Best:
    """The best samples seen so far, by reward model, n and prompt; of equally good ones the first."""

    def __init__(self, names: Sequence[str], ns: Sequence[int], prompts: int) -> None:
        self._prompts = range(prompts)
        self._top = {(name, n): np.full(prompts, -np.inf) for name in names for n in ns}
        self._names, self._last = names, max(ns)
        self._rows: dict[tuple[str, int, int], Mapping[str, Any]] = {}

    def see(self, part: Part, table: pa.Table) -> None:
        """Look through a part, whose earlier samples were seen before."""
        places = np.array(part.places)
        for (name, n), top in self._top.items():
            there = min(part.samples, n - part.first)
            if there < 1:
                continue
            scores = table.column(SCORE + name).to_numpy().reshape(len(places), part.samples)[:, :there]
            first = scores.argmax(axis=1)
            found = scores[np.arange(len(places)), first]
            for row in np.flatnonzero(found > top[places]):
                self._rows[name, n, int(places[row])] = _row(table, int(row) * part.samples + int(first[row]))
            top[places] = np.maximum(top[places], found)
        if part.first <= self._last < part.first + part.samples:
            for number, place in enumerate(part.places):
                own = _row(table, number * part.samples + self._last - part.first)
                self._rows.update({(name, 0, place): own for name in self._names})

    def picks(self) -> list[Pick]:
        """All picks, by reward model, then n, then prompt in the order handed over."""
        ns = [0, *dict.fromkeys(n for _, n in self._top)]
        return [Pick(name, n, self._rows[name, n, place]) for name in self._names for n in ns for place in self._prompts]


def _row(table: pa.Table, place: int) -> Mapping[str, Any]:
    found: Mapping[str, Any] = table.slice(place, 1).to_pylist()[0]
    return found


def picks_table(picks: Sequence[Pick], names: Sequence[str]) -> pa.Table:
    """The picks as responses.parquet has them, with the reward model that picked. How far they are from the start is not told
    by a ratio of probabilities of one response, so `log_ratio` is null."""
    answers = [
        Answer(str(row["prompt_id"]), n, int(row["sample"]), str(row["text"]), int(row["tokens"]), bool(row["stopped"]), None)
        for _, n, row in picks
    ]
    scores = {name: ([one.row[SCORE + name] for one in picks], [one.row[CUT + name] for one in picks]) for name in names}
    picked = pa.array([one.reward_model for one in picks], pa.string())
    return policy_data.answers_table(answers, scores).append_column("reward_model", picked)


def points(picks: Sequence[Pick], names: Sequence[str]) -> list[dict[str, Any]]:
    """What the picks come to, by reward model and n; KL is not measured, `kl_bound` is at least as large (arXiv 2401.01879)."""
    found: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for one in picks:
        found.setdefault((one.reward_model, one.n), []).append(one.row)
    return [
        {
            "reward_model": name, "point": n, "n": len(rows), "kl": None, "kl_bound": log(n) - (n - 1) / n if n else 0.0,
            "length": _mean(rows, "tokens"), "stopped": _mean(rows, "stopped"),
            "scores": {other: _mean(rows, SCORE + other) for other in names},
        }
        for (name, n), rows in found.items()
    ]  # fmt: skip


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(np.mean([row[name] for row in rows]))
