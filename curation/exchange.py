"""Flags and verdicts out to files; verdicts and reward models' scores in from files."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from curation import tables
from curation.review import Verdict
from curation.store.verdicts import Decision
from curation.workspace import Workspace

FLAG_COLUMNS = ("pair_id", "rows", "subset", "filter", "side", "score", "reason", "detail")
VERDICT_COLUMNS = (
    "claim_id", "dataset", "pair_id", "person", "verdict", "kind", "chosen_shown", "seconds", "note", "tags", "decided_at",
    "undone_at",
)  # fmt: skip
REGISTERED = "models:"  # where reward models of the workspace are meant, and no file
_SCORE_COLUMNS = ("pair_id", "reward_model", "chosen", "rejected")


class Taken(NamedTuple):
    """What a file of verdicts brought: new ones, ones that were there already, and the lines that could not be used."""

    new: int
    known: int
    rejected: list[tuple[int, str]]  # record number from 1, reason


def export_flags(workspace: Workspace, dataset: str, path: Path) -> int:
    """Write one flag a record; returns how many. Raises ValueError for an unknown dataset or one never screened."""
    workspace.pairs.dataset(dataset)
    if not workspace.flags.current(dataset):
        raise ValueError(f"{dataset!r} is not screened yet: run `elephant screen {dataset}` first")
    flags = workspace.flags.export(dataset)
    tables.write(path, flags, FLAG_COLUMNS)
    return len(flags)


def export_verdicts(workspace: Workspace, path: Path) -> int:
    """Write every verdict event, undone ones marked; returns how many."""
    events = workspace.verdicts.events()
    tables.write(path, events, VERDICT_COLUMNS)
    return len(events)


def import_verdicts(workspace: Workspace, path: Path, *, dataset: str | None = None) -> Taken:
    """Take in verdicts: pair_id (or row, with `dataset`), person, verdict, and what else `export_verdicts` writes.

    The same record twice changes nothing. A record that cannot be used is named and loses no other.
    """
    rows = {row: pair_id for row, pair_id, _, _ in workspace.pairs.rows_in_order(dataset)} if dataset else {}
    if dataset:
        workspace.pairs.dataset(dataset)
    decisions, undone, rejected = [], [], []
    known = workspace.pairs.datasets_of_pairs()
    for number, record in enumerate(tables.read(path), start=1):
        try:
            decision = _decision(record, rows, known, workspace.clock())
        except ValueError as error:
            rejected.append((number, str(error)))
            continue
        decisions.append(decision)
        if record.get("undone_at"):
            undone.append((decision.claim_id, _time(record["undone_at"])))
    new = workspace.verdicts.add(decisions, undone)
    workspace.board.reload()
    return Taken(new, len(decisions) - new, rejected)


def hand_over_scores(workspace: Workspace, dataset: str, path: Path, target: Path) -> None:
    """Check a file of reward models' scores and write what a run reads of it: pair_id, reward_model, chosen, rejected.

    Records name a pair by pair_id or by row. Raises ValueError for a record that cannot be used, and when no pair of
    the dataset has the scores of two reward models: one alone says nothing about what is contested.
    """
    rows = {row: pair_id for row, pair_id, _, _ in workspace.pairs.rows_in_order(dataset)}
    known, scored = set(rows.values()), defaultdict(set)
    records = []
    for number, record in enumerate(tables.read(path), start=1):
        try:
            pair_id, model = _pair_id(record, rows), str(record.get("reward_model") or "").strip()
            if not model:
                raise ValueError("no reward_model: expected its name")
            sides = {side: _finite(record, side) for side in ("chosen", "rejected")}
        except ValueError as error:
            raise ValueError(f"{str(path)!r}, record {number}: {error}") from None
        if pair_id in known:
            records.append({"pair_id": pair_id, "reward_model": model, **sides})
            scored[pair_id].add(model)
    if not any(len(models) >= 2 for models in scored.values()):
        raise ValueError(f"{str(path)!r} has no pair of {dataset!r} with scores of two reward models or more")
    tables.write(target, records, _SCORE_COLUMNS)


def hand_over_registered(workspace: Workspace, dataset: str, given: str, target: Path) -> None:
    """Write what registered reward models said of a dataset's pairs, in the same form; of one that compares, the log odds.

    `given` is "models:NAME,NAME", or "models:all" for every one that scored any of it, save the baseline `length` and
    ensembles. A model has no vote on prompts it was trained on. Raises
    ValueError for an unknown name, and when no pair has the scores of two.
    """
    wanted = [one.strip() for one in given.removeprefix(REGISTERED).split(",") if one.strip()]
    models = workspace.scores.models()
    if wanted == ["all"]:
        wanted = [one.reward_model for one in models if one.reward_model != "length" and one.family != "ensemble"]
    records, scored = [], Counter[str]()
    for name in wanted:
        workspace.scores.model(name)
        learned = workspace.scores.trained_on(name)
        seen = {pair_id for pair_id, prompt, _, _ in workspace.pairs.sides(dataset) if prompt in learned} if learned else set()
        for pair_id, chosen, rejected in workspace.scores.of_pairs(dataset, name):
            if pair_id in seen:
                continue  # it learnt this label: its vote would only repeat it
            records.append({"pair_id": pair_id, "reward_model": name, "chosen": chosen, "rejected": rejected})
            scored[pair_id] += 1
    if not scored or max(scored.values()) < 2:
        raise ValueError(
            f"contested.scores is {given!r}: no pair of {dataset!r} has scores of two of {', '.join(wanted) or 'them'}; "
            "score it first, under Rewards or by elephant run score"
        )
    tables.write(target, records, _SCORE_COLUMNS)


def _finite(record: Mapping[str, Any], side: str) -> float:
    try:
        value = float(str(record.get(side)))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{side} is {record.get(side)!r}: expected a score")
    return value


def _decision(record: Mapping[str, Any], rows: Mapping[int, str], known: Mapping[str, str], now: datetime) -> Decision:
    pair_id, person, verdict = _pair_id(record, rows), record.get("person"), record.get("verdict")
    if pair_id not in known:
        raise ValueError(f"pair_id is {pair_id!r}: no such pair in this workspace")
    if not isinstance(person, str) or not person.strip():
        raise ValueError(f"person is {person!r}: expected a name")
    if verdict not in set(Verdict):
        raise ValueError(f"verdict is {verdict!r}: expected one of {', '.join(Verdict)}")
    given = record.get("decided_at")
    tags = record.get("tags") or []
    tags = json.loads(tags) if isinstance(tags, str) else tags
    seconds = record.get("seconds")
    claim_id = record.get("claim_id") or _named(pair_id, person, str(verdict), str(given))
    shown = record.get("chosen_shown")
    return Decision(
        str(claim_id), str(record.get("dataset") or known[pair_id]), pair_id, person.strip(), Verdict(verdict).value,
        str(record.get("kind") or "imported"), shown if shown in ("A", "B") else "",
        None if seconds in (None, "") else float(str(seconds)), str(record.get("note") or ""), [str(tag) for tag in tags],
        _time(given) if given else now,
    )  # fmt: skip


def _pair_id(record: Mapping[str, Any], rows: Mapping[int, str]) -> str:
    if record.get("pair_id"):
        return str(record["pair_id"])
    row = record.get("row")
    if row in (None, "") or not rows:
        raise ValueError("no pair_id: expected one, or a row together with --dataset")
    if int(str(row)) not in rows:
        raise ValueError(f"row is {row}: expected 0 to {len(rows) - 1}")
    return rows[int(str(row))]


def _time(value: Any) -> datetime:
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _named(*parts: str) -> str:
    return "imported-" + blake2b("\n".join(parts).encode(), digest_size=12).hexdigest()
