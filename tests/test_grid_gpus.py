"""Several grids on the GPUs of one machine: one job at a time on each card, whatever ends, is killed or goes on."""

import tempfile
from pathlib import Path
from typing import Any

from tests import test_grid
from tests.conftest import until
from tests.test_grid import Made, killed
from training import engine, grid
from training.grid import Grid
from training.leases import machines_folder, take
from training.machine import Gpu
from training.run import OVER, write_json

ONE = {"GPUS": "0=a"}
TWO = {"GPUS": "0=a 1=b"}
folder = test_grid.folder  # the fixture


def made(folder: Path, name: str, jobs: dict[str, dict[str, Any]], *, at_once: int = 0) -> Made:
    """A grid of a workspace of its own, whose jobs write into the diary of all."""
    told = {
        f"{name} {one}": {**more, "after": [f"{name} {each}" for each in more.get("after", ())]} for one, more in jobs.items()
    }
    return Made(folder / name, told, at_once=at_once, title=name, module="tests.grid_on_gpus", diary=folder / "diary.txt")


def waits(one: Made, words: str) -> None:
    """Wait until a grid says that it waits."""
    until(lambda: words in one.run.progress().message or engine.watch(one.run).status in OVER)
    assert words in one.run.progress().message


def never_two(notes: list[str]) -> bool:
    """Whether each job of a diary ended before the next began; one that was killed ended when it began again."""
    return all("begins" in begins and "ends" in ends for begins, ends in zip(notes[::2], notes[1::2], strict=True))


def test_a_second_grid_waits_for_the_card_and_says_for_whom(folder):
    gate = folder / "gate"
    first = made(folder, "first", {"one": {"gate": str(gate)}, "two": {}})
    second = made(folder, "second", {"one": {}, "two": {}})
    engine.start(first.run, ONE)
    first.at_work("first one")
    engine.start(second.run, {"GPUS": "3=a"})  # pinned, it names the same card otherwise
    waits(second, f"waits for GPU 3, which another grid has (first, {first.run.folder})")
    assert first.notes() == ["first one begins"]
    gate.touch()
    assert (first.ended(), second.ended()) == ("done", "done")
    assert len(first.notes()) == 8
    assert never_two(first.notes())
    assert "waits for GPU 3, which another grid has (first" in second.run.log.read_text()


def test_a_job_that_outlives_its_killed_grid_keeps_the_card_and_the_resumed_grid_waits_for_it(folder):
    gate = folder / "gate"
    first = made(folder, "first", {"one": {"gate": str(gate)}, "two": {"after": ["one"]}})
    second = made(folder, "second", {"one": {}})
    engine.start(first.run, ONE)
    first.at_work("first one")
    killed(first.run)
    (first.run.folder / "progress.json").unlink()
    engine.start(second.run, ONE)
    waits(second, "waits for GPU 0, which another grid has (first")
    engine.resume(first.run, ONE)
    waits(first, "first one: waiting")
    assert first.notes() == ["first one begins"]
    gate.touch()
    assert (first.ended(), second.ended()) == ("done", "done")
    assert len(first.notes()) == 6
    assert never_two(first.notes())


def test_a_job_that_is_killed_leaves_its_card(folder):
    gate = folder / "gate"
    first = made(folder, "first", {"one": {"gate": str(gate)}})
    second = made(folder, "second", {"one": {}})
    engine.start(first.run, ONE)
    first.at_work("first one")
    engine.start(second.run, ONE)
    waits(second, "waits for GPU 0")
    killed(first.run)
    killed(first.jobs["first one"])
    assert second.ended() == "done"
    gate.touch()
    engine.resume(first.run, ONE)
    assert first.ended() == "done"
    assert first.notes() == ["first one begins", "second one begins", "second one ends", "first one begins", "first one ends"]


def test_a_grid_that_waits_for_a_card_can_be_cancelled(folder):
    first = made(folder, "first", {"one": {"gate": str(folder / "never")}})
    second = made(folder, "second", {"one": {}})
    engine.start(first.run, ONE)
    first.at_work("first one")
    engine.start(second.run, ONE)
    waits(second, "waits for GPU 0")
    assert engine.cancel(second.run, patience=60).status == "cancelled"
    assert (second.status("second one"), first.status("first one")) == ("cancelled", "running")


def test_of_two_cards_each_grid_that_wants_one_has_one(folder):
    gates = {"first": "second", "second": "first"}  # each job waits for the other to have begun
    both = [
        made(folder, name, {"one": {"gate": str(folder / other / f"grid.{other} one" / "output" / "steps.txt")}}, at_once=1)
        for name, other in gates.items()
    ]
    for one in both:
        engine.start(one.run, TWO)
    assert [one.ended() for one in both] == ["done", "done"]
    assert sorted(one[-1] for one in both[0].notes() if "begins" in one) == ["0", "1"]


def test_a_grid_that_puts_several_jobs_on_a_card_shares_it_with_none_that_wants_it_alone(folder):
    gate = folder / "gate"
    sharing = made(folder, "sharing", {"one": {"gate": str(gate)}, "two": {"gate": str(gate)}}, at_once=2)
    alone = made(folder, "alone", {"one": {}})
    engine.start(sharing.run, ONE)
    for name in ("sharing one", "sharing two"):
        sharing.at_work(name)
    engine.start(alone.run, ONE)
    waits(alone, "waits for GPU 0, which another grid has")
    gate.touch()
    assert (sharing.ended(), alone.ended()) == ("done", "done")
    assert alone.notes()[-2:] == ["alone one begins", "alone one ends"]


def test_on_a_machine_without_gpus_two_grids_run_side_by_side(folder):
    gates = {"first": "second", "second": "first"}
    both = [
        Made(folder / name, {"one": {"gate": str(folder / other / "grid.one" / "output" / "steps.txt")}})
        for name, other in gates.items()
    ]
    for one in both:
        engine.start(one.run)
    assert [one.ended() for one in both] == ["done", "done"]


def test_a_job_that_is_over_has_its_card_until_its_process_is_gone(folder, monkeypatch):
    monkeypatch.setattr(grid, "gpus", lambda: (Gpu("0", "a"),))
    here = Made(folder, {"next": {"gate": str(folder / "never")}})
    queue = grid._Queue(here.run, Grid.model_validate(here.run.config()))
    lease = take(machines_folder(), "a", queue._name)
    assert (queue.goes_on(), queue.message()) == (True, "waits for GPU 0, which a job of its own has not left yet")
    lease.close()
    assert (queue.goes_on(), here.status("next")) == (True, "running")


def test_a_job_that_is_told_to_use_the_cpu_waits_for_no_card(folder, monkeypatch):
    monkeypatch.setattr(grid, "gpus", lambda: (Gpu("0", "a"),))
    here = Made(folder, {"on the cpu": {}})
    job = here.jobs["on the cpu"]
    write_json(job.folder / "config.json", {**job.config(), "device": "cpu"})
    lease = take(machines_folder(), "a", "another")
    grid.work(here.run)
    lease.close()
    assert here.status("on the cpu") == "done"


def test_a_folder_that_cannot_be_written_is_told_once_and_done_without(folder, monkeypatch, capsys):
    monkeypatch.setattr(grid, "gpus", lambda: (Gpu("0", "a"),))
    (Path(tempfile.gettempdir()) / machines_folder().name).touch()  # a file in its place
    here = Made(folder, {"one": {}, "two": {}})
    grid.work(here.run)
    assert [here.status(name) for name in here.jobs] == ["done", "done"]
    assert capsys.readouterr().out.count("goes on without leases of GPUs") == 1
