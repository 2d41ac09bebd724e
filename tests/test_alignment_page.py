"""The alignment page and the runs of policies: a first visit, every view, hostile words, the plan. The real app."""

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from html import escape
from pathlib import Path

import numpy as np
import pytest

from curation import alignment, outcomes_curves, outcomes_grid, outcomes_report, outcomes_wins, run_views
from curation.workspace import Workspace
from tests.aligned import aligned
from tests.conftest import Clock, hh, import_rows
from tests.scored import give
from tests.test_pages import App, opened
from tests.test_reward_pages import HOSTILE, as_one_line, cells, charts, is_harmless, shown_texts, words
from training import engine
from training.curves import Curves
from training.policy_data import Prompt
from training.policy_settings import PolicySettings
from training.rewards.base import Message
from training.run import Run

VIEWS = ("Curves", "Win rates", "Quality and outcome", "Responses")
DATASET = HOSTILE.replace("/", "")
HARD = np.random.default_rng(0).normal(0, 1, (8, 3))


@pytest.fixture(scope="module")
def answered(tmp_path_factory) -> Path:
    """A grid of one algorithm, two reward models, a dataset and its release, three seeds, with hostile names and words."""
    folder = tmp_path_factory.mktemp("answered") / "workspace"
    with closing(Workspace(folder, clock=Clock())) as workspace:
        import_rows(workspace, [hh(f"{HOSTILE} {n}?", f"yes {n}", f"no {n}") for n in range(8)], DATASET)
        prompts = [
            Prompt(one.prompt_id, tuple(Message(turn.role, turn.content) for turn in one.prompt))
            for one in workspace.pairs.many([pair for _, pair, _, _ in workspace.pairs.rows_in_order(DATASET)])
        ]
        for model, worth in (("good", 0.3), ("bad", -0.1)):
            for data in (DATASET, "release:clean"):
                for seed in range(3):
                    aligned(
                        workspace, f"ppo-{model}-{'c' if data.startswith('release') else 'o'}-{seed}",
                        {
                            model: lambda p, point, s: HARD[p, 0] + point,
                            "gold": lambda p, point, s, w=worth, k=seed: HARD[p, k] + point * (w + k / 50) - point**2 / 40,
                        },
                        prompts=prompts, points=(0, 2, 4, 8), optimised=model, seed=seed,
                        text=lambda p, point, s, m=model, k=seed, d=data: f"{HOSTILE} {m} {k} {d} {p} at {point}",
                        cell={
                            "alignment": HOSTILE, "algorithm": "ppo", "reward_model": model, "recipe": "", "data": data,
                            "seed": seed,
                        },
                    )  # fmt: skip
            give(workspace, model, {one: float(n) for n, both in enumerate(workspace.pairs.sides(DATASET)) for one in both[2:]})
    return folder


@pytest.fixture
def app(answered, tmp_path, monkeypatch) -> Iterator[App]:
    """The app on a copy of it."""
    app = opened(Path(shutil.copytree(answered, tmp_path / "workspace")), monkeypatch, "eve")
    yield app
    app.workspace.close()


@pytest.fixture
def empty(tmp_path, monkeypatch) -> Iterator[App]:
    """The app on an empty workspace."""
    app = opened(tmp_path / "workspace", monkeypatch, "eve")
    yield app
    app.workspace.close()


def test_a_first_visit_says_what_to_do_in_every_view(empty):
    at = empty.go("alignment")
    assert [one.value for one in at.title] == ["Alignment"]
    assert "There is no dataset yet" in empty.words()
    for view in VIEWS:
        at = empty.go("alignment", **{"alignment-view": view})
        assert "No policy has answered held-out prompts yet" in words(empty)
        assert "Fill in a small one" in empty.words()
        assert list(at.error) == []


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_shows_numbers_with_their_n_and_no_hostile_word_is_interpreted(app, view):
    at = app.go("alignment", **{"alignment-view": view})
    assert [one.value for one in at.error] == []
    is_harmless(at)
    if view == "Responses":
        assert sum(HOSTILE.replace("<", "&lt;").replace(">", "&gt;") in one for one in shown_texts(at)) == 1
        return
    drawn = charts(at)
    assert drawn
    if view != "Win rates":
        assert "n=" in words(app) + json.dumps(drawn)
    for table in range(sum('<div class="er table">' in one.proto.body for one in at.get("html"))):
        assert all(row for row in cells(at, table))


