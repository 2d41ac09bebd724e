"""Grids of alignment: planned with what they will take, and their jobs handed over, each an ordinary run of its kind.

All jobs look at the same held-out prompts, which no job of the grid, and nothing it begins from, has learned from: so whatever
comes out of them is paired by prompt.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from curation import alignment_times, held_out, policies, policy_training, reward_models, reward_training
from curation.alignment_plan import Job, jobs_of
from curation.alignment_settings import TRAINED, Alignment, listed
from curation.workspace import Workspace
from training import engine
from training.grid import Grid
from training.grid import Job as Queued
from training.policy_data import Prompt, Prompts, prompts, write_prompts
from training.policy_settings import Named
from training.reasons import is_full_disk
from training.reward_settings import HEAD
from training.rewards.base import Message
from training.run import Run, write_json
from training.settings import validated

KIND = "alignment"
PLAN = "plan.json"  # in the grid's input: what it was asked for, its jobs, and what was to be known of them


class Planned(NamedTuple):
    """A job with what it will take; seconds and bytes are None where a model is not on this machine yet."""

    job: Job
    seconds: float | None
    bytes: int | None


class Plan(NamedTuple):
    """What a grid comes to: its jobs in the order they are run, what it takes in all, and what is to be known of it."""

    jobs: tuple[Planned, ...]
    seconds: float | None  # of the clock, with as many jobs at once as there are GPUs
    held_out: tuple[held_out.Asked, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def plan(workspace: Workspace, settings: Mapping[str, Any] | Alignment) -> Plan:
    """What this grid comes to; nothing is started. Raises ValueError for what is not there, does not fit or has a name that is
    taken already."""
    told = settings if isinstance(settings, Alignment) else validated(Alignment, settings)
    everything = held_out.behind(workspace, ",".join(listed(told.data.replace("+", ","))))
    found = jobs_of(told, everything)
    _check(workspace, told, found.jobs)
    split = held_out.chosen_prompts(
        workspace, ",".join(listed(told.data.replace("+", ","))), held_out=told.held_out, split_seed=told.split_seed, count=1,
        looked_at=told.looked_at, seen=_seen(workspace, told), prompts_from=everything,
    )  # fmt: skip
    times = alignment_times.of(workspace, told, found.jobs, split)
    planned = tuple(
        Planned(job, one and one.seconds, one and one.bytes) for job, one in zip(found.jobs, times.jobs, strict=True)
    )
    left_out = [f"left out, {why}: {many:,} prompts" for why, many in split.left_out.items()]
    looked_at = f"{len(split.held_out):,} of {split.all_held_out:,} held-out prompts are looked at, the same ones in every job"
    return Plan(
        planned, times.seconds, tuple(split.held_out), (*found.notes, looked_at, *left_out, *times.notes),
        (*times.warnings, *_busy(workspace)),
    )  # fmt: skip


def _busy(workspace: Workspace) -> list[str]:
    """What to know where other runs have this machine now. Only grids wait for each other, and that on GPUs alone."""
    others = [Run(file.parent) for file in workspace.runs.glob("*/state.json")]
    going = sum(engine.watch(one).status == "running" and one.state().kind != KIND for one in others)
    words = (
        f"other runs that have this machine now: {going:,}; until they end, the grid's jobs share time and memory with them, "
        "or wait where they are another grid's, on a GPU"
    )
    return [words] if going else []


def start(workspace: Workspace, settings: Mapping[str, Any]) -> Run:
    """Start a grid in the background. Raises ValueError as `plan` does."""
    from curation import runs  # which knows every kind of run, this one among them

    return runs.start_run(workspace, KIND, settings)


def hand_over(workspace: Workspace, told: Alignment, folder: Path) -> Grid:
    """Write the plan into the grid's input folder, and every job into a run folder beside the grid's, named after it.

    Raises ValueError as `plan` does, and OSError for a full disk; then no job is left.
    """
    made = plan(workspace, told)
    grid = folder.parent
    homes = {one.job.name: jobs_home(grid, number, one.job.kind) for number, one in enumerate(made.jobs, start=1)}
    try:
        for one in made.jobs:
            _fill(workspace, one.job, homes, list(made.held_out), grid.name)
        write_json(folder / PLAN, _record(told, made, homes))
    except BaseException as error:
        drop_jobs(grid)
        if isinstance(error, Exception) and is_full_disk(error):
            free = shutil.disk_usage(grid.parent).free / 1e9
            raise OSError(f"the disk with {grid.parent} is full ({free:.1f} GB free): make room and plan it again") from error
        raise
    jobs = [
        Queued(
            run=homes[one.job.name].name, after=tuple(homes[name].name for name in one.job.after), seconds=one.seconds or 0.0
        )
        for one in made.jobs
    ]
    return Grid(name=told.name, jobs=tuple(jobs), at_once=told.at_once)


def jobs_home(grid: Path, number: int, kind: str) -> Path:
    """The run folder of a grid's job: beside the grid's own, in the order the jobs are run."""
    return grid.with_name(f"{grid.name}.{number:03d}-{kind}")


def drop_jobs(grid: Path) -> None:
    """Remove the run folders of a grid that was not planned to its end."""
    for home in grid.parent.glob(f"{grid.name}.*"):
        shutil.rmtree(home, ignore_errors=True)


# ---- what it rests on


def _check(workspace: Workspace, told: Alignment, jobs: tuple[Job, ...]) -> None:
    """Raise ValueError for models that are not there or cannot be used so, and for names."""
    start = policies.source_of(workspace, told.base)
    if any(job.kind != "reward" and job.kind != "best-of-n" for job in jobs):
        policy_training.check_fits(start, told.max_prompt, told.max_tokens)
    optimised, gold = listed(told.reward_models), listed(told.gold)
    known = {name: policy_training.named(workspace, name) for name in (*optimised, *gold) if not name.startswith(TRAINED)}
    for judge in gold:
        same = next((one for one in optimised if one in known and _overlap(known[one], known[judge])), None)
        if same:
            raise ValueError(f"{judge} is gold, but has the weights of {same}, which is optimised: expected another gold")
    for recipe in (one for one in optimised if one.startswith(TRAINED)):
        if recipe != f"{TRAINED}{HEAD}":
            reward_models.check_source(recipe.removeprefix(TRAINED))
    for job in jobs:
        (reward_models.check_name if job.kind == "reward" else policies.check_name)(workspace, job.name)


def _overlap(one: Named, other: Named) -> bool:
    """Whether two reward models are the same under two names, or one is a member of the other, or both have one in common."""
    if one.fingerprint and one.fingerprint == other.fingerprint:
        return True
    mine, theirs = ({"family": each.family, **each.settings} for each in (one, other))
    shared = any(member in (theirs.get("members") or ()) for member in mine.get("members") or ())
    return mine == theirs or shared or _is_member(mine, theirs) or _is_member(theirs, mine)


def _is_member(one: Mapping[str, Any], ensemble: Mapping[str, Any]) -> bool:
    """Members are told by what is not by default in them."""
    return any(one == {**one, **member} for member in ensemble.get("members") or ())


def _seen(workspace: Workspace, told: Alignment) -> set[str]:
    """The prompts that what the grid begins from, or a reward model that is there already, has learned from here."""
    source = policies.source_of(workspace, told.base)
    known = {one.policy: one for one in workspace.policies.all()}
    begun = known.get(told.base) or policies.policy_at(workspace, source)
    seen = workspace.policies.learned(begun.policy) if begun else set()
    models = [one for one in (*listed(told.reward_models), *listed(told.gold)) if not one.startswith(TRAINED)]
    return seen.union(*(workspace.scores.trained_on(one) for one in models))


# ---- jobs


def _fill(workspace: Workspace, job: Job, homes: Mapping[str, Path], looked_at: list[held_out.Asked], grid: str) -> None:
    """A job's run folder, queued until the grid starts it."""
    home = homes[job.name]
    (home / "input").mkdir(parents=True)
    config: BaseModel
    if isinstance(job.asked, reward_training.Joined):
        members = [_named(workspace, one, homes) for one in job.scored_by]
        config = reward_training.hand_over_joined(workspace, job.asked, members, home / "input")
        title = f"{job.name}, the {job.asked.how} of {len(members)} reward models"
    elif job.kind == "reward":
        config = reward_training.hand_over(workspace, job.asked, home / "input")  # type: ignore[arg-type]
        title = f"{job.name}, from {config.base}"
    else:
        config = policy_training.hand_over(
            job.kind, workspace, job.asked, home / "input", cell=job.cell,  # type: ignore[arg-type]
            reward=_named(workspace, job.reward, homes) if job.reward else None,
            scored_by=[_named(workspace, one, homes) for one in job.scored_by],
        )  # fmt: skip
        if job.start:
            config = config.model_copy(update={"base": str((homes[job.start] / "model").absolute())})
        title = policy_training.title(config)
        _look_at(home / "input", looked_at)
    module = f"training.{job.kind.replace('-', '_')}"
    run = Run.create(home, kind=job.kind, module=module, title=title, config=config)
    run.write_state(run.state().model_copy(update={"waits": grid}))


