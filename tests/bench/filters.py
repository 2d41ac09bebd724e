"""`make bench-filters`: what each filter finds of noise that was planted in real pairs, beside two baselines; or
`python -m tests.bench.filters kinds --pairs 1000 --each 40` for some of it.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from curation import runs
from curation.filters.base import ReadingFilter
from curation.filters.registry import FILTERS, configured
from curation.importing import import_source
from curation.pairs import Pair
from curation.sources import source_of
from curation.stats.accuracy import wilson
from curation.workspace import Workspace
from tests.bench import measure, simplest
from tests.bench.noise import KINDS
from tests.bench.planted import Planted, drawn, good_pairs, most_each, plant, swap
from training import engine

SHARES = (0.05, 0.1, 0.2)
SWAPS = "contested"  # the filter that looks for labels which are the wrong way round
_SUBSETS = ("helpful-base",)  # more subsets, more to read: each some 5,000 texts


# ---- what the filters flag


class Screened(NamedTuple):
    """What a screening run flagged: of each filter that finished the rows, with the sides and reasons."""

    sides: dict[str, dict[int, set[str]]]
    reasons: dict[tuple[str, int], str]
    failed: str
    scores: dict[str, dict[int, float]] = {}  # noqa: RUF012  of all findings, those below the filter's threshold too

    def rows(self, filter: str) -> set[int]:
        """The rows this filter flags."""
        return set(self.sides.get(filter, {}))

    def any(self) -> set[int]:
        """The rows any filter flags."""
        return {row for found in self.sides.values() for row in found}


class Place(NamedTuple):
    """Where the benchmark works, where readings are kept, and which texts each model was given to read so far."""

    folder: Path
    cache: Path
    read: set[tuple[str, str]]


def screened(place: Place, name: str, pairs: Sequence[Pair], filters: Sequence[str]) -> Screened:
    """Import the pairs into a fresh workspace and screen them there as a user does, each filter at its defaults."""
    folder = place.folder / name
    folder.mkdir()
    (folder / "cache").symlink_to(place.cache, target_is_directory=True)
    source = folder / "pairs.jsonl"
    with source.open("w", encoding="utf-8") as file:
        for pair in pairs:
            chosen, rejected = pair.transcripts()
            row = {"chosen": chosen, "rejected": rejected, "subset": pair.subset}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    workspace = Workspace(folder)
    try:
        imported = import_source(workspace, source_of(str(source)), name)
        if imported.rows != len(pairs):
            raise RuntimeError(f"{imported.rejected} of {len(pairs)} planted rows were rejected: the key would not fit")
        run = runs.start_screening(workspace, name, {filter: {} for filter in filters})
        told = time.monotonic()
        while engine.watch(run).status in ("queued", "running"):
            time.sleep(0.2)
            if time.monotonic() - told > 30:
                told, progress = time.monotonic(), run.progress()
                print(f"{name}: {progress.done:,} of {progress.total:,}, {progress.message}", file=sys.stderr)  # noqa: T201
        runs.settle(workspace)
        state = run.state()
        if state.status != "done" and not workspace.flags.current(name):
            raise RuntimeError(f"screening {name} ended as {state.status}: {state.error}")
        sides: dict[str, dict[int, set[str]]] = {one.filter: {} for one in workspace.flags.current(name)}
        rows: dict[str, list[int]] = {}
        for row, pair_id, _, _ in workspace.pairs.rows_in_order(name):
            rows.setdefault(pair_id, []).append(row)
        scores: dict[str, dict[int, float]] = {}
        for filter, pair_id, score in workspace.flags.findings(name):
            scores.setdefault(filter, {}).update(dict.fromkeys(rows[pair_id], score))
        reasons = {}
        for flag in workspace.flags.export(name):
            for row in flag["rows"]:
                sides[flag["filter"]].setdefault(row, set()).add(flag["side"])
                reasons[flag["filter"], row] = flag["reason"]
        return Screened(sides, reasons, state.error or "", scores)
    finally:
        workspace.close()


def to_read(pairs: Sequence[Pair], filters: Sequence[str], before: set[tuple[str, str]]) -> str:
    """How many distinct texts each model has to read for these filters, in words; `before` are those wanted earlier on."""
    reading = [one for one in (configured(name, {}) for name in filters) if isinstance(one, ReadingFilter)]
    models = [(reader.described, one) for one in reading if (reader := one.reader()) is not None]
    wanted = {(model, text) for model, one in models for pair in pairs for text in one.texts(pair)}
    new, known = Counter(model for model, _ in wanted - before), Counter(model for model, _ in wanted & before)
    before |= wanted
    told = [f"texts for {model}: {new[model]:,} new, {known[model]:,} wanted before" for model in sorted(new | known)]
    return "; ".join(told) or "no texts for models"


# ---- what was right


class Share(NamedTuple):
    """So many of so many."""

    count: int
    n: int

    def __str__(self) -> str:
        """In percent with its 95% Wilson interval."""
        if not self.n:
            return "undefined: 0 of 0"
        low, high = wilson(self.count, self.n)
        return f"{100 * self.count / self.n:.0f}% [{100 * low:.0f}, {100 * high:.0f}]"

    def fine(self) -> str:
        """With a decimal, for small shares."""
        if not self.n:
            return "undefined: 0 of 0"
        low, high = wilson(self.count, self.n)
        return f"{100 * self.count / self.n:.1f}% [{100 * low:.1f}, {100 * high:.1f}]"


def recall(flagged: AbstractSet[int], planted: AbstractSet[int]) -> Share:
    """How much of what was planted is flagged."""
    return Share(len(flagged & planted), len(planted))


def precision(flagged: AbstractSet[int], planted: AbstractSet[int], background: AbstractSet[int]) -> Share:
    """How much of what is flagged was planted; of a background that is not clean itself, so a lower bound."""
    return Share(len(flagged & planted), len(flagged & (planted | background)))


# ---- kinds of noise


class Kinds:
    """Every kind of noise planted in one dataset, and what filters and baselines flag of it."""

    def __init__(self, planted: Planted, found: Screened) -> None:
        self.planted, self.found = planted, found
        self.background = planted.background
        self.simplest = simplest.flagged(planted.pairs)
        self.filters = [name for name in FILTERS if name in found.sides]
        self.kinds = [kind for kind in KINDS if planted.rows(kind.name)]

    def print(self) -> None:
        """All tables, then examples."""
        self._recall("Recall of each filter for each kind of noise", {name: self.found.rows(name) for name in self.filters})
        self._recall("The same for each filter's simplest form", self.simplest)
        self._beside()
        self._filters()
        self._examples()

    def _recall(self, title: str, flagged: dict[str, set[int]]) -> None:
        whole = set[int]().union(*flagged.values())
        rows = []
        for kind in self.kinds:
            planted = self.planted.rows(kind.name)
            shares = [recall(flagged[name], planted) for name in flagged]
            rows.append([kind.name, len(planted), *(share if share.count else "0" for share in shares), recall(whole, planted)])
        none = Share(0, max(len(self.planted.rows(kind.name)) for kind in self.kinds))
        rates = [Share(len(found & self.background), len(self.background)) for found in (*flagged.values(), whole)]
        rows.append(["(background)", len(self.background), *(rate.fine() for rate in rates)])
        measure.table(f"{title}, 95% Wilson; 0 of {none.n} is {none}", ("kind", "n", *flagged, "any filter"), rows)

    def _beside(self) -> None:
        rows = []
        for kind in self.kinds:
            planted = self.planted.rows(kind.name)
            ours = self.found.rows(kind.filter) if kind.filter in self.filters else set[int]()
            if kind.filter is None:
                ours = self.found.any()
            plain = self.simplest[kind.filter] if kind.filter else set[int]().union(*self.simplest.values())
            rule = simplest.best_length_rule(self.planted.pairs, planted, self.background)
            cells: list[object] = [kind.name, len(planted), kind.filter or "none: any"]
            if kind.filter is not None and kind.filter not in self.filters:
                cells += ["not registered" if kind.filter not in FILTERS else "failed", "-", "-"]
            else:
                sides = self._right_side(kind.filter, ours & planted)
                cells += [recall(ours, planted), precision(ours, planted, self.background), sides]
            cells += [recall(plain, planted), precision(plain, planted, self.background)]
            by_length = rule.flagged(self.planted.pairs)
            cells += [rule, recall(by_length, planted), precision(by_length, planted, self.background)]
            rows.append(cells)
        headings = (
            "kind", "n", "filter meant for it", "ours: recall", "precision", "side right",
            "simplest form: recall", "precision", "best length rule in hindsight", "recall", "precision",
        )  # fmt: skip
        measure.table("Each kind against the background: ours, the simplest form, length alone", headings, rows)

    def _right_side(self, filter: str | None, caught: AbstractSet[int]) -> str:
        """Of those with the noise on one side, caught by flags that name sides, how many name that side alone."""
        if filter is None:
            return "-"
        told = [(self.planted.key[row].side, self.found.sides[filter][row]) for row in caught]
        told = [(side, said) for side, said in told if side in ("chosen", "rejected") and "pair" not in said]
        return str(Share(sum(said == {side} for side, said in told), len(told))) if told else "-"

    def _filters(self) -> None:
        anything = self.planted.key.keys()
        rows = []
        for name in dict.fromkeys([*FILTERS, *self.simplest]):
            own = {row for kind in self.kinds if kind.filter == name for row in self.planted.rows(kind.name)}
            for form, flagged in (("ours", self.found.rows(name)), ("simplest", self.simplest.get(name, set()))):
                if form == "simplest" and name not in self.simplest:
                    continue
                if form == "ours" and name not in self.filters:
                    rows.append([name, "ours: " + ("failed" if name in FILTERS else "not registered"), *"-----"])
                    continue
                seen = flagged & (anything | self.background)
                right = precision(flagged, anything, self.background)
                rate = Share(len(flagged & self.background), len(self.background))
                own_recall = (
                    recall(flagged, own) if own else "see swapped labels" if name == SWAPS else "nothing planted for it"
                )
                rows.append([name, form, len(seen), own_recall, len(flagged & own), right, rate.fine()])
        headings = (
            "filter", "form", "pairs flagged", "recall, its own kinds", "of them its own kinds", "precision, any planted noise",
            "background flagged",
        )  # fmt: skip
        title = "Each filter: the background is not clean, so precision is a lower bound and hangs on how much was planted"
        measure.table(title, headings, rows)

    def _examples(self) -> None:
        rng = Random(0)
        lines = []
        for kind in self.kinds:
            ours = self.found.any() if kind.filter is None else self.found.rows(kind.filter)
            missed = sorted(self.planted.rows(kind.name) - ours)
            if missed and (kind.filter is None or kind.filter in self.filters):
                row = rng.choice(missed)
                side = self.planted.key[row].side
                lines.append(f"missed, {kind.name} (row {row}, {side}): {_shown(self.planted.pairs[row], side)}")
        for name in self.filters:
            wrong = sorted(self.found.rows(name) & self.background)
            if wrong:
                row = rng.choice(wrong)
                side = min(self.found.sides[name][row])
                told = f"{self.found.reasons[name, row][:120]} | {_shown(self.planted.pairs[row], side)}"
                lines.append(f"flagged though nothing was planted, {name} (row {row}, {side}): {told}")
        _say("\n### Examples (text of public data: for the console only)\n\n" + "\n".join(f"- {line}" for line in lines))

    def numbers(self) -> dict[str, Any]:
        """All that the tables are counted from, without any text."""
        flagged = {name: {str(row): sorted(said) for row, said in found.items()} for name, found in self.found.sides.items()}
        return {
            "pairs": len(self.planted.pairs), "background": sorted(self.background), "failed": self.found.failed,
            "planted": {row: plant._asdict() for row, plant in self.planted.key.items()},
            "ours": flagged, "simplest": {name: sorted(found) for name, found in self.simplest.items()},
            "length": {
                kind.name: simplest.best_length_rule(
                    self.planted.pairs, self.planted.rows(kind.name), self.background
                )._asdict()
                for kind in self.kinds
            },
        }  # fmt: skip


def _shown(pair: Pair, side: str) -> str:
    """The beginning of what a flag or a plant is about, on one line."""
    chosen, rejected = (" ".join(text.split()) for text in simplest.split(pair))
    if side in ("chosen", "rejected"):
        return repr((chosen if side == "chosen" else rejected)[:160])
    return f"{chosen[:80]!r} / {rejected[:80]!r}"


# ---- swapped labels


def swapped_rows(planted: Planted, found: Screened, share: float) -> list[list[object]]:
    """For each subset and method: how many were swapped, recall, precision, and what is flagged of the others."""
    rows: list[list[object]] = []
    for subset in dict.fromkeys(pair.subset for pair in planted.pairs):
        places = [row for row, pair in enumerate(planted.pairs) if pair.subset == subset]
        pairs = [planted.pairs[row] for row in places]
        swapped = {number for number, row in enumerate(places) if row in planted.key}
        others = set(range(len(pairs))) - swapped
        methods: dict[str, set[int]] = {}
        if SWAPS in found.sides:
            ours = found.rows(SWAPS)
            methods["ours"] = {number for number, row in enumerate(places) if row in ours}
            methods["shortest chosen sides, as many as ours"] = simplest.shortest_chosen(pairs, len(methods["ours"]))
            scores = found.scores.get(SWAPS, {})
            ranked = sorted((-scores[row], number) for number, row in enumerate(places) if row in scores)
            methods["ours, highest scores, as many as swapped"] = {number for _, number in ranked[: len(swapped)]}
        methods["shortest chosen sides, as many as swapped"] = simplest.shortest_chosen(pairs, len(swapped))
        methods[f"simplest: {simplest.DESCRIBED[SWAPS]}"] = simplest.flagged(pairs, [SWAPS])[SWAPS]
        rule = simplest.best_length_rule(pairs, swapped, others)
        methods[f"best length rule in hindsight: {rule}"] = rule.flagged(pairs)
        for method, flagged in methods.items():
            rate = Share(len(flagged & others), len(others))
            found_of = [len(flagged), recall(flagged, swapped), precision(flagged, swapped, others)]
            rows.append([subset, len(pairs), f"{share:.0%}", len(swapped), method, *found_of, rate])
    return rows


# ---- the run


def kinds(given: argparse.Namespace, source: str, pairs: list[Pair], place: Place) -> dict[str, Any]:
    """Plant every kind, screen with every filter, print; returns the numbers."""
    background = drawn(pairs, given.pairs, given.seed)
    each = min(given.each, most_each(len(background)))
    planted = plant(background, each=each, seed=given.seed)
    reading = to_read(planted.pairs, list(FILTERS), place.read)
    _say(f"\n## Planted noise: {len(background):,} pairs of {source}, up to {each} of each kind, seed {given.seed}\n")
    _say(f"{len(planted.key):,} rows planted, {len(planted.background):,} left as they came; {reading}.")
    found = screened(place, "kinds", planted.pairs, list(FILTERS))
    if found.failed:
        _say(f"\nFilters that failed: {found.failed}")
    result = Kinds(planted, found)
    result.print()
    return result.numbers()


def swaps(given: argparse.Namespace, source: str, pairs: list[Pair], place: Place) -> list[dict[str, Any]]:
    """Swap labels of whole subsets at each share, screen with the filter for them, print; returns the table's rows."""
    known = list(dict.fromkeys(pair.subset for pair in pairs))
    wanted = [subset for subset in given.subsets if subset in known] or known
    whole = [pair for pair in pairs if pair.subset in wanted]
    filters = [SWAPS] if SWAPS in FILTERS else []
    reading = to_read(whole, filters, place.read)
    _say(f"\n## Swapped labels: {', '.join(wanted)} of {source}, whole, seed {given.seed}\n")
    _say(f"{reading}." if filters else f"There is no filter {SWAPS!r} yet: only the baselines.")
    rows = []
    for share in SHARES:
        planted = swap(whole, share=share, seed=given.seed)
        found = Screened({}, {}, "")
        if filters:
            name = f"swapped-{round(100 * share)}"
            found = screened(place, name, planted.pairs, filters)
            if found.failed:
                _say(f"\nFailed: {found.failed}")
        rows += swapped_rows(planted, found, share)
    headings = (
        "subset", "n", "share swapped", "swapped", "method", "flagged", "recall", "precision", "flagged of the others"
    )  # fmt: skip
    title = "Swapped labels: many labels are wrong as they came, so precision is a lower bound"
    measure.table(title, headings, rows)
    cells = ([cell._asdict() if isinstance(cell, Share) else cell for cell in row] for row in rows)
    return [dict(zip(headings, row, strict=True)) for row in cells]


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["kinds", "swaps"], help="kinds, swaps or, if neither is named, both")
    parser.add_argument("--pairs", type=int, default=3000, help="pairs in which the kinds of noise are planted")
    parser.add_argument("--each", type=int, default=100, help="pairs each kind is planted in, at most")
    parser.add_argument("--subsets", nargs="+", default=list(_SUBSETS), help="whose labels are swapped; unknown ones: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="where what models read is kept from one benchmark to the next")
    parser.add_argument("--json", type=Path, help="a file for all counts, without texts")
    given = parser.parse_args()
    if unknown := set(given.what) - {"kinds", "swaps"}:
        parser.error(f"unknown {', '.join(sorted(unknown))}: expected kinds or swaps")
    source, pairs = good_pairs()
    if given.each < 1 or ("kinds" in given.what and most_each(min(given.pairs, len(pairs))) < 1):
        parser.error(f"--pairs {given.pairs} --each {given.each}: expected 24 pairs or more, to plant {len(KINDS)} kinds once")
    numbers: dict[str, Any] = {"source": source, "seed": given.seed, "filters": {n: k.version for n, k in FILTERS.items()}}
    with tempfile.TemporaryDirectory(prefix="elephant-bench-") as name:
        place = Place(Path(name), (given.cache or Path(name, "cache")).resolve(), set())
        place.cache.mkdir(parents=True, exist_ok=True)
        if "kinds" in given.what:
            numbers["kinds"] = kinds(given, source, pairs, place)
        if "swaps" in given.what:
            numbers["swaps"] = swaps(given, source, pairs, place)
    if given.json:
        given.json.write_text(json.dumps(numbers, indent=1) + "\n")


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
