"""Release: verdicts and flags turn a dataset into a frozen, cleaned one, by the rules of a policy."""

import json
import os
import re
import shutil
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib import metadata
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, get_args

from curation import interchange, release_card, release_files
from curation.release_files import Names, Placed, Written
from curation.release_policy import OUTCOMES, REVIEWED, Basis, Outcome, Policy, Ruling, policy_from, rule
from curation.review import Settings, Verdict, settings_of
from curation.stats.accuracy import wilson
from curation.store.flags import Screening
from curation.store.pairs import Dataset
from curation.store.releases import Order, Release
from curation.store.verdicts import Decision, Settlement
from curation.workspace import Workspace

__all__ = ["Plan", "PlannedRow", "Policy", "Release", "Ruling", "in_words", "plan", "policy_from", "release", "rule"]

Progress = Callable[[float, str], None]

UNDECIDED = "undecided"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ONE_AT_A_TIME = Lock()


# ---- the plan


class PlannedRow(NamedTuple):
    """A row of the dataset and what becomes of it."""

    row: int
    pair_id: str
    subset: str
    split: str
    ruling: Ruling


@dataclass(frozen=True)
class Plan:
    """What a policy makes of a dataset as it stands now. Counts are over rows where they do not say pairs."""

    dataset: Dataset
    policy: Policy
    settings: Settings
    rows: list[PlannedRow]
    decisions: list[Decision]
    settlements: list[Settlement]
    screenings: list[Screening]

    @property
    def as_of(self) -> datetime | None:
        """When the latest verdict or adjudication that counts was given; None without any."""
        times = [one.decided_at for one in self.decisions] + [one.settled_at for one in self.settlements]
        return max(times, default=None)

    @cached_property
    def counts(self) -> dict[str, Any]:
        """The counts as they stand in the manifest: in all, by subset and split, by basis, and by type of verdict.

        `rows` and `pairs` (distinct ones) hold total, kept, swapped, dropped and shares; a share of nothing is None.
        """
        groups: dict[tuple[str, str], list[PlannedRow]] = defaultdict(list)
        bases: dict[str, list[PlannedRow]] = defaultdict(list)
        for one in self.rows:
            groups[one.subset, one.split].append(one)
            bases[one.ruling.basis].append(one)
        return {
            **_count(self.rows),
            "by_subset": [
                {"subset": subset, "split": split, **_count(rows), "types": _types(rows)}
                for (subset, split), rows in groups.items()
            ],
            "by_basis": [{"basis": basis, **_count(bases[basis])} for basis in get_args(Basis)],
            "types": {
                "all": _types(self.rows),
                "flagged": _types(one for one in self.rows if one.ruling.filters),
                "not_flagged": _types(one for one in self.rows if not one.ruling.filters),
            },
        }


def plan(workspace: Workspace, dataset: str, policy: Policy) -> Plan:
    """What becomes of every row. Nothing is written: the page's preview and a release are made from the same plan.

    Verdicts follow content: a pair that stands in several rows is decided once for all of them. Raises ValueError
    for an unknown dataset, and for a filter of the policy that has not screened it.
    """
    described = workspace.pairs.dataset(dataset)
    screenings = workspace.flags.current(dataset)
    _check_filters(policy, dataset, {one.filter for one in screenings})
    decisions, settlements = workspace.verdicts.standing(dataset), workspace.verdicts.settlements(dataset)
    rulings = _rulings(policy, decisions, settlements, workspace.releases.filters_of_pairs(dataset))
    untouched = rule(policy, Counter())
    rows = [
        PlannedRow(row, pair_id, subset, split, rulings.get(pair_id, untouched))
        for row, pair_id, subset, split in workspace.pairs.rows_in_order(dataset)
    ]
    return Plan(described, policy, settings_of(workspace, dataset), rows, decisions, settlements, screenings)


