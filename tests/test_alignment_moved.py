"""A workspace that is moved in the middle of a grid: what its jobs say of each other is found again."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curation import alignment, reward_models, runs
from curation.store.scores import RewardModel
from curation.workspace import Workspace
from tests.conftest import Clock, done_here, import_rows
from tests.test_alignment import QUICK, rows
from training import beside, engine, loading
from training.policy_data import RESPONSES
from training.policy_settings import Named, PolicySettings
from training.run import Run

TOLD = {
    "data": "small", "reward_models": "length,train:minilm-bt", "ensembles": "worst", "algorithms": "best-of-n", "sft": True,
    **QUICK,
}  # fmt: skip


def a_run(runs_folder: Path, name: str, **told: object) -> Run:
    config = PolicySettings.model_validate({"policy": name, **told})
    return Run.create(runs_folder / name, kind="sft", module="training.sft", title=name, config=config)


def test_what_a_run_says_of_another_is_written_from_their_folder_on_and_read_in_full(tmp_path: Path):
    runs_folder, elsewhere = tmp_path / "runs", str(tmp_path / "elsewhere")
    first = a_run(runs_folder, "1-sft", base=elsewhere)
    members = [{"family": "classifier", "source": str(first.folder / "model")}, {"family": "length"}]
    scored_by = [Named(name="one", run=str(first.folder)), Named(name="two", family="ensemble", settings={"members": members})]
    second = a_run(runs_folder, "2-sft", base=str(first.folder / "model"), data="runs/9-sft", scored_by=scored_by)
    assert str(tmp_path) not in (second.folder / "config.json").read_text()
    moved = Path(shutil.move(runs_folder, tmp_path / "moved"))
    told = Run(moved / "2-sft").config()
    assert told["base"] == str(moved / "1-sft" / "model")
    assert told["scored_by"][0]["run"] == str(moved / "1-sft")
    assert told["scored_by"][1]["settings"]["members"][0]["source"] == told["base"]
    assert told["data"] == "runs/9-sft"  # no run is called so
    assert Run(moved / "1-sft").config()["base"] == elsewhere


@pytest.mark.parametrize("value", ["runs/", "runs/..", "runs/../secret", "/runs/1-sft", "runs", "1-sft", "", 3, None])
def test_what_is_no_path_into_a_run_stays_as_it_is(tmp_path: Path, value: object):
    a_run(tmp_path, "1-sft")
    assert beside.placed(value, tmp_path) == beside.resolved(value, tmp_path) == value


Move = Callable[[dict[str, Any]], tuple[Workspace, list[str]]]


@pytest.fixture
def moved_after_one_job(
    workspace: Workspace, tiny: Path, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Move]:
    """Plans a grid, stops it after its first job, moves the workspace and resumes the grid there: the workspace, and the ids
    of the jobs."""
    found: list[Workspace] = []

    def start_first(run: Run, env: Mapping[str, str] | None = None) -> None:
        stop = workspace.runs / run.state().waits / "cancel"
        if not stop.exists():
            done_here(run, env)
            if run.state().waits:
                stop.touch()

    def move(told: dict[str, Any]) -> tuple[Workspace, list[str]]:
        import_rows(workspace, rows())
        monkeypatch.setattr(engine, "start", start_first)
        grid = alignment.start(workspace, {"name": "g", "base": str(tiny), **told})
        jobs = [one["run"] for one in grid.config()["jobs"]]
        assert [Run(workspace.runs / one).state().status for one in jobs] == ["done", *["cancelled"] * (len(jobs) - 1)]
        workspace.close()
        found.append(Workspace(Path(shutil.move(workspace.folder, tmp_path / "moved")), clock=clock))
        monkeypatch.setattr(engine, "start", done_here)
        engine.resume(Run(found[0].runs / grid.run_id))
        return found[0], jobs

    yield move
    for one in found:
        one.close()


def test_a_grid_moved_after_its_first_job_goes_on(moved_after_one_job: Move):
    workspace, jobs = moved_after_one_job({**TOLD, "sft": False})
    assert [Run(workspace.runs / one).state().error for one in jobs] == [None] * 3
    assert runs.settle(workspace) == jobs
    told = json.loads(workspace.scores.model("g-ensemble-worst-small").settings)
    assert told["members"][1]["source"] == f"runs/{jobs[0]}/model"


@pytest.mark.slow
def test_a_grid_moved_after_its_first_job_ends_as_an_undisturbed_one(moved_after_one_job: Move, tiny: Path):
    workspace, jobs = moved_after_one_job(TOLD)
    assert [Run(workspace.runs / one).state().error for one in jobs] == [None] * 4
    assert set(runs.settle(workspace)) == set(jobs)
    other = alignment.start(workspace, {"name": "h", "base": str(tiny), **TOLD})
    runs.settle(workspace)
    _check_alike(workspace, jobs, [one["run"] for one in other.config()["jobs"]])


def _check_alike(workspace: Workspace, jobs: list[str], others: list[str]) -> None:
    """The same responses, policies and reward models under other names, opened where they are now."""
    answers = [
        [pq.read_table(file) for one in some if (file := workspace.runs / one / "output" / RESPONSES).exists()]
        for some in (jobs, others)
    ]
    assert [len(some) for some in answers] == [2, 2]
    for one, other in zip(*answers, strict=True):
        assert json.dumps(one.to_pylist()).replace("g-", "h-") == json.dumps(other.to_pylist()).replace("g-", "h-")
    policies = {one.policy: one.fingerprint for one in workspace.policies.all()}
    assert list(policies) == [f"{grid}-{one}-small-s0" for grid in "gh" for one in ("sft", "best-of-n")]
    assert policies["g-sft-small-s0"] == policies["h-sft-small-s0"] != ""
    for name in ("minilm-bt-small", "ensemble-worst-small"):
        one, other = (workspace.scores.model(f"{grid}-{name}") for grid in "gh")
        assert one.fingerprint == other.fingerprint == loading.fingerprint_of_all(opened_sources(workspace, one)) != ""
        assert one.settings.replace(jobs[0], others[0]) == other.settings


def opened_sources(workspace: Workspace, model: RewardModel) -> list[str]:
    return list(reward_models.opened_by(workspace, model).sources())