def test_the_curves_on_the_page_are_those_of_the_report(app):
    at = app.go("alignment", **{"alignment-view": "Curves"})
    made = outcomes_report.chosen(app.workspace, HOSTILE).made
    drawn = outcomes_report.typical(made, 4)
    assert at.multiselect[0].value == drawn
    found = [outcomes_curves.curve(app.workspace, one, "gold") for one in made if one.generator in drawn]
    assert cells(at) == as_one_line(outcomes_report.curve_rows(found))
    traces = charts(at)[0]["data"]
    assert [one["line"]["dash"] for one in traces if one.get("line", {}).get("dash")] == ["dot", "solid"] * len(drawn)
    at.toggle(key="held-out-alone").set_value(True).run()
    assert {one["line"]["dash"] for one in charts(at)[0]["data"] if one.get("line", {}).get("dash")} == {"solid"}


def test_a_dot_opens_the_responses_beside_those_of_its_start(app):
    app.go("alignment", **{"alignment-view": "Curves"})
    assert "Click a dot to read its responses" in app.words()
    name = outcomes_report.typical(outcomes_report.chosen(app.workspace, HOSTILE).made, 1)[0]
    app.at.session_state["goodhart"] = {
        "selection": {"points": [{"customdata": ["", name, 4]}], "point_indices": [], "box": []}
    }
    at = app.at.run()
    assert list(at.exception) == []
    (shown,) = shown_texts(at)
    assert f"{name}, its start" in shown
    assert f"{name}, at 4" in shown
    assert "at 4</div>" in shown
    is_harmless(at)


@pytest.mark.parametrize(
    ("view", "key", "place", "behind"),
    [
        ("Win rates", "wins", 0, lambda one: one.generator),
        ("Win rates", "others", 1, lambda one: one.generator),
        ("Quality and outcome", "cleaning", -1, lambda one: f"{one.algorithm}, {one.pleases}"),
    ],
)
def test_any_dot_opens_the_responses_of_those_behind_it(app, view, key, place, behind):
    at = app.go("alignment", **{"alignment-view": view})
    assert shown_texts(at) == []
    made = outcomes_report.chosen(app.workspace, HOSTILE).made
    name = next(dot[-1] for trace in charts(at)[place]["data"] for dot in trace["customdata"])
    app.at.session_state[key] = {"selection": {"points": [{"customdata": ["", name]}], "point_indices": [], "box": []}}
    at = app.at.run()
    assert list(at.exception) == []
    (shown,) = shown_texts(at)
    assert any(one.generator in shown for one in made if escape(behind(one)) == name)
    assert ("its start" in shown) == (key == "wins")
    is_harmless(at)


def test_win_rates_and_what_cleaning_does_are_those_of_the_report(app):
    at = app.go("alignment", **{"alignment-view": "Win rates"})
    (first, *_) = [one for one in charts(at)[0]["data"] if one.get("name") == "gold"]
    assert all("n=8 comparisons" in words for words, _ in first["customdata"])
    made = outcomes_report.chosen(app.workspace, HOSTILE).made
    against = {one.generator: outcomes_wins.against_start(app.workspace, one, models=["gold"]) for one in made}
    drawn = outcomes_report.typical(made, 12)
    shown = [duel for name in drawn for duel in against[name]]
    assert cells(at) == as_one_line(outcomes_report.win_rows(app.workspace, shown, without="against"))
    assert f"p, Holm over {len(drawn)}" in cells(at)[0]
    others = [one for one in made if one is not made[0]][:4]
    duels = outcomes_wins.against_others(app.workspace, made[0], others, models=["gold"])
    assert cells(at, 1) == as_one_line(outcomes_report.win_rows(app.workspace, duels, without="policy"))
    tests = [one.even.p is not None for one in duels]
    assert 0 < sum(tests) < len(tests) == 4
    assert f"p, Holm over {sum(tests)}" in cells(at, 1)[0]
    assert words(app).count(outcomes_report.FAMILY) == 2
    at.toggle(key="equal-length").set_value(True).run()
    assert list(at.exception) == []
    assert words(app).count("It is not that of the rate at equal length") == 2
    at = app.go("alignment", **{"alignment-view": "Quality and outcome"})
    rows = cells(at, -1)
    told = {(one["algorithm"], one["made to please"], one["seeds"]) for one in rows}
    assert told == {("ppo", "good", "3"), ("ppo", "bad", "3")}
    cleaned = outcomes_grid.cleaning(app.workspace, made, "gold", "win rate")
    assert rows == as_one_line(outcomes_report.cleaning_rows(cleaned))
    assert "Spearman undefined, because a correlation of fewer than 4 reward models" in words(app)
    assert max(len(one) for one in titles(at)) <= 28  # or a phone cuts it off
    for measure in ("gain", "gain at equal KL"):
        at.selectbox(key="measure").set_value(measure).run()
        assert list(at.exception) == list(at.error) == []
        assert max(len(one) for one in titles(at)) <= 28