def _check_filters(policy: Policy, dataset: str, screened: set[str]) -> None:
    for name in policy.drop_unreviewed_filters:
        if name not in screened:
            by = ", ".join(sorted(screened)) or "none yet"
            raise ValueError(f"the policy drops what filter {name!r} flags, but {dataset!r} was screened by: {by}")


def _rulings(
    policy: Policy, decisions: Iterable[Decision], settlements: Iterable[Settlement], filters: Mapping[str, tuple[str, ...]]
) -> dict[str, Ruling]:
    """The ruling on every pair that somebody judged or a filter flags."""
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for one in decisions:
        votes[one.pair_id][one.verdict] += 1
    settled = {one.pair_id: one.verdict for one in settlements}
    touched = dict.fromkeys([*votes, *settled, *filters])
    none: Counter[str] = Counter()
    return {
        pair_id: rule(policy, votes.get(pair_id, none), settled=settled.get(pair_id), filters=filters.get(pair_id, ()))
        for pair_id in touched
    }


def _count(rows: Sequence[PlannedRow]) -> dict[str, Any]:
    pairs = {one.pair_id: one.ruling.outcome for one in rows}
    return {"rows": _outcomes(one.ruling.outcome for one in rows), "pairs": _outcomes(pairs.values())}


def _outcomes(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    found = Counter(outcomes)
    total = found.total()
    shares = {one: found[one] / total if total else None for one in OUTCOMES.values()}
    return {"total": total, **{one: found[one] for one in OUTCOMES.values()}, "shares": shares}


def _types(rows: Iterable[PlannedRow]) -> list[dict[str, Any]]:
    """For each type: rows, distinct pairs, and its share of the `n` reviewed pairs with the 95% Wilson interval."""
    reviewed = [one for one in rows if one.ruling.basis in REVIEWED]
    in_rows = Counter(one.ruling.verdict or UNDECIDED for one in reviewed)
    in_pairs = Counter({one.pair_id: one.ruling.verdict or UNDECIDED for one in reviewed}.values())
    n = in_pairs.total()
    types = []
    for name in [*(one.value for one in Verdict), UNDECIDED]:
        low, high = wilson(in_pairs[name], n) if n else (None, None)
        share = in_pairs[name] / n if n else None
        types.append(
            {"type": name, "rows": in_rows[name], "pairs": in_pairs[name], "n": n, "share": share, "low": low, "high": high}
        )
    return types


# ---- the release


def release(
    workspace: Workspace, dataset: str, name: str, policy: Policy, *,
    out: Path | None = None, progress: Progress = lambda share, words: None,
) -> Release:  # fmt: skip
    """Write a frozen release to the folder `out`, by default one in the workspace, and record it.

    The folder appears whole or not at all: it is written under another name beside it first. The same inputs give
    the same bytes. Raises ValueError for a name or a folder that cannot be used or is there already.
    """
    with _ONE_AT_A_TIME:  # so that a half release found here was left by a process that died
        target = _target(workspace, name, out)
        progress(0.0, "deciding every row")
        planned = plan(workspace, dataset, policy)
        new = _new_pseudonyms(planned, workspace.releases.pseudonyms())
        half = target.with_name(f".{target.name}.part")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        try:
            manifest = _write(workspace, planned, half, {**workspace.releases.pseudonyms(), **new}, progress)
            os.rename(half, target)
        finally:
            shutil.rmtree(half, ignore_errors=True)
        made = Release(name, dataset, _as_seen_from(workspace, target), manifest, workspace.clock())
        try:
            workspace.releases.add(made, new)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise
        progress(1.0, in_words(json.loads(manifest)))
        return made


def in_words(manifest: Mapping[str, Any]) -> str:
    """What a release did, in one line."""
    rows = manifest["counts"]["rows"]
    return f"{rows['kept']:,} of {rows['total']:,} rows kept, {rows['swapped']:,} swapped, {rows['dropped']:,} dropped"


def _target(workspace: Workspace, name: str, out: Path | None) -> Path:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"the name {name!r} cannot be used: expected up to 100 letters, digits, '.', '_' or '-', not beginning with a mark"
        )
    if any(one.name == name for one in workspace.releases.all()):
        raise ValueError(f"there is a release {name!r} already: releases are frozen, choose another name")
    target = (workspace.releases_folder / name if out is None else out).absolute()
    if os.path.lexists(target):
        raise ValueError(f"{str(target)!r} is there already: choose a folder that does not exist yet")
    return target


