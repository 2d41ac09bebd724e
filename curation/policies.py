"""The registry of policies: those made by runs, with what they answered, and those made elsewhere. A name means one policy for
ever, and is the generator of its responses."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation import reward_models
from curation.outputs import Output
from curation.pairs import RESPONSE_LEAD, Response, packed, prompt_id_of, response_id_of, turn, unpacked
from curation.store.policies import Answers, Learned, Policy, Written
from curation.workspace import Workspace
from training import engine, loading
from training.models import located
from training.policy_data import CUT, PROMPTS, RESPONSES, SCORE, SUMMARY, TRAIN
from training.reward_data import PAIRS
from training.run import OVER, Run

KINDS = ("generate", "sft", "dpo", "ppo", "rloo", "best-of-n")
GIVEN = "given"
BUILT_IN = "smollm2"  # always there to begin from, registered or not
SPLIT = "split.json"  # in a run's input: what its data were, how many prompts and pairs, how many were left out and why
_RESERVED = ("chosen", "rejected", "attention", "tie")  # generators of studies that are no policies, and what is no generator


# ---- the registry


def register(workspace: Workspace, name: str, source: str, person: str, *, licence: str = "") -> Policy:
    """Put a policy made elsewhere into the registry: a folder, a built-in name or a hub id.

    Raises ValueError for a name that is taken or cannot be used, and for a folder that is not there.
    """
    check_name(workspace, name, source=source)
    reward_models.check_source(source)
    here = Path(located(source).place).is_dir()
    kept = str(reward_models.placed(workspace, source, {source}))
    lineage = {"kind": GIVEN, "base": {"name": source, "policy": ""}, "revision": loading.commit_of(source)}
    policy = Policy(
        name, GIVEN, kept, json.dumps(lineage), loading.fingerprint_of_all([source]),
        licence or (loading.licence(loading.place_of(source)) if here else ""), "", person, workspace.clock(),
    )  # fmt: skip
    workspace.policies.register(policy)
    return policy


def check_name(workspace: Workspace, name: str, *, source: str = "") -> None:
    """Raise ValueError for a name that no new policy can have: its responses bear it, in studies too. That of a built-in model
    is for this model as its `source` alone."""
    if not reward_models.NAME.fullmatch(name):
        raise ValueError(
            f"the name {name!r} cannot be used: expected up to 60 letters, digits, '.', '_' or '-', not beginning with a mark"
        )
    if name in _RESERVED or (name == BUILT_IN and source != BUILT_IN):
        raise ValueError(f"the name {name!r} means something else: choose another name")
    if name in {one.partition("/")[0] for one in workspace.policies.names()}:
        raise ValueError(f"there is a policy or a generator {name!r} already: choose another name")
    if name in in_training(workspace):
        raise ValueError(f"a policy {name!r} is being made: choose another name, or cancel that run")


def in_training(workspace: Workspace) -> set[str]:
    """The names of the policies that runs are making now."""
    runs = [Run(file.parent) for file in workspace.runs.glob("*/state.json")]
    return {str(one.config()["policy"]) for one in runs if one.state().kind in KINDS and engine.watch(one).status not in OVER}


def source_of(workspace: Workspace, name: str) -> str:
    """The model that a run begins from, by the name of a policy here, or as a folder, a built-in name or a hub id: what
    `training.models.located` takes, on this machine and from any folder.

    Raises ValueError for a policy without a model of its own, whose model is gone or has changed, and for a folder that is
    not there.
    """
    known = {one.policy: one for one in workspace.policies.all()}
    if name not in known:
        reward_models.check_source(name)
        return str(Path(name).expanduser().absolute()) if Path(name).expanduser().is_dir() else name
    policy = known[name]
    if not policy.source:
        raise ValueError(f"{name!r} has no model of its own ({policy.kind}): expected a policy that was trained, or its start")
    source = str(reward_models.resolved(workspace, policy.source))
    reward_models.check_source(source)
    now = loading.fingerprint_of_all([source]) if policy.fingerprint else ""
    if now != policy.fingerprint:
        raise ValueError(
            f"the files of policy {name!r} have changed since it was registered ({policy.fingerprint}, now {now or 'gone'}): "
            "register them under another name"
        )
    return source


def policy_at(workspace: Workspace, source: str, *, name: str = "") -> Policy | None:
    """The policy here whose model lies at this place; where several share it the one of this name, or else the oldest. A
    workspace may have been moved."""
    parts = Path(source).parts
    runs_folder = "/".join(parts[-3:]) if parts[-3:-2] == ("runs",) else ""
    there = [one for one in workspace.policies.all() if one.source and one.source in (source, runs_folder)]
    return next((one for one in there if one.policy == name), there[0] if there else None)


# ---- what a run made


def take_in(workspace: Workspace, run: Run) -> None:
    """Store the policy a finished run made and what it answered, in one transaction; a second time does nothing.

    Raises ValueError where what it wrote cannot be read, a score is no number, the name has come to mean another policy, or
    what it began from or was scored by is not in.
    """
    if run.run_id in workspace.policies.taken_in():
        return
    summary = json.loads((run.output / SUMMARY).read_text(encoding="utf-8"))
    _check_scorers(workspace, summary["settings"]["scored_by"])
    base = _begun(workspace, str(summary["settings"]["base"]), _split(run).get("base", ""))
    source, fingerprint = _model(workspace, run, summary, base)
    policy = Policy(
        summary["policy"], summary["kind"], source, json.dumps(lineage_of(run, summary, base)), fingerprint,
        summary["licence"], run.run_id, "elephant", run.state().ended_at or workspace.clock(),
    )  # fmt: skip
    learned = Learned(
        _ids(run.input / PROMPTS, "prompt_id", "use"), _ids(run.input / PAIRS, "pair_id", "split"), base.policy if base else ""
    )
    if workspace.policies.add(policy, _answers(run, summary["policy"]), learned):
        workspace.scores.generation += 1


def _check_scorers(workspace: Workspace, scored_by: Sequence[Mapping[str, Any]]) -> None:
    """Raise ValueError where a name does not mean the reward model that scored: a name stands for its scores for ever."""
    known = {one.reward_model: one for one in workspace.scores.models()}
    for told in scored_by:
        model, trained = known.get(told["name"]), Path(told.get("run", "")).name
        if trained and (model is None or model.run_id != trained):
            raise ValueError(f"the reward model {told['name']!r} that run {trained} trained is not in: resume that run first")
        if model and not trained and model.fingerprint != told["fingerprint"]:
            raise ValueError(f"{told['name']!r} is another reward model here than the one that scored it")


def _begun(workspace: Workspace, source: str, name: str) -> Policy | None:
    """The policy it began from, under the name it was asked for by where it has several.

    Raises ValueError where a run here was to make one and that is not in: what that has learned from would be forgotten.
    """
    base = policy_at(workspace, source, name=name)
    if base is None and Path(source).parts[-3:-2] == ("runs",):
        run = Run(workspace.runs / Path(source).parts[-2])
        if (run.folder / "state.json").exists() and run.state().kind in KINDS:
            raise ValueError(f"the policy of run {run.run_id}, from which it began, is not in: resume that run first")
    return base


def _model(workspace: Workspace, run: Run, summary: Mapping[str, Any], base: Policy | None) -> tuple[str, str]:
    """Its source and fingerprint. One that was only generated from is its base under another name."""
    if summary["model"]:
        folder = run.folder / summary["model"]
        return f"runs/{run.run_id}/{summary['model']}", loading.fingerprint(loading.place_of(str(folder)))
    if summary["kind"] != "generate":
        return "", ""
    given = str(summary["settings"]["base"])
    source = base.source if base else str(reward_models.placed(workspace, given, {given}))
    return source, str(summary["base"]["fingerprint"])


def lineage_of(run: Run, summary: Mapping[str, Any], base: Policy | None) -> dict[str, Any]:
    """What made a policy: its run's own lineage, that of the policy it began from, where it stands in a grid (also where it
    stands in none), what its data came to, and how it fared."""
    told, split = dict(summary["lineage"]), _split(run)
    reward = told.get("reward_model") or {}
    place = {
        "alignment": "", "algorithm": summary["kind"], "reward_model": reward.get("name", ""), "recipe": "",
        "data": split.get("data", summary["data"]), "seed": summary["settings"]["seed"],
    }  # fmt: skip
    return {
        **told, "base": {**told["base"], "policy": base.policy if base else ""},
        "base_lineage": json.loads(base.lineage) if base else None, "cell": {**place, **told.get("cell", {})},
        "releases": split.get("releases", []), "prompts": split, "versions": summary["versions"],
        "scored_by": [{name: one[name] for name in ("name", "fingerprint")} for one in summary["settings"]["scored_by"]],
        **{name: summary[name] for name in ("points", "steps", "seconds", "generated", "trained", "notes")},
    }  # fmt: skip


def _split(run: Run) -> dict[str, Any]:
    file = run.input / SPLIT
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


def _ids(file: Path, key: str, part: str) -> list[str]:
    """The ids in a table of a run's input of what it learned from; none where it was handed no such table."""
    if not file.is_file():
        return []
    ids, parts = (pq.read_table(file, columns=[name]).column(0).to_pylist() for name in (key, part))
    return [one for one, where in zip(ids, parts, strict=True) if where == TRAIN]


