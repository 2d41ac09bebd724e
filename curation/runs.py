"""Runs of a workspace: exports what a run reads, starts it, finds it again, and takes in what it wrote, once."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from curation import screening
from curation.filters.registry import FILTERS, configured
from curation.store.flags import Screening
from curation.workspace import Workspace
from training import engine
from training.run import Progress, Run, State


class RunView(NamedTuple):
    """A run as a list shows it. `taken_in` is when its output is in the database."""

    run: Run
    state: State
    progress: Progress
    taken_in: bool


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
    workspace.pairs.export(dataset, run.input / screening.PAIRS)
    engine.start(run)
    return run


def all_runs(workspace: Workspace) -> list[RunView]:
    """Every run, the latest first, each with its true state: a run whose process died is found here."""
    folders = sorted(workspace.runs.glob("*/state.json"), reverse=True) if workspace.runs.exists() else []
    taken_in = workspace.flags.taken_in()
    views = []
    for file in folders:
        run = Run(file.parent)
        views.append(RunView(run, engine.watch(run), run.progress(), run.run_id in taken_in))
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
    """Take in the output of every finished run that is not in yet; returns their ids."""
    fresh = [view.run for view in all_runs(workspace) if view.state.status == "done" and not view.taken_in]
    taken = []
    for run in sorted(fresh, key=lambda one: str(one.state().ended_at)):
        try:
            take_in(workspace, run)
            taken.append(run.run_id)
        except (ValueError, OSError, KeyError) as error:
            engine.fail(run, f"its output could not be taken in: {' '.join(str(error).split())}")
    return taken


def take_in(workspace: Workspace, run: Run) -> None:
    """Store what a finished screening found, in one transaction; a second time does nothing."""
    config = screening.Screening.model_validate(run.config())
    ended = run.state().ended_at or datetime.now(UTC)
    screenings = []
    for name, counts in screening.summary(run).items():
        parameters = configured(name, config.filters[name]).model_dump_json()
        numbers = (counts["screened"], counts["flagged"])
        screenings.append(Screening(run.run_id, config.dataset, name, counts["version"], parameters, *numbers, ended))
    workspace.flags.add(screenings, run.output / screening.FLAGS)


def remaining(view: RunView) -> float | None:
    """Seconds a running job still needs at its present rate; None when that cannot be told."""
    progress = view.progress
    if view.state.status != "running" or not progress.rate or progress.total <= progress.done:
        return None
    return (progress.total - progress.done) / progress.rate


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
