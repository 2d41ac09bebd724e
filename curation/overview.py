"""What a workspace holds, how far each dataset has come, and the step to take next."""

from pathlib import Path
from typing import NamedTuple

from curation import runs
from curation.importing import import_source
from curation.sources import source_of
from curation.workspace import Workspace


class Step(NamedTuple):
    """A dataset's way so far: `funnel` holds stages with distinct pairs, `next_page` the page of the next step."""

    dataset: str
    funnel: list[tuple[str, int]]
    words: str
    next_words: str
    next_label: str
    next_page: str


def of(workspace: Workspace) -> list[Step]:
    """One step a dataset, the latest dataset first."""
    return [_step(workspace, one.dataset) for one in reversed(workspace.pairs.datasets())]


def open_sample(workspace: Workspace, file: Path) -> None:
    """Import the project's own sample and start its screening."""
    import_source(workspace, source_of(str(file)), "sample")
    runs.start_screening(workspace, "sample")


def back_up(workspace: Workspace) -> Path:
    """Copy the database into the workspace's folder of backups; returns the file."""
    file = workspace.folder / "backups" / f"{workspace.clock():%Y%m%d-%H%M%S}.duckdb"
    workspace.database.backup(file)
    return file


def _step(workspace: Workspace, dataset: str) -> Step:
    described = workspace.pairs.dataset(dataset)
    progress = workspace.verdicts.progress(dataset)
    releases = workspace.releases.all(dataset)
    screened = bool(workspace.flags.current(dataset))
    stages = [("imported", progress.pairs)]
    if screened:
        stages.append(("flagged", progress.flagged))
    stages.append(("flagged and reviewed", progress.reviewed_flagged))
    if releases:
        stages.append((f"released ({releases[-1].name})", workspace.releases.pairs_in(releases[-1])))
    words = f"{described.imported:,} rows, {described.rejected:,} rejected, pairs reviewed in all: {progress.reviewed:,}."
    disputed = len(workspace.verdicts.disputed(dataset))
    return Step(dataset, stages, words, *_next(workspace, dataset, screened, disputed))


def _next(workspace: Workspace, dataset: str, screened: bool, disputed: int) -> tuple[str, str, str]:
    progress = workspace.verdicts.progress(dataset)
    if not screened:
        if any(view.state.status == "running" for view in runs.all_runs(workspace)):
            return "filters are looking at it right now.", "Watch the run", "runs"
        return "let the filters look for noise.", "Screen it", "filters"
    left = progress.flagged - progress.reviewed_flagged
    if left:
        return f"judge the {left:,} flagged pairs nobody has reviewed.", "Review", "review"
    if disputed:
        return f"settle {disputed:,} disagreements.", "Adjudicate", "adjudicate"
    return "freeze a cleaned release.", "Release", "datasets"