def _named(workspace: Workspace, name: str, homes: Mapping[str, Path]) -> Named:
    """A reward model of the registry, or one that a job of the grid trains first."""
    return Named(name=name, run=str(homes[name].absolute())) if name in homes else policy_training.named(workspace, name)


def _look_at(folder: Path, looked_at: list[held_out.Asked]) -> None:
    """Give a job the held-out prompts of the grid in place of its own."""
    asked = [Prompt(one, tuple(Message(each.role or "system", each.content) for each in turns)) for one, turns in looked_at]
    write_prompts(folder, Prompts(prompts(folder).train, asked))
    split = folder / policies.SPLIT
    write_json(split, {**json.loads(split.read_text(encoding="utf-8")), "held out": len(asked)})


def _record(told: Alignment, made: Plan, homes: Mapping[str, Path]) -> dict[str, Any]:
    return {
        "settings": told.model_dump(mode="json"), "notes": made.notes, "warnings": made.warnings, "seconds": made.seconds,
        "jobs": [
            {
                "run": homes[one.job.name].name, "name": one.job.name, "kind": one.job.kind, "cell": one.job.cell,
                "after": one.job.after, "seconds": one.seconds, "bytes": one.bytes,
            }
            for one in made.jobs
        ],
    }  # fmt: skip
