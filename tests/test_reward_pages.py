"""The pages of reward models: register, score, train, read what they say, and set them beside people. The real app."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from curation import benchmark, benchmark_report, people, pitfalls_report, proxies, reward_models, runs
from curation.probes import PROBES
from curation.release import Policy, release
from curation.workspace import Workspace
from tests.aligned import aligned
from tests.browser import Person, chromium, serving
from tests.conftest import Clock, done_here, flag_pairs, hh, import_rows, numbered
from tests.raters import answer_all, item, set_up
from tests.scored import give, prefer
from tests.test_pages import App, opened
from training import engine

VIEWS = ("Accuracy", "Cleaning", "Against each other", "Confidence and length", "Pitfalls", "Reward models")
HOSTILE = "<img src=x onerror=alert(1)>**b** [x](http://evil.example) :tada: $x$ 🐘"
TABLE = '<div class="er table">'
DATASET = HOSTILE.replace("/", "")  # a dataset's name has none
RATER = "ben <b>*cy*</b>"


def started_and_over() -> pytest.MonkeyPatch:
    patch = pytest.MonkeyPatch()
    patch.setattr(engine, "start", done_here)
    return patch


@pytest.fixture
def empty(tmp_path, monkeypatch, at_once) -> Iterator[App]:
    """The app on an empty workspace; a run is over when it is started."""
    app = opened(tmp_path / "workspace", monkeypatch, "eve")
    yield app
    app.workspace.close()


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> Path:
    """A workspace with what three reward models say of a dataset whose names are hostile, and of a study."""
    folder = tmp_path_factory.mktemp("said") / "workspace"
    with closing(Workspace(folder, clock=Clock())) as workspace:
        rows = [
            {
                **hh(f"{HOSTILE} {n}?", f"{HOSTILE} {'so ' * (1 + n % 5)}", f"{HOSTILE} {'no ' * (1 + n % 3)}{n}"),
                "subset": f"{HOSTILE}{n % 2}",
            }
            for n in range(18)
        ]
        pairs = import_rows(workspace, rows, DATASET)
        import_rows(workspace, numbered(3), "unscored")
        flag_pairs(workspace, dict.fromkeys(pairs[:6], 0.9), dataset=DATASET)
        sides = [(one[2], one[3]) for one in workspace.pairs.sides(DATASET)]
        patch = started_and_over()
        for more in ({}, {"probes": True}):
            runs.start_run(workspace, "score", {"reward_model": "length", "dataset": DATASET, **more})
            runs.settle(workspace)
        patch.undo()
        ids = sorted({one for both in sides for one in both})
        give(workspace, "other", {one: place * 7 % 10 / 3 for place, one in enumerate(ids)}, dataset=DATASET)
        prefer(workspace, "judge", {both: 0.2 + n % 4 / 5 for n, both in enumerate(sides)}, dataset=DATASET)
        release(workspace, DATASET, "cleaned", Policy(drop_unreviewed_filters=("empty",)))
        _study(workspace)
        set_up(workspace, [item(n) for n in range(3)], "unscored", protocol="compare", aspects=(), overlap=1)
        answer_all(workspace, "unscored", "ana", lambda card, question: 1)
    return folder


def _study(workspace: Workspace) -> None:
    """Twelve items that three people rated and compared, the longer the better; scored by length and, in part, by other."""
    texts = [{"a": f"{HOSTILE} {'x' * (1 + 3 * n)}", "b": f"{HOSTILE} {'y' * (30 - 2 * n)}"} for n in range(12)]
    named = [item(n, one, prompt=f"{HOSTILE} {n}?", subset=f"{HOSTILE}{n % 2}") for n, one in enumerate(texts)]
    set_up(workspace, named, "people", protocol="both", overlap=3)
    for person in ("ana", RATER, "dan"):

        def says(card: Any, question: Any, person: str = person) -> int:
            lengths = [len(one or "") - len(HOSTILE) for one in card.texts]
            if question.response:
                return max(1, min(5, 1 + (lengths[question.place] + len(person) % 3) // 8))
            return 1 if lengths[0] > lengths[1] else 2

        answer_all(workspace, "people", person, says)
    responses = [one for content in workspace.studies.contents("people").values() for one in content.texts]
    give(workspace, "length", {one: float(n) for n, one in enumerate(responses)}, study="people")
    give(workspace, "other", {one: float(n % 3) for n, one in enumerate(responses)}, study="people")


@pytest.fixture
def app(said, tmp_path, monkeypatch, at_once) -> Iterator[App]:
    """The app on a copy of it, at the hostile dataset."""
    app = opened(Path(shutil.copytree(said, tmp_path / "workspace")), monkeypatch, "eve")
    app.at.session_state["dataset"] = DATASET
    yield app
    app.workspace.close()


def show(app: App, view: str, dataset: str = "") -> AppTest:
    """A view of the rewards page, of a dataset where there are several."""
    if dataset:
        app.at.session_state["dataset"] = dataset
    at = app.go("rewards", **{"rewards-view": view})
    assert [one.value for one in at.error] == []
    return at


def words(app: App) -> str:
    """What the page says, as it is read."""
    return app.words().replace("\\", "")


def cells(at: AppTest, number: int = 0) -> list[dict[str, str]]:
    """A table of words as it is read: a row, a dictionary."""
    table = [one.proto.body for one in at.get("html") if one.proto.body.startswith(TABLE)][number]
    head, *rows = [
        re.findall(r"<t[hd]>(.*?)</t[hd]>", row, re.DOTALL) for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    ]
    return [dict(zip(map(unescape, head), map(unescape, row), strict=True)) for row in rows]


def as_one_line(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [{name: " ".join(str(value).split()) for name, value in row.items()} for row in rows]


def read_as_markdown(at: AppTest) -> str:
    """Everything the browser reads as Markdown."""
    kinds = (
        "title",
        "subheader",
        "caption",
        "markdown",
        "info",
        "success",
        "warning",
        "error",
        "button",
        "checkbox",
        "expander",
    )
    found = [f"{getattr(one, 'value', '')}{getattr(one, 'label', '')}" for kind in kinds for one in at.get(kind)]
    return "\n".join(found)


def shown_texts(at: AppTest) -> list[str]:
    """The HTML of the texts on the page, tables aside."""
    return [one.proto.body for one in at.get("html") if not one.proto.body.startswith(("<style>", TABLE))]


def charts(at: AppTest) -> list[dict[str, Any]]:
    """The charts on the page."""
    return [json.loads(one.proto.spec) for one in at.get("plotly_chart")]


def is_harmless(at: AppTest) -> None:
    """No text of data stands where it would be interpreted. Charts read a little HTML, too."""
    told = re.sub(r"\\.", "", read_as_markdown(at))  # what is escaped is shown as it is
    for part in ("<img", "**b**", "[x](", "onerror=", ":tada:", "$x$"):
        assert part not in told, part
    htmls = [one.proto.body for one in at.get("html") if not one.proto.body.startswith("<style>")]
    assert "<img" not in "".join(htmls) + json.dumps(charts(at))


# ---- a first visit


def test_an_empty_workspace_says_what_to_do_and_lets_a_model_be_registered(empty):
    at = empty.go("rewards")
    assert [one.value for one in at.title] == ["Rewards"]
    assert "There is no dataset yet" in empty.words()
    at = empty.go("rewards", **{"rewards-view": "Reward models"})
    assert at.dataframe[0].value["reward model"].tolist() == ["length"]
    assert "There is nothing to score yet" in empty.words()
    at.segmented_control(key="do").set_value("Register one").run()
    at.text_input(key="register-name").set_value(" server ")
    at.selectbox(key="register-family").set_value("endpoint").run()
    at.text_input(key="register-endpoint-address").set_value("http://127.0.0.1:9").run()
    at.button(key="register").click().run()
    assert list(at.exception) == []
    assert [one.value for one in at.error] == []
    model = empty.workspace.scores.model("server")
    assert (model.family, json.loads(model.settings), model.person) == ("endpoint", {"address": "http://127.0.0.1:9"}, "eve")
    assert at.dataframe[0].value["reward model"].tolist() == ["length", "server"]
    at.text_input(key="register-name").set_value("gpt")
    at.selectbox(key="register-family").set_value("judge").run()
    folded = {one.key for one in at.expander[0].text_input}
    assert "register-judge-instructions" in folded
    for name, value in (("address", "https://host/v1"), ("model", "wise")):  # both ways to a judge are seen at once
        assert f"register-judge-{name}" not in folded
        at.text_input(key=f"register-judge-{name}").set_value(value)
    at.run()
    at.button(key="register").click().run()
    assert [one.value for one in at.error] == []
    assert at.dataframe[0].value["what it is"].tolist() == [
        "length", "endpoint · http://127.0.0.1:9", "judge · wise at https://host/v1",
    ]  # fmt: skip


@pytest.mark.parametrize("view", [one for one in VIEWS if one != "Reward models"])
def test_a_dataset_that_nobody_scored_says_so_and_what_to_do(app, view):
    show(app, view, "unscored")
    assert "yet" in words(app)
    assert "Under Reward models you score it" in words(app)


def test_every_family_can_be_asked_for(empty):
    at = empty.go("rewards", **{"rewards-view": "Reward models"})
    at.segmented_control(key="do").set_value("Register one").run()
    for family in at.selectbox(key="register-family").options:
        at.selectbox(key="register-family").set_value(family).run()
        assert list(at.exception) == []
        at.button(key="register").click().run()
        (error,) = at.error
        assert "cannot be used" in error.value
    assert [one.reward_model for one in empty.workspace.scores.models()] == ["length"]


@pytest.mark.parametrize(
    ("name", "source", "says"),
    [("x", "{folder}", "holds no weights"), ("x", "", "source"), ("length", "{folder}", "there is a reward model 'length'")],
)
def test_what_cannot_be_registered_is_told_in_one_sentence_and_stores_nothing(empty, tmp_path, name, source, says):
    at = empty.go("rewards", **{"rewards-view": "Reward models"})
    at.segmented_control(key="do").set_value("Register one").run()
    at.text_input(key="register-name").set_value(name)
    at.text_input(key="register-classifier-source").set_value(source.format(folder=tmp_path)).run()
    at.button(key="register").click().run()
    assert list(at.exception) == []
    (error,) = at.error
    assert says in error.value.replace("\\", "")
    assert "\n" not in error.value
    assert [one.reward_model for one in empty.workspace.scores.models()] == ["length"]


# ---- runs


def test_a_dataset_is_scored_by_the_form_then_probed_and_then_nothing_is_left(empty):
    import_rows(empty.workspace, numbered(4))
    at = show(empty, "Reward models")
    at.number_input(key="score-count").set_value(3).run()
    at.button(key="score").click().run()
    assert list(at.exception) == []
    assert [one.value.replace("\\", "") for one in at.success] == ["dataset small, 3 pairs by length: 6 scored"]
    assert len(empty.workspace.scores.scores("length")) == 6
    at.number_input(key="score-count").set_value(0).run()
    at.checkbox(key="score-probes").set_value(True).run()
    at.button(key="score").click().run()
    (view, _) = runs.all_runs(empty.workspace)
    assert (view.state.title, view.taken_in) == ("probes of dataset small by length", True)
    at.checkbox(key="score-probes").set_value(False).run()
    for left in (1, 0):
        at.button(key="score").click().run()
        assert list(at.exception) == []
        assert len(at.error) == 1 - left
    assert "nothing is missing" in at.error[0].value
    show(empty, "Accuracy")
    assert "n=4 pairs" in str(cells(empty.at))
    show(empty, "Pitfalls")
    assert "length: probes of dataset small." in words(empty)
    assert len(runs.all_runs(empty.workspace)) == 3


def test_what_policies_answered_is_scored_by_the_form(empty):
    for name in ("one", "two"):
        aligned(empty.workspace, name, {"gold": lambda *_: 1.0})
    at = show(empty, "Reward models")
    at.selectbox(key="score-model").set_value("length").run()
    assert at.selectbox(key="score-what").value == "policies"
    at.button(key="score").click().run()
    assert [one.value.replace("\\", "") for one in at.error] == [
        "a scoring wants a dataset or a study: expected dataset=NAME or study=NAME, one of them, or policies=NAMES"
    ]
    at.multiselect(key="score-policies").set_value(["two", "one"]).run()
    at.selectbox(key="score-of-policies-points").set_value("last").run()
    at.button(key="score").click().run()
    assert [one.value.replace("\\", "") for one in at.success] == ["policies two, one by length: 8 scored"]


def test_a_run_that_fails_is_told_on_the_page_that_started_it(empty):
    import_rows(empty.workspace, numbered(2))
    gone = {"address": "http://127.0.0.1:9", "tries": 1, "wait": 0}
    reward_models.register(empty.workspace, "gone", "endpoint", gone, "eve")
    at = show(empty, "Reward models")
    at.selectbox(key="score-model").set_value("gone").run()
    at.button(key="score").click().run()
    assert list(at.exception) == []
    (error,) = at.error
    assert error.value.replace("\\", "").startswith("dataset small by gone failed: ")
    assert empty.workspace.scores.counts() == {}
    at.run()
    assert list(at.error) == []  # it is told once; under Runs it stays


def test_a_bad_setting_of_a_training_is_one_sentence_and_a_good_one_registers_what_it_trained(empty):
    rows = [hh(f"Name river {n}.", f"River {n}, gladly.", f"No, not {n}.") for n in range(12)]
    import_rows(empty.workspace, rows)
    at = show(empty, "Reward models")
    at.segmented_control(key="do").set_value("Train one").run()
    at.text_input(key="train-name").set_value("length").run()
    at.button(key="train").click().run()
    assert "there is a reward model 'length' already" in at.error[0].value.replace("\\", "")
    at.text_input(key="train-name").set_value("head").run()
    at.number_input(key="train-label_smoothing").set_value(0.9).run()
    at.button(key="train").click().run()
    assert "label_smoothing is 0.9" in at.error[0].value.replace("\\", "")
    assert runs.all_runs(empty.workspace) == []
    at.number_input(key="train-label_smoothing").set_value(0.0)
    at.number_input(key="train-held_out").set_value(0.25)
    at.number_input(key="train-penalty").set_value(1.0).run()
    at.button(key="train").click().run()
    assert list(at.exception) == []
    assert list(at.error) == []
    assert "head, from minilm-bt: held-out accuracy" in words(empty)
    (view,) = runs.all_runs(empty.workspace)
    model = empty.workspace.scores.model("head")
    assert (model.family, model.run_id, view.taken_in) == ("minilm-bt", view.run.run_id, True)
    assert at.dataframe[0].value["reward model"].tolist() == ["length", "head"]
    at = empty.go("runs")
    assert charts(at) == []
    at.toggle(key=f"curves-{view.run.run_id}").set_value(True).run()
    assert list(at.exception) == []
    drawn = {one["layout"]["yaxis"]["title"]["text"]: [line["name"] for line in one["data"]] for one in charts(at)}
    measured = runs.curves(view.run)
    assert measured is not None
    assert drawn == {value: list(lines) for value, lines in measured.lines.items()}
    assert "held-out-loss" in drawn["loss"]
    assert f"{view.run.run_id}" in empty.words()


# ---- every view


@pytest.mark.parametrize("models", [["length"], ["judge"], ["length", "judge"], ["length", "other", "judge"]])
@pytest.mark.parametrize("chosen", ["", "cleaned"])
def test_every_view_draws_for_one_model_and_for_several_and_no_text_is_interpreted(app, models, chosen):
    for view in VIEWS[:4]:
        at = show(app, view)
        key = f"release-{DATASET}-{view == 'Cleaning'}"
        if at.selectbox(key=key).value != chosen:
            at.selectbox(key=key).set_value(chosen).run()
        at.multiselect(key=f"models-{DATASET}-{chosen}-3").set_value(models).run()
        assert list(at.exception) == []
        assert [one.value for one in at.error] == []
        is_harmless(at)
        if view == "Cleaning" and not chosen:
            assert "Choose a release above" in words(app)
        elif view == "Against each other" and len(models) < 2:
            assert "It takes two reward models" in words(app)
        else:
            assert all(name in str(cells(at)) for name in models)
            assert "nan" not in str(cells(at)).lower()
            assert "None" not in str(cells(at))


def test_what_the_tables_say_is_what_the_report_says(app):
    workspace = app.workspace
    of = benchmark.table(workspace, DATASET)
    at = show(app, "Accuracy")
    assert cells(at) == as_one_line(benchmark_report.accuracy_rows(of))
    assert cells(at, 1) == as_one_line(benchmark_report.subset_rows(of))
    assert cells(at, 2) == as_one_line(benchmark_report.flag_rows(of))
    at = show(app, "Cleaning")  # the latest release is there without being asked for
    cleaned = benchmark.table(workspace, DATASET, release="cleaned")
    for row in as_one_line(benchmark_report.cleaning_rows(workspace, cleaned, DATASET, "cleaned")):
        name = row.pop("reward model")
        assert {line[""]: line[name] for line in cells(at)} == row
    at = show(app, "Against each other")
    assert cells(at) == as_one_line(benchmark_report.duel_rows(of))
    assert len(charts(at)) == 1
    at = show(app, "Pitfalls")
    assert cells(at) == as_one_line(pitfalls_report.rows(workspace, DATASET, ["length"]))
    assert [one["probe"] for one in cells(at)] == list(PROBES)


def test_the_pairs_a_model_goes_against_are_read_at_a_click(app, monkeypatch):
    at = show(app, "Accuracy")
    at.selectbox(key="against-model").set_value("other").run()
    margins = at.dataframe[-1].value["margin"].tolist()
    assert margins
    assert margins == sorted(margins)
    assert max(margins) < 0
    is_harmless(at)
    key = f"against-{DATASET}-other"
    at.session_state[key] = {"selection": {"rows": [0], "columns": [], "cells": []}}
    at.run()
    assert list(at.exception) == []
    of = benchmark.table(app.workspace, DATASET)
    (row, _) = benchmark.against(app.workspace, DATASET, of, "other")[0]
    (sides, reasons) = shown_texts(at)
    assert f" {row.asked.split()[-1]}" in sides
    assert "&lt;img src=x" in sides
    assert reasons
    is_harmless(at)


def test_a_spoilt_response_is_read_beside_its_original(app):
    at = show(app, "Pitfalls")
    model = at.selectbox(key="probed-model").value
    assert sorted(at.selectbox(key=f"probe-{model}").options) == sorted(PROBES)
    for probe in PROBES:
        at.selectbox(key=f"probe-{model}").set_value(probe).run()
        assert list(at.exception) == []
        is_harmless(at)
    at.selectbox(key=f"probe-{model}").set_value("twice").run()
    told = [one.value for one in at.text]
    assert len(told) == 5
    assert all(re.fullmatch(r"The spoilt one scores \+\d+", one) for one in told)  # twice as long, so higher


def test_a_probing_is_shown_where_nothing_else_is_scored(empty):
    import_rows(empty.workspace, numbered(4))
    runs.start_run(empty.workspace, "score", {"reward_model": "length", "dataset": "small", "probes": True})
    at = show(empty, "Pitfalls")
    assert [one["probe"] for one in cells(at)] == list(PROBES)
    assert "length: probes of dataset small." in words(empty)


def test_one_that_has_just_scored_is_among_those_shown(empty):
    import_rows(empty.workspace, numbered(4))
    reward_models.register(empty.workspace, "again", "length", {}, "eve")
    for model in ("again", "length"):
        runs.start_run(empty.workspace, "score", {"reward_model": model, "dataset": "small"})
        at = show(empty, "Accuracy")
        assert model in [row["reward model"] for row in cells(at)]
    assert len(cells(at)) == 2


# ---- beside people


def beside(app: App, question: str, study: str = "people") -> AppTest:
    app.at.session_state["study"] = app.at.query_params["study"] = study
    at = app.go("agreement", view="Reward models")
    if question:
        at.segmented_control(key=f"of-{study}").set_value(question).run()
    assert list(at.exception) == []
    assert [one.value for one in at.error] == []
    return at


def test_a_study_that_no_model_has_scored_says_what_to_do(app):
    beside(app, "", "unscored")
    assert "No reward model has scored this study's responses yet" in words(app)


@pytest.mark.parametrize("question", ["helpfulness", "comparison"])
def test_reward_models_are_set_beside_people_in_words_and_figures(app, question):
    workspace = app.workspace
    at = beside(app, question)
    table = people.tables(workspace, "people")[question]
    found = [proxies.proxy(workspace, "people", table, name) for name in ("length", "other")]
    for one in found:
        assert f"**{one.model}** {one.verdict()}" in words(app)
    for row in as_one_line(proxies.rows(found)):
        name = row.pop("reward model")
        assert {line[""]: line[name] for line in cells(at)} == row
    is_harmless(at)
    assert "nan" not in str(cells(at)).lower()
    # no rater is named until names are asked for
    shown = "".join(str(one.value.to_numpy().tolist()) for one in at.dataframe)
    assert not any(name in shown + read_as_markdown(at) for name in ("ana", RATER, "'dan'"))
    at.toggle(key="names-proxies").set_value(True).run()
    (raters,) = [one.value for one in at.dataframe if "rater" in one.value.columns]
    assert raters["rater"].tolist() == list(table.raters)
    assert set(raters["rater"]) == {"ana", RATER, "dan"}


def test_a_row_that_is_picked_shows_the_texts(app):
    at = beside(app, "helpfulness")
    table = people.tables(app.workspace, "people")["helpfulness"]
    told = proxies.says(app.workspace, "people", table, "length")
    worst = proxies.disagreements(told, table)[0]
    assert at.dataframe[-1].value["score"].iloc[0] == pytest.approx(worst.score)
    at.session_state["apart-people-length"] = {"selection": {"rows": [0], "columns": [], "cells": []}}
    at.run()
    assert list(at.exception) == []
    (shown,) = shown_texts(at)
    content = app.workspace.studies.content(worst.unit.item_id)
    assert str(content.texts[worst.unit.first]).split()[-1] in shown
    assert "response 1" in shown
    is_harmless(at)


# ---- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


WIDE = """() => [document.documentElement.scrollWidth - window.innerWidth,
    ...["stMain", "stMainBlockContainer"].map((name) => {
        const one = document.querySelector(`[data-testid="${name}"]`);
        return one.scrollWidth - one.clientWidth;
    })]"""


def walk(someone: Person) -> None:
    """Through the six views: each is drawn, without an error, and nothing is wider than the window."""
    page = someone.page
    for view in VIEWS:
        page.get_by_role("radio", name=view, exact=True).click()
        page.get_by_role("radio", name=view, exact=True, checked=True).wait_for()
        someone.rest()
        assert page.locator('[data-testid="stException"], [data-testid="stAlertContentError"]').count() == 0
        page.wait_for_function(f"() => Math.max(...({WIDE})()) <= 0")  # a chart is drawn first, then fitted


@pytest.mark.browser
def test_the_six_views_fit_any_window_and_ask_no_other_machine_for_anything(sample_workspace, tmp_path, browser):
    folder = Path(shutil.copytree(sample_workspace, tmp_path / "workspace"))
    with closing(Workspace(folder)) as workspace:
        patch = started_and_over()
        for more in ({}, {"probes": True}):
            runs.start_run(workspace, "score", {"reward_model": "length", "dataset": "sample", **more})
            runs.settle(workspace)
        patch.undo()
    with serving(folder) as server:
        for width in (1280, 390):
            eve = Person(browser, server, "eve", width=width).open("rewards")
            walk(eve)
            if width < 700:  # there the header is not see-through
                header, title = (eve.page.locator(one).first.bounding_box() for one in ('[data-testid="stHeader"]', "h1"))
                assert title["y"] >= header["y"] + header["height"]
            assert eve.errors == []
            assert eve.hosts - {""} == {f"127.0.0.1:{server.port}"}
            eve.leave()


@pytest.mark.slow  # what is drawn of hostile text is also looked at without a browser, above
@pytest.mark.browser
def test_hostile_names_make_no_picture_and_no_link(said, tmp_path, browser):
    with serving(Path(shutil.copytree(said, tmp_path / "workspace"))) as server:
        eve = Person(browser, server, "eve").open("rewards", dataset="unscored")
        page = eve.page
        page.get_by_text("no reward model has scored").first.wait_for()
        page.get_by_role("combobox", name="Dataset").click()
        page.get_by_role("option").filter(has_text="<img").click()
        page.get_by_text("Read where it goes against").wait_for()
        for view in VIEWS:
            page.get_by_role("radio", name=view, exact=True).click()
            eve.rest()
            page.wait_for_function("() => !document.querySelector('[data-testid=stSkeleton]')")
            assert page.locator('[data-testid="stMain"] img, [data-testid="stMain"] .katex').count() == 0
            assert page.locator('[data-testid="stMain"] a[href*="evil"]').count() == 0
            assert page.locator('[data-testid="stException"]').count() == 0
        assert eve.errors == []
        assert eve.hosts - {""} == {f"127.0.0.1:{server.port}"}
