"""Policies as lists and files show them: a row each, what made one in words, and what it answered in AlpacaEval's form."""

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from curation import policies, tables
from curation.pairs import Turn, render, unpacked
from curation.store.policies import Divergence, Generator, Policy, Written
from curation.workspace import Workspace

COLUMNS = ("instruction", "output", "generator", "prompt", "point", "sample", "prompt_id", "response_id")
_Z = 1.96  # of a 95% interval


def rows(workspace: Workspace) -> list[dict[str, Any]]:
    """Every policy with what made it, how far it is from its start, and how many responses it has."""
    by_policy: dict[str, list[Generator]] = defaultdict(list)
    for one in workspace.policies.generators():
        by_policy[one.policy].append(one)
    divergences = workspace.policies.divergences()
    return [_row(one, by_policy[one.policy], divergences) for one in workspace.policies.all()]


def _row(policy: Policy, generators: Sequence[Generator], divergences: Mapping[str, Divergence]) -> dict[str, Any]:
    lineage = json.loads(policy.lineage)
    reward = lineage.get("reward_model") or {}
    pickers = [one.generator.partition("/")[2] for one in generators]
    measured = [divergences[one.generator] for one in generators if one.generator in divergences]
    return {
        **policy._asdict(), "lineage": lineage, "registered_at": policy.registered_at.isoformat(), "from": begun_from(lineage),
        "reward model": reward.get("name") or ", ".join(filter(None, pickers)), "KL": _kl(policy, generators, measured),
        "generators": [one._asdict() for one in generators], "responses": sum(one.responses for one in generators),
    }  # fmt: skip


def begun_from(lineage: Mapping[str, Any]) -> str:
    """What a policy began from, by the name it has here where it has one."""
    base = lineage["base"]
    return str(base.get("policy") or base["name"])


def _kl(policy: Policy, generators: Sequence[Generator], measured: Sequence[Divergence]) -> str:
    """The KL divergence from its start in nats a response with its 95% interval, or of best-of-n its bound, as such."""
    if policy.kind == "best-of-n" and generators:
        n = max(one.points[-1] for one in generators)
        return f"at most {math.log(n) - (n - 1) / n:.2f} (bound, n = {n:,})"  # arXiv 2401.01879
    if len(measured) != 1:
        return "not measured"
    (one,) = measured
    within = "" if one.error is None else f" ({_places(one.mean - _Z * one.error)} to {_places(one.mean + _Z * one.error)})"
    return f"{_places(one.mean)}{within}, n = {one.prompts:,} prompts"


def _places(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"  # never -0.00


# ---- what made one


def in_words(policy: Policy) -> list[str]:
    """What made a policy, a line a fact; what it began from follows, where it is a policy here."""
    lineage = json.loads(policy.lineage)
    facts = [f"{policy.policy}: {policy.kind}, {policy.registered_at:%Y-%m-%d %H:%M} UTC by {policy.person}"]
    facts += [f"  {what}: {words}" for what, words in _facts(policy, lineage) if words]
    earlier = lineage.get("base_lineage")
    while earlier:  # each holds that of what it began from
        facts.append(f"  began from {begun_from(lineage)}: {earlier['kind']}, from {begun_from(earlier)}" + _by(earlier))
        lineage, earlier = earlier, earlier.get("base_lineage")
    return facts


def _facts(policy: Policy, lineage: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    base, prompts = lineage["base"], lineage.get("prompts") or {}
    yield "model", policy.source + (f", files {policy.fingerprint}" if policy.fingerprint else "")
    yield "run", policy.run_id
    yield "start", begun_from(lineage) + (f", files {base['fingerprint']}" if base.get("fingerprint") else "")
    yield "licence", policy.licence
    yield "data", str(lineage.get("data") or "")
    yield "releases", ", ".join(lineage.get("releases") or ())
    yield "learned from", f"{prompts['learned from']:,}" if prompts.get("learned from") else ""
    yield "held out", f"{prompts['held out']:,} prompts" if "held out" in prompts else ""
    yield "left out", "; ".join(f"{many:,} {why}" for why, many in (prompts.get("left out") or {}).items())
    yield "sha256 of it", str(lineage.get("data_hash") or "")
    yield "reward model", _model(lineage.get("reward_model"))
    yield "scored by", ", ".join(_model(one) for one in lineage.get("scored_by") or ())
    yield "seed", str(lineage.get("seed", ""))
    yield "code", str(lineage.get("code") or "")
    yield "packages", ", ".join(f"{name} {version}" for name, version in (lineage.get("versions") or {}).items())
    yield "place in a grid", _place(lineage.get("cell") or {})
    yield from (("note", note) for note in lineage.get("notes") or ())
    yield from ((f"at {point['point']:,}", _point(point)) for point in lineage.get("points") or ())


def _by(lineage: Mapping[str, Any]) -> str:
    reward = lineage.get("reward_model")
    return f", on {lineage['data']}{f', by {_model(reward)}' if reward else ''}" if lineage.get("data") else ""


def _model(named: Mapping[str, Any] | None) -> str:
    if not named:
        return ""
    return str(named["name"]) + (f" (files {named['fingerprint']})" if named.get("fingerprint") else "")


def _place(cell: Mapping[str, Any]) -> str:
    """Nothing where it is in no grid: what such a cell says is said above."""
    return ", ".join(f"{name} {value}" for name, value in cell.items() if value != "") if cell.get("alignment") else ""


def _point(point: Mapping[str, Any]) -> str:
    kl = "KL not measured" if point.get("kl") is None else f"KL {point['kl']:.3f}"
    if point.get("kl_bound") is not None:
        kl = f"picked by {point['reward_model']}, KL at most {point['kl_bound']:.3f} (bound)"
    scores = "".join(f", {name} {value:.4g}" for name, value in point["scores"].items() if value is not None)
    return f"n = {point['n']:,}, {kl}, {point['length']:.1f} tokens, {point['stopped']:.0%} stopped{scores}"


# ---- what it answered


def export(workspace: Workspace, name: str, path: Path, *, point: int | None = None) -> int:
    """Write what a generator answered, a response a record; returns how many.

    `instruction` is what was asked where the prompt is one human turn, else the whole conversation; `prompt` holds its turns.
    Raises ValueError for a name without responses and for a file of another ending.
    """
    records = [_record(one, unpacked(one.turns)) for one in policies.answered(workspace, [name], point=point)]
    tables.write(path, records, COLUMNS)
    return len(records)


def _record(one: Written, turns: Sequence[Turn]) -> dict[str, Any]:
    asked = turns[0].content if len(turns) == 1 else render(turns).strip()
    messages = [{"role": role or "system", "content": content} for role, content, _ in turns]
    return {
        "instruction": asked, "output": one.text, "generator": one.generator, "prompt": messages, "point": one.point,
        "sample": one.sample, "prompt_id": one.prompt_id, "response_id": one.response_id,
    }  # fmt: skip
