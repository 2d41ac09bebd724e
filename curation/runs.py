"""Runs of a workspace: exports what a run reads, starts it, finds it again, and takes in what it wrote, once."""

import json
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from pydantic import BaseModel

from curation import ablation, alignment, exchange, policies, policy_training, reward_training, scoring, screening
from curation.alignment_settings import Alignment
from curation.filters.contested import SCORES
from curation.filters.registry import FILTERS, configured
from curation.release_policy import Policy
from curation.store.flags import Screening
from curation.workspace import Workspace
from training import curves as metrics
from training import engine
from training.embeddings import PACKAGED
from training.run import Progress, Run, State
from training.settings import validated

_UNUSABLE = "its output could not be taken in"


class RunView(NamedTuple):
    """A run as a list shows it. `taken_in` is when its output is in the database."""

    run: Run
    state: State
    progress: Progress
    taken_in: bool


class Kind(NamedTuple):
    """A kind of run that `elephant run` starts: what it is asked for, the module that does it, and what goes in and out.

    `hand_over` writes the run's input into a folder and returns the run's settings; `title` names it in a list.
    """

    wanted: type[BaseModel]
    module: str
    hand_over: Callable[[Workspace, Any, Path], BaseModel]
    title: Callable[[Any], str]
    take_in: Callable[[Workspace, Run], None] | None  # None where nothing comes out but what its own jobs bring


KINDS = {
    "score": Kind(
        scoring.Wanted, "training.score", scoring.hand_over,
        lambda told: f"{told.of['in words']} by {told.reward_model}", scoring.take_in,
    ),
    "reward": Kind(
        reward_training.Wanted, "training.reward", reward_training.hand_over,
        lambda told: f"{told.model}, from {told.base}", reward_training.take_in,
    ),
    **{
        name: Kind(
            kind.asked, f"training.{name.replace('-', '_')}", partial(policy_training.hand_over, name), policy_training.title,
            policies.take_in,
        )
        for name, kind in policy_training.KINDS.items()
    },
    alignment.KIND: Kind(
        Alignment, "training.grid", alignment.hand_over, lambda told: f"{told.name}, {len(told.jobs)} jobs", None
    ),
}  # fmt: skip


def start_run(workspace: Workspace, kind: str, settings: Mapping[str, Any]) -> Run:
    """Start a run of this kind in the background. Raises ValueError that names the first setting that is wrong."""
    if kind not in KINDS:
        raise ValueError(f"no kind of run {kind!r}: expected one of {', '.join(KINDS)}")
    made = KINDS[kind]
    wanted = validated(made.wanted, settings)
    with workspace.held.setdefault("starting a run", Lock()):  # a name that was free stays so until the run bears it
        run = _prepared(workspace, kind, made, wanted)
    engine.start(run)
    return run


def _prepared(workspace: Workspace, kind: str, made: Kind, wanted: BaseModel) -> Run:
    folder = _free_folder(workspace, kind)
    try:
        (folder / "input").mkdir()
        config = made.hand_over(workspace, wanted, folder / "input")
        return Run.create(folder, kind=kind, module=made.module, title=made.title(config), config=config)
    except BaseException:
        shutil.rmtree(folder)
        alignment.drop_jobs(folder)
        raise


def settings_of(kind: str) -> list[dict[str, Any]]:
    """The settings of a kind of run: setting, default, means. Raises ValueError for another kind."""
    if kind not in KINDS:
        raise ValueError(f"no kind of run {kind!r}: expected one of {', '.join(KINDS)}")
    return [
        {"setting": name, "default": "" if one.is_required() else one.default, "means": one.description or ""}
        for name, one in KINDS[kind].wanted.model_fields.items()
    ]


def start_screening(workspace: Workspace, dataset: str, filters: Mapping[str, Mapping[str, Any]] | None = None) -> Run:
    """Screen a dataset in the background with these filters and parameters; without any, all of them as they come.

    Raises ValueError for an unknown dataset, filter or parameter.
    """
    workspace.pairs.dataset(dataset)
    wanted = {name: {} for name in FILTERS} if filters is None else filters
    if not wanted:
        raise ValueError(f"no filter chosen: expected one or more of {', '.join(FILTERS)}")
    settled = {name: configured(name, parameters).model_dump(mode="json") for name, parameters in wanted.items()}
    config = screening.Screening(dataset=dataset, filters=settled)
    title = f"{dataset}: {', '.join(settled)}"
    run = Run.create(_free_folder(workspace, "screen"), kind="screen", module="curation.screening", title=title, config=config)
    try:
        given = settled.get("contested", {}).get("scores")
        if given and given.startswith(exchange.REGISTERED):
            exchange.hand_over_registered(workspace, dataset, given, run.input / SCORES)
        elif given:
            exchange.hand_over_scores(workspace, dataset, Path(given), run.input / SCORES)
        workspace.pairs.export(dataset, run.input / screening.PAIRS)
    except BaseException:
        shutil.rmtree(run.folder)
        raise
    engine.start(run)
    return run