def _answers(run: Run, policy: str) -> Answers:
    """The run's prompts, responses and scores as the store takes them."""
    file = run.output / RESPONSES
    try:
        table = pq.read_table(file)
        prompt_ids, texts = table.column("prompt_id").to_pylist(), table.column("text").to_pylist()
        pickers = table.column("reward_model").to_pylist() if "reward_model" in table.column_names else [""] * len(table)
        responses = pa.table(
            {
                "generator": pa.array([f"{policy}/{one}" if one else policy for one in pickers], pa.string()),
                **{name: table.column(name) for name in ("point", "sample", "tokens", "stopped", "log_ratio")},
                "prompt_id": pa.array(prompt_ids, pa.string()), "text": pa.array(texts, pa.string()),
                "response_id": pa.array(
                    [response_id_of(asked, Response(text)) for asked, text in zip(prompt_ids, texts, strict=True)], pa.string()
                ),
                "lead": pa.array([RESPONSE_LEAD] * len(table), pa.string()),
            }
        )  # fmt: skip
    except (OSError, KeyError, pa.ArrowException) as error:
        raise ValueError(f"{str(file)!r} cannot be read: {' '.join(str(error).split())}") from None
    _check_finite(table.column("log_ratio"), "log ratios")
    return Answers(_prompts(run.input / PROMPTS), responses, _scores(table, responses.column("response_id")))