def _as_seen_from(workspace: Workspace, target: Path) -> str:
    home = workspace.folder.absolute()
    return str(target.relative_to(home) if target.is_relative_to(home) else target)


def _new_pseudonyms(planned: Plan, known: Mapping[str, str]) -> dict[str, str]:
    """Pseudonyms for people who have none yet, numbered on in the order of their first event."""
    events = [(one.decided_at, one.claim_id, one.person) for one in planned.decisions]
    events += [(one.settled_at, one.adjudication_id, one.person) for one in planned.settlements]
    people = dict.fromkeys(person for _, _, person in sorted(events) if person not in known)
    return {person: f"reviewer-{number}" for number, person in enumerate(people, start=len(known) + 1)}


def _write(workspace: Workspace, planned: Plan, folder: Path, people: Mapping[str, str], progress: Progress) -> str:
    """Write everything into the folder; returns the manifest."""
    names = release_files.names_of((one.subset for one in planned.rows), (one.split for one in planned.rows))
    progress(0.05, "writing HH and TRL rows")
    with _placed(workspace, planned, folder, "file", _part_of(progress, 0.05, 0.65)) as rows:
        written = release_files.write_rows(folder, rows, names)
    progress(0.65, "writing the dataset folder")
    with _placed(workspace, planned, folder, "split", _part_of(progress, 0.65, 0.9)) as rows:
        release_files.write_dataset(folder, rows, names)
    progress(0.9, "writing labels and reasons")
    release_files.write_lines(folder / "labels.jsonl", _labels(planned, people))
    release_files.write_lines(folder / "swapped.jsonl", (_told(one) for one in planned.rows if one.ruling.outcome == "swapped"))
    with _placed(workspace, planned, folder, "row", _part_of(progress, 0.9, 0.97), dropped=True) as rows:
        lost = ({**_told(planned.rows[one.row]), **release_files.hh_row(one.pair)} for one in rows)
        release_files.write_lines(folder / "dropped.jsonl", lost)
    manifest = _manifest(planned, names, written)
    (folder / "README.md").write_text(release_card.card(manifest), encoding="utf-8", newline="\n")
    manifest["files"] = release_files.checksums(folder)
    text = json.dumps(manifest, ensure_ascii=False, indent=2) + "\n"
    (folder / "manifest.json").write_text(text, encoding="utf-8", newline="\n")
    return text


@contextmanager
def _placed(
    workspace: Workspace, planned: Plan, folder: Path, order: Order, progress: Callable[[float], None], *, dropped: bool = False
) -> Iterator[Iterator[Placed]]:
    """The rows with their texts, all or the dropped ones, some in memory at a time."""
    staged = folder / "staged.parquet"
    only = [one.row for one in planned.rows if one.ruling.outcome == "dropped"] if dropped else None
    workspace.releases.export_rows(planned.dataset.dataset, staged, order=order, only=only)
    try:
        yield _read(staged, planned, progress)
    finally:
        staged.unlink()


def _read(staged: Path, planned: Plan, progress: Callable[[float], None]) -> Iterator[Placed]:
    total, done = interchange.count(staged), 0
    for batch in interchange.batches(staged):
        for pair in batch:
            row, _, subset, split, ruling = planned.rows[pair.rows[0]]
            yield Placed(row, subset, split, ruling.outcome, pair)
        done += len(batch)
        progress(done / total)


def _part_of(progress: Progress, low: float, high: float) -> Callable[[float], None]:
    return lambda share: progress(low + share * (high - low), "writing")