def start_ablation(workspace: Workspace, dataset: str, policy: Policy | None = None) -> Run:
    """Compare release policies over a dataset in the background, from one that keeps everything to `policy` with all
    filters dropping what nobody reviewed. Raises ValueError for a dataset that is unknown or not screened."""
    workspace.pairs.dataset(dataset)
    screened = {one.filter: one for one in workspace.flags.current(dataset)}
    filters = tuple(name for name in FILTERS if name in screened)
    if not filters:
        raise ValueError(f"{dataset!r} is not screened yet: there is nothing to compare")
    models = {name: json.loads(one.parameters).get("model") for name, one in screened.items()}
    config = ablation.Ablation(
        dataset=dataset, filters=filters, policy=policy or Policy(), toxicity=models.get("toxic") or "auto",
        embeddings=next((models[name] for name in ("vague", "indistinct", "contested") if models.get(name)), PACKAGED),
    )  # fmt: skip
    title = f"{dataset}: {len(filters)} filters"
    run = Run.create(
        _free_folder(workspace, "ablation"), kind="ablation", module="curation.ablation", title=title, config=config
    )
    try:
        ablation.hand_over(workspace, dataset, run)
    except BaseException:
        shutil.rmtree(run.folder)
        raise
    engine.start(run)
    return run


def all_runs(workspace: Workspace) -> list[RunView]:
    """Every run, the latest first, each with its true state: a run whose process died is found here."""
    folders = sorted(workspace.runs.glob("*/state.json"), reverse=True) if workspace.runs.exists() else []
    screened = workspace.flags.taken_in()
    others = workspace.scores.taken_in() | workspace.policies.taken_in()
    views = []
    for file in folders:
        run = Run(file.parent)
        whole = set(screening.summary(run)) <= screened[run.run_id] if run.run_id in screened else run.run_id in others
        views.append(RunView(run, engine.watch(run), run.progress(), whole))
    return views


def find_in(folder: Path, run_id: str) -> Run:
    """The run of this id in a folder of runs: it is watched and stopped without the database, which an app may hold.

    Raises ValueError when there is none.
    """
    known = sorted(file.parent.name for file in folder.glob("*/state.json"))
    if run_id not in known:
        raise ValueError(f"no run {run_id!r}: there is {', '.join(known[-5:]) or 'none yet'}")
    return Run(folder / run_id)


def settle(workspace: Workspace) -> list[str]:
    """Take in the output of every finished run that is not in yet, and of a failed one what its finished filters
    found; returns the runs' ids."""
    taken = []
    with workspace.settling:  # every session does this: one of them takes a run in
        fresh = [view.run for view in all_runs(workspace) if not view.taken_in and _has_output(view)]
        for run in sorted(fresh, key=lambda one: str(one.state().ended_at)):
            try:
                take_in(workspace, run)
                taken.append(run.run_id)
            except (ValueError, OSError, KeyError) as error:
                engine.fail(run, f"{_UNUSABLE}: {' '.join(str(error).split())}")
    return taken


def _has_output(view: RunView) -> bool:
    """Whether there is something for the database: an ablation's stays in its run folder, a grid's in its jobs'."""
    if view.state.kind in KINDS:
        return KINDS[view.state.kind].take_in is not None and view.state.status == "done"
    if view.state.kind != "screen":
        return False
    if view.state.status == "failed" and (view.state.error or "").startswith(_UNUSABLE):
        return False  # it was tried: resuming the run tries again
    return view.state.status == "done" or (view.state.status == "failed" and bool(screening.summary(view.run)))


def take_in(workspace: Workspace, run: Run) -> None:
    """Store what a finished run made, in one transaction; a second time does nothing."""
    made = KINDS.get(run.state().kind)
    if made is None:
        _take_in_screening(workspace, run)
    elif made.take_in is not None:
        made.take_in(workspace, run)


def _take_in_screening(workspace: Workspace, run: Run) -> None:
    config = screening.Screening.model_validate(run.config())
    ended = run.state().ended_at or datetime.now(UTC)
    screenings = []
    for name, counts in screening.summary(run).items():
        filter = configured(name, config.filters[name])
        screenings.append(
            Screening(
                run.run_id, config.dataset, name, counts["version"], filter.model_dump_json(), counts["screened"],
                counts["flagged"], ended, filter.threshold, counts.get("read_by", ""),
            )
        )  # fmt: skip
    workspace.flags.add(screenings, run.output / screening.FLAGS)


def remaining(view: RunView) -> float | None:
    """Seconds a running job still needs, as it says itself or at its present rate; None when that cannot be told."""
    progress = view.progress
    if view.state.status == "running" and progress.left is not None:
        return progress.left
    if view.state.status != "running" or not progress.rate or progress.total <= progress.done:
        return None
    return (progress.total - progress.done) / progress.rate


class Curves(NamedTuple):
    """The curves of a training run: the steps, and by what is measured the lines by name, None where a step did not measure."""

    steps: list[Any]
    lines: dict[str, dict[str, list[Any]]]


_DRAWN = {
    "loss": ("loss", "held_out_loss", "policy_loss", "value_loss"), "accuracy": ("accuracy", "held_out_accuracy"),
    "reward": ("reward", "held_out_reward"), "KL from the start, nats": ("kl", "held_out_kl"), "entropy, nats": ("entropy",),
    "share clipped": ("clip_fraction",), "explained variance": ("explained_variance",),
    "tokens": ("length", "held_out_length"), "share that stopped": ("stopped", "held_out_stopped"),
}  # fmt: skip


def curves(run: Run) -> Curves | None:
    """What a run has measured so far; None where it measures nothing step by step."""
    columns = metrics.columns(run.folder)
    lines = {
        value: {name.replace("_", "-"): columns[name] for name in names if name in columns} for value, names in _DRAWN.items()
    }
    lines = {value: some for value, some in lines.items() if some}
    return Curves(columns["step"], lines) if lines else None


def _free_folder(workspace: Workspace, kind: str) -> Path:
    """A folder named by kind and time, so that runs sort as they came."""
    stem = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{kind}"
    for number in range(1, 1000):
        folder = workspace.runs / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
    raise RuntimeError(f"no free name for a run in {workspace.runs}")