def _prompts(file: Path) -> pa.Table:
    """The prompts that name themselves; one of unusual marks is in the workspace, and its text here is not all of it."""
    found = {}
    if file.is_file():
        table = pq.read_table(file, columns=["prompt_id", "prompt"])
        for prompt_id, text in zip(*(column.to_pylist() for column in table.columns), strict=True):
            turns = [turn(role, content) for role, content in json.loads(text)]
            if prompt_id_of(turns) == prompt_id:
                found[prompt_id] = packed(turns)
    ids, turns_of = list(found), list(found.values())
    return pa.table({"prompt_id": pa.array(ids, pa.string()), "turns": pa.array(turns_of, pa.string())})


def _scores(table: pa.Table, response_ids: pa.ChunkedArray) -> pa.Table:
    """Every score/NAME column, one below the other. Raises ValueError where one is no number; missing is not scored."""
    schema = pa.schema(
        [("reward_model", pa.string()), ("response_id", pa.string()), ("score", pa.float64()), ("truncated", pa.bool_())]
    )
    parts = [schema.empty_table()]
    for column in table.column_names:
        if not column.startswith(SCORE):
            continue
        name, scores = column.removeprefix(SCORE), table.column(column).cast(pa.float64())
        _check_finite(scores, f"scores of {name!r}")
        cut = table.column(CUT + name) if CUT + name in table.column_names else pa.array([False] * len(table), pa.bool_())
        columns = [pa.array([name] * len(table), pa.string()), response_ids, scores, cut]
        parts.append(pa.table(columns, schema=schema).filter(scores.is_valid()))
    return pa.concat_tables(parts)


def _check_finite(column: pa.ChunkedArray, what: str) -> None:
    """Raise ValueError where a number that is given is none."""
    broken = np.count_nonzero(~np.isfinite(column.drop_null().to_numpy()))
    if broken:
        raise ValueError(f"{broken:,} {what} are no numbers")


# ---- what policies answered, for others


def answered(workspace: Workspace, names: Sequence[str], *, point: int | None = None) -> list[Written]:
    """What generators answered at this point, or each at its last, by generator, prompt and sample.

    Raises ValueError for a name without responses, or without any at this point.
    """
    found: list[Written] = []
    for generator in workspace.policies.named(names):
        at = generator.points[-1] if point is None else point
        if at not in generator.points:
            known = ", ".join(map(str, generator.points))
            raise ValueError(f"no responses of {generator.generator!r} at {at}: there are some at {known}")
        found += workspace.policies.written(generator.generator, at)
    return found


def outputs(workspace: Workspace, names: Sequence[str], *, point: int | None = None) -> list[Output]:
    """The same as items of a study are made of it: the first sample of each prompt."""
    first: dict[tuple[str, str], Written] = {}
    for one in answered(workspace, names, point=point):
        first.setdefault((one.generator, one.prompt_id), one)
    return [Output(unpacked(one.turns), one.text, one.generator, "", "") for one in first.values()]