def _told(one: PlannedRow) -> dict[str, Any]:
    ruling = one.ruling
    return {
        "row": one.row, "pair_id": one.pair_id, "subset": one.subset, "split": one.split, "reason": ruling.reason,
        "basis": ruling.basis, "verdict": ruling.verdict or None, "filters": list(ruling.filters),
    }  # fmt: skip


def _labels(planned: Plan, people: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every verdict and adjudication that stands, by the pair's first row and then by time."""
    rows: dict[str, list[int]] = defaultdict(list)
    for one in planned.rows:
        rows[one.pair_id].append(one.row)
    notes = planned.policy.include_notes
    found = [(one.decided_at, one.claim_id, _verdict_label(one, rows, people, notes)) for one in planned.decisions]
    found += [(one.settled_at, one.adjudication_id, _settled_label(one, rows, people, notes)) for one in planned.settlements]
    found.sort(key=lambda one: (one[2]["rows"][0], one[0], one[1]))
    return [label for _, _, label in found]


def _verdict_label(one: Decision, rows: Mapping[str, list[int]], people: Mapping[str, str], notes: bool) -> dict[str, Any]:
    return {
        "pair_id": one.pair_id, "rows": rows[one.pair_id], "event": "verdict", "reviewer": people[one.person],
        "verdict": one.verdict, "kind": one.kind, "seconds": one.seconds, "chosen_shown": one.chosen_shown or None,
        "tags": list(one.tags), **({"note": one.note} if notes else {}), "decided_at": _time(one.decided_at),
    }  # fmt: skip


def _settled_label(one: Settlement, rows: Mapping[str, list[int]], people: Mapping[str, str], notes: bool) -> dict[str, Any]:
    return {
        "pair_id": one.pair_id, "rows": rows[one.pair_id], "event": "adjudication", "reviewer": people[one.person],
        "verdict": one.verdict, "kind": None, "seconds": one.seconds, "chosen_shown": None,
        "tags": [], **({"note": one.note} if notes else {}), "decided_at": _time(one.settled_at),
    }  # fmt: skip


def _manifest(planned: Plan, names: Names, written: Written) -> dict[str, Any]:
    """What was made of what, by which rules. It holds no clock: `as_of` is the time of the latest event used."""
    source = planned.dataset
    people = {one.person for one in planned.decisions} | {one.person for one in planned.settlements}
    return {
        "program": {"name": "elephant-room", "version": _version()},
        "dataset": {
            "name": source.dataset, "source": source.source, "content_hash": source.content_hash,
            "rows": source.imported, "rejected": source.rejected,
        },
        "as_of": None if planned.as_of is None else _time(planned.as_of),
        "policy": planned.policy.model_dump(mode="json"),
        "policy_in_words": planned.policy.in_words(),
        "review": {
            "settings": planned.settings.model_dump(mode="json"),
            "reviewers": len(people),
            "verdicts": len(planned.decisions), "adjudications": len(planned.settlements),
        },
        "screenings": [
            {
                "filter": one.filter, "version": one.version, "parameters": _without_folders(json.loads(one.parameters)),
                "threshold": one.threshold, "read_by": one.read_by, "screened": one.screened, "flagged": one.flagged,
            }
            for one in planned.screenings
        ],
        "counts": planned.counts,
        "trl": {
            "rows_whose_responses_hold_further_turns": written.further,
            "rows_left_out_without_a_shared_prompt": written.promptless,
        },
        "names": names._asdict(),
    }  # fmt: skip


def _without_folders(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A filter's parameters as they are published: of a path on this machine its last part."""
    return {
        name: Path(value).name if isinstance(value, str) and value.startswith(("/", "~", ".")) else value
        for name, value in parameters.items()
    }


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


def _version() -> str:
    """The program's version: the one beside a checkout's code, else the installed one."""
    project = Path(__file__).resolve().parent.parent / "pyproject.toml"
    if project.is_file():
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
    return metadata.version("elephant-room")