def titles(at) -> list[str]:
    """What stands along the axes of all charts."""
    axes = [one["layout"].get(axis, {}).get("title", {}) for one in charts(at) for axis in ("xaxis", "yaxis")]
    return [one["text"] for one in axes if one]


def test_a_grid_is_planned_from_the_form_and_started(empty, monkeypatch):
    import_rows(empty.workspace, [hh(f"How is it to be number {n}, and why?", f"good {n}", f"bad {n}") for n in range(60)])
    at = empty.go("alignment", **{"alignment-view": "Plan"})
    assert "Give it a name" in empty.words()
    at.button(key="small").click().run()
    assert list(at.exception) == []
    assert at.text_input(key="align-name").value == "first"
    at.multiselect(key="align-reward_models").set_value(["length"])
    at.multiselect(key="align-gold").set_value(["length"]).run()
    assert "length is optimised and gold" in words(empty)
    at.multiselect(key="align-gold").set_value([]).run()
    assert "2 jobs, about" in words(empty)
    assert "An estimate for a machine with nothing else to do" in words(empty)
    assert list(at.dataframe[0].value["by"]) == ["dpo", "best-of-n"]
    started = []
    monkeypatch.setattr(engine, "start", started.append)
    at.button(key="start").click().run()
    assert list(at.exception) == list(at.error) == []
    (run,) = started
    assert run.state().kind == alignment.KIND
    assert run.config()["name"] == "first"
    jobs = [file.parent.name for file in empty.workspace.runs.glob("*/state.json") if file.parent.name != run.run_id]
    assert len(jobs) == 2
    assert at.text_input(key="align-name").value == ""  # its name is taken now: no complaint about what was just begun
    assert list(at.warning) == []
    at = empty.go("runs")
    assert "Its jobs: 2 queued" in words(empty)


# ---- runs


def run_of(workspace: Workspace, name: str, *, waits: str = "", kind: str = "ppo", status: str = "failed") -> Run:
    run = Run.create(
        workspace.runs / name, kind=kind, module="training.none", title=f"{name} {HOSTILE}", config=PolicySettings(policy="x")
    )
    run.write_state(run.state().model_copy(update={"status": status, "waits": waits}))
    return run


def test_a_policys_run_shows_its_curves_three_in_a_row_and_its_last_answers(empty):
    run = run_of(empty.workspace, "20261101-one")
    curves = Curves(run.folder)
    names = ("reward", "kl", "entropy", "clip_fraction", "explained_variance", "length", "stopped")
    for step in range(1, 6):
        curves.add(step, {name: step / 10 + place for place, name in enumerate(names)})
    lines = [{"step": 5, "prompt": HOSTILE, "response": f"{HOSTILE} answer {n}", "reward": n / 4} for n in range(6)]
    (run.output / run_views.SAMPLES).write_text("".join(json.dumps(one) + "\n" for one in lines))
    at = empty.go("runs")
    at.toggle(key=f"curves-{run.run_id}").set_value(True).run()
    assert list(at.exception) == []
    assert len(charts(at)) == 7
    assert len(at.columns) == 9  # rows of three
    assert len(shown_texts(at)) == 4
    assert "step 5 · reward" in words(empty)
    is_harmless(at)


def test_the_jobs_of_a_grid_are_shown_within_it_and_one_can_be_opened(empty):
    run_of(empty.workspace, "20261101-grid", kind="alignment")
    for number in range(1, 4):
        run_of(empty.workspace, f"20261101-grid.00{number}-ppo", waits="20261101-grid")
    at = empty.go("runs")
    assert "Its jobs: 3 failed" in words(empty)
    assert [one.key for one in at.button if str(one.key).startswith("resume-")] == ["resume-20261101-grid"]
    at.toggle(key="jobs-20261101-grid").set_value(True).run()
    job = next(one for one in at.selectbox if str(one.key).startswith("open-"))
    job.set_value("20261101-grid.002-ppo").run()
    assert list(at.exception) == []
    assert "resume-20261101-grid.002-ppo" in [one.key for one in at.button]
    assert at.get("page_link") == []
    grid = Run(empty.workspace.runs / "20261101-grid")
    grid.write_state(grid.state().model_copy(update={"status": "done"}))
    assert [one.proto.label for one in empty.go("runs").get("page_link")] == ["See what came out, under Alignment"]
    is_harmless(at)
