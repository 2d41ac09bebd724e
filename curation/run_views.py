"""Runs as the page shows them: the jobs of a grid within the grid, and what a policy answers while it learns."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from curation.runs import RunView
from training.run import Run

SAMPLES = "samples.jsonl"  # in a policy run's output: {"step", "prompt", "response", "reward"}, a line an answer
_TAIL = 200_000  # bytes read from its end: of a long run only the last answers are shown


class Group(NamedTuple):
    """A run, and the jobs it queues where it is a grid, in the order in which they wait."""

    view: RunView
    jobs: tuple[RunView, ...]


def grouped(views: Sequence[RunView]) -> list[Group]:
    """Runs in their order, the jobs of a grid taken out and put under it; a job whose grid is gone stands by itself."""
    grids = {view.run.run_id for view in views}
    jobs: dict[str, list[RunView]] = {}
    for view in views:
        if view.state.waits in grids:
            jobs.setdefault(view.state.waits, []).append(view)
    inside = {view.run.run_id for some in jobs.values() for view in some}
    return [
        Group(view, tuple(sorted(jobs.get(view.run.run_id, ()), key=lambda one: one.run.run_id)))
        for view in views
        if view.run.run_id not in inside
    ]


def counted(jobs: Sequence[RunView]) -> str:
    """How many of a grid's jobs are how far: "3 done, 1 running, 8 queued"."""
    order = ("done", "running", "queued", "failed", "cancelled")
    counts = {status: sum(one.state.status == status for one in jobs) for status in order}
    return ", ".join(f"{count:,} {status}" for status, count in counts.items() if count)


class Sample(NamedTuple):
    """What a policy answered at a step of its training. `reward` is None where none was given yet."""

    step: int
    prompt: str
    response: str
    reward: float | None


def samples(run: Run, *, limit: int = 4) -> list[Sample]:
    """The last answers a run wrote down, the newest step first; none where it writes none."""
    file = run.output / SAMPLES
    if not file.is_file():
        return []
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - _TAIL))
        lines = opened.read().decode("utf-8", "replace").splitlines()
    found = [one for one in map(_sample, lines) if one is not None]
    return sorted(found, key=lambda one: -one.step)[:limit]


def _sample(line: str) -> Sample | None:
    """A whole line; None for the half of one, at the cut or while it is being written."""
    try:
        row = json.loads(line)
        reward = row.get("reward")
        return Sample(int(row["step"]), _words(row["prompt"]), str(row["response"]), None if reward is None else float(reward))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _words(prompt: object) -> str:
    """A prompt as text: it may be written as its turns, [[role, content], ...]."""
    if isinstance(prompt, list):
        return "\n".join(f"{one[0]}: {one[1]}" for one in prompt if isinstance(one, list) and len(one) > 1)
    return str(prompt)
