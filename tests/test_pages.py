"""Every page: the first visit, the sample on it, and what it stores. The real app on a real database, widgets found by key."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from curation import overview, plain, review, runs, screening_view, ui
from curation.filters.registry import FILTERS
from curation.review import Settings, Verdict, View
from curation.workspace import Workspace
from tests.browser import Person, chromium, serving
from tests.conftest import ROOT, flag_pairs, hh, import_rows, take_readings, until

PAGES = {
    "overview": "Overview", "datasets": "Datasets", "filters": "Filters", "review": "Review", "adjudicate": "Adjudicate",
    "studies": "Studies",
    "rate": "Rate",
    "agreement": "Agreement",
    "rewards": "Rewards",
    "alignment": "Alignment",
    "runs": "Runs",
}  # fmt: skip
ALL = View(pool="all")


class App:
    """The app in one session, and the workspace it works on."""

    def __init__(self, person: str = "ana") -> None:
        self.at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=300)
        self.at.session_state["person"] = person
        self.at.run()
        self.workspace = ui.workspace()

    def go(self, page: str, **choose: str) -> AppTest:
        """A page, and the tab of this key on it."""
        self.at.switch_page(f"pages/{page}.py").run()
        for key, tab in choose.items():
            self.at.segmented_control(key=key).set_value(tab).run()
        assert list(self.at.exception) == []
        return self.at

    def words(self) -> str:
        """Everything the page says, widgets' labels too."""
        kinds = ("title", "subheader", "caption", "markdown", "text", "info", "success", "warning", "error", "code", "button")
        said = [one for kind in kinds for one in self.at.get(kind)]
        return "\n".join(f"{getattr(one, 'value', '')}{getattr(one, 'label', '')}" for one in said)


def opened(folder: Path, monkeypatch: pytest.MonkeyPatch, person: str = "ana") -> App:
    monkeypatch.setenv("ELEPHANT_WORKSPACE", str(folder))
    return App(person)


@pytest.fixture
def empty(tmp_path, monkeypatch) -> Iterator[App]:
    """The app on an empty workspace."""
    app = opened(tmp_path / "workspace", monkeypatch)
    yield app
    app.workspace.close()


@pytest.fixture(scope="module")
def screened(tmp_path_factory, sample_workspace) -> Path:
    """A workspace with the sample, really screened, and five pairs on which two of three reviewers disagree."""
    folder = Path(shutil.copytree(sample_workspace, tmp_path_factory.mktemp("sample") / "workspace"))
    with closing(Workspace(folder)) as workspace:
        review.change_settings(workspace, "sample", Settings(overlap=2, control_share=0, gold_share=0), "lead")
        for person, choices in {
            "ben": ("vague", "A", "toxic", "A", "A"),
            "cleo": ("toxic", "vague", "A", "empty", "vague"),
        }.items():
            for choice in choices:
                card = review.next_card(workspace, person, "sample")
                review.decide(workspace, card.claim.claim_id, person, choice, note=f"{person} says so", tags=("both bad",))
    return folder


@pytest.fixture
def sample(screened, tmp_path, monkeypatch) -> Iterator[App]:
    """The app on a copy of it."""
    app = opened(Path(shutil.copytree(screened, tmp_path / "workspace")), monkeypatch)
    yield app
    app.workspace.close()


# ---- every page


@pytest.mark.parametrize(
    ("page", "says"),
    [
        ("overview", "Open the sample"), ("datasets", "import one here"), ("filters", "There is no dataset yet"),
        ("review", "There is no dataset yet"), ("adjudicate", "There is no dataset yet"), ("runs", "No run yet"),
        ("studies", "There is no dataset yet"), ("rate", "There is no study yet"), ("agreement", "There is no study yet"),
        ("alignment", "There is no dataset yet"),
    ],
)  # fmt: skip
def test_the_first_visit_of_an_empty_workspace_says_what_to_do(empty, page, says):
    at = empty.go(page)
    assert [one.value for one in at.title] == [PAGES[page]]
    assert says in empty.words()
    assert list(at.error) == []


def test_the_sample_is_opened_and_screened_from_the_overview(empty, sample_workspace):
    take_readings(sample_workspace, empty.workspace.folder)
    at = empty.go("overview")
    next(one for one in at.button if one.label == "Open the sample").click().run()
    assert list(at.exception) == []
    assert [one.imported for one in empty.workspace.pairs.datasets()] == [239]
    until(lambda: bool(runs.settle(empty.workspace)) or bool(empty.workspace.flags.current("sample")))
    at.run()
    assert re.search(r"judge the \d+ flagged pairs", empty.words().replace("\\", ""))


TABS = [
    ("overview", {}), ("datasets", {"datasets-tab": "Browse"}), ("datasets", {"datasets-tab": "Rejects"}),
    ("datasets", {"datasets-tab": "Releases"}), ("datasets", {"datasets-tab": "Import"}),
    ("filters", {"filters-tab": "What they found"}), ("filters", {"filters-tab": "What they are"}),
    ("filters", {"filters-tab": "What they are worth"}), ("filters", {"filters-tab": "What cleaning does"}),
    ("review", {"tab": "Review"}), ("review", {"tab": "My decisions"}), ("review", {"tab": "Settings"}),
    ("adjudicate", {"which": "Open"}), ("adjudicate", {"which": "Settled"}), ("runs", {}),
    ("alignment", {"alignment-view": "Plan"}), ("alignment", {"alignment-view": "Curves"}),
]  # fmt: skip


def test_every_tab_of_every_page_shows_the_sample(sample):
    for page, tab in TABS:
        at = sample.go(page, **tab)
        assert [one.value for one in at.title] == [PAGES[page]]
        assert [one.value for one in at.error] == []
        for key, value in tab.items():
            assert at.segmented_control(key=key).value == value
    sample.at.query_params["dataset"] = "no such one"  # an old address
    sample.go("datasets")


# ---- overview


def test_the_overview_names_the_next_step_and_leads_there(sample):
    at, workspace = sample.go("overview"), sample.workspace
    progress = workspace.verdicts.progress("sample")
    assert progress.reviewed_flagged == 5
    assert f"judge the {progress.flagged - 5:,} flagged pairs" in sample.words()
    step = overview.of(workspace)[0]
    assert step.funnel[:3] == [("imported", progress.pairs), ("flagged", progress.flagged), ("flagged and reviewed", 5)]
    at.button(key="next-sample").click().run()
    assert [one.value for one in at.title] == ["Review"]


# ---- datasets


def found(at: AppTest) -> int:
    """How many rows the browser says it has."""
    return int(next(one.value for one in at.text if "row" in one.value).split()[0].replace(",", ""))


def test_rows_are_searched_and_narrowed(sample):
    at, workspace = sample.go("datasets"), sample.workspace
    assert found(at) == 239
    at.text_input(key="search").set_value("laptop").run()
    assert 0 < found(at) < 10
    assert "laptop fan" in " ".join(at.dataframe[0].value["asked"]) or found(at) > 0
    at.text_input(key="search").set_value("no such words anywhere").run()
    assert "No row fits" in sample.words()
    at.text_input(key="search").set_value("").run()
    at.selectbox(key="browse-filter").set_value("repetitive").run()
    assert found(at) == workspace.pairs.count("sample", filter="repetitive") < 239
    assert all("repetitive" in flags for flags in at.dataframe[0].value["flags"])
    at.selectbox(key="browse-filter").set_value("any or none").run()
    at.selectbox(key="browse-verdict").set_value("toxic").run()
    shown = at.dataframe[0].value
    assert {"toxic"} <= set(" ".join(shown["verdicts"]).replace(",", "").split())
    assert len(shown) == found(at) == len({one.pair_id for one in workspace.verdicts.standing() if one.verdict == "toxic"})


def test_rows_are_narrowed_by_subset_and_turned_page_by_page(empty):
    rows = [{**hh(f"Question {n}?", f"Good {n}.", f"Bad {n}."), "subset": "even" if n % 2 == 0 else "odd"} for n in range(50)]
    import_rows(empty.workspace, rows)
    at = empty.go("datasets")
    assert (found(at), len(at.dataframe[0].value)) == (50, 20)
    at.number_input[0].set_value(3).run()
    assert list(at.dataframe[0].value["row"]) == list(range(40, 50))
    at.selectbox(key="browse-subset").set_value("odd").run()
    assert found(at) == 25
    assert list(at.dataframe[0].value["row"]) == list(range(1, 40, 2))  # the first page of what fits


def test_a_row_is_opened_and_made_gold(sample):
    at, workspace = sample.go("datasets"), sample.workspace
    at.session_state[at.dataframe[0].key] = {"selection": {"rows": [2], "columns": [], "cells": []}}
    at.run()
    assert list(at.exception) == []
    pair_id = next(pair for row, pair, _, _ in workspace.pairs.rows_in_order("sample") if row == 2)
    assert f"row 2, sample.jsonl line 3 · pair {pair_id}" in sample.words()
    at.selectbox(key=f"gold-answer-{pair_id}").set_value("opposite").run()
    at.checkbox(key=f"gold-swap-{pair_id}").check().run()
    at.button(key=f"gold-{pair_id}").click().run()
    turned = workspace.pairs.pair(pair_id).swapped().pair_id
    assert workspace.verdicts.gold("sample") == {turned: "same"}
    at.selectbox(key=f"gold-answer-{pair_id}").set_value("vague").run()
    at.button(key=f"gold-{pair_id}").click().run()
    assert "only same or opposite can be swapped" in sample.words().replace("\\", "")
    assert len(workspace.verdicts.gold("sample")) == 1


def test_a_path_is_imported_and_a_bad_one_told_in_a_sentence(empty, tmp_path):
    file = tmp_path / "some_rows.jsonl"
    file.write_text("".join(json.dumps(hh(f"Q{n}?", "yes", "no")) + "\n" for n in range(3)) + "{broken\n")
    at = empty.go("datasets")
    at.button(key="import-button").click().run()
    assert "Choose a file" in empty.words()
    at.text_input(key="place").set_value(str(tmp_path / "nowhere.jsonl")).run()
    at.button(key="import-button").click().run()
    assert len(at.error) == 1
    assert "nowhere.jsonl" in at.error[0].value.replace("\\", "")
    assert empty.workspace.pairs.datasets() == []
    at.text_input(key="place").set_value(str(file)).run()
    at.button(key="import-button").click().run()
    assert list(at.error) == list(at.exception) == []
    assert "some_rows: 3 rows, 1 rejected" in empty.words().replace("\\", "")
    assert [(one.dataset, one.imported, one.rejected) for one in empty.workspace.pairs.datasets()] == [("some_rows", 3, 1)]
    at = empty.go("datasets", **{"datasets-tab": "Rejects"})
    assert list(at.dataframe[0].value["line"]) == [4]


def test_a_release_made_on_the_page_lies_on_disk_and_its_counts_add_up(sample):
    at = sample.go("datasets", **{"datasets-tab": "Releases"})
    beforehand = at.dataframe[0].value
    at.text_input(key="release-name").set_value("first")
    next(one for one in at.button if one.label == "Release").click().run()
    assert list(at.exception) == list(at.error) == []
    assert "Released first" in sample.words()
    (one,) = sample.workspace.releases.all("sample")
    folder = sample.workspace.folder / one.folder
    manifest = json.loads((folder / "manifest.json").read_text())
    rows = manifest["counts"]["rows"]
    assert rows["total"] == rows["kept"] + rows["swapped"] + rows["dropped"] == 239
    assert beforehand.iloc[0][["total", "kept", "swapped", "dropped"]].to_dict() == {
        name: rows[name] for name in ("total", "kept", "swapped", "dropped")
    }
    assert len((folder / "dropped.jsonl").read_text().splitlines()) == rows["dropped"]
    assert len((folder / "labels.jsonl").read_text().splitlines()) == len(sample.workspace.verdicts.standing("sample"))
    next(one for one in at.button if one.label == "Release").click().run()  # the same name again
    assert len(at.error) == 1
    assert len(sample.workspace.releases.all("sample")) == 1


# ---- filters and runs


def test_a_run_is_started_from_the_page_and_taken_in_when_it_is_over(empty):
    rows = [hh("Name a river.", "The Danube.", ""), hh("Say it.", "So. " * 40, "A good answer to this.")]
    import_rows(empty.workspace, rows)
    at = empty.go("filters")
    assert "not screened yet" in empty.words()
    for name in ("transcript", "vague", "indistinct", "duplicate", "toxic", "contested"):
        at.checkbox(key=f"on-{name}").uncheck().run()
    at.button(key="screen").click().run()
    assert list(at.exception) == []
    (view,) = runs.all_runs(empty.workspace)
    assert set(view.run.config()["filters"]) == {"empty", "repetitive"}
    until(lambda: runs.all_runs(empty.workspace)[0].state.status == "done")
    at.run()
    assert list(at.exception) == []
    assert {one.filter: one.flagged for one in empty.workspace.flags.current("small")} == {"empty": 1, "repetitive": 1}
    at = empty.go("filters", **{"filters-tab": "What they found"})
    assert "Flags per filter and subset" in empty.words()
    empty.go("runs")
    assert view.run.run_id in empty.words()
    assert "small: empty, repetitive" in empty.words()


def test_the_strength_of_labels_is_shown_and_either_tail_opens(sample):
    at = sample.go("filters")
    assert "How strongly models prefer the labels" in sample.words()
    table = screening_view.strengths(sample.workspace, "sample")
    assert len(table) == 234  # distinct pairs
    for end, best in (("against their label", table["mean"].min()), ("for their label", table["mean"].max())):
        at.segmented_control(key="tail").set_value(end).run()
        shown = next(
            one.value for one in at.dataframe if "strength" in one.value.columns and "votes against" in one.value.columns
        )
        assert len(shown) == 20
        assert shown["strength"].tolist() == sorted(shown["strength"], reverse=end == "for their label")
        assert shown["strength"].iloc[0] == best


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("the chosen response says nothing: 'What was chosen?'", "the A response says nothing: 'What was chosen?'"),
        ('the rejected response says: "I\'m chosen, not rejected"', 'the B response says: "I\'m chosen, not rejected"'),
        (
            "the chosen side begins with the other role's marker, unlike the rejected",
            "the A side begins with the other role's marker, unlike the B",
        ),
    ],
)
def test_a_blind_reason_renames_the_sides_but_not_what_a_response_says(reason, shown):
    assert plain.renamed(reason, {"chosen": "A", "rejected": "B"}) == shown


def test_which_model_read_is_said_on_the_page(sample):
    sample.go("filters")
    words = sample.words()
    assert "read by all\\-MiniLM\\-L6\\-v2" in words
    assert "alt\\-profanity\\-check" in words
    toxic = next(one for one in sample.workspace.flags.current("sample") if one.filter == "toxic")
    assert toxic.read_by.endswith("because Detoxify's weights are not on this machine")


def test_policies_are_compared_from_the_page(sample):
    at = sample.go("filters", **{"filters-tab": "What cleaning does"})
    assert "None yet" in sample.words()
    at.button(key="compare").click().run()
    until(lambda: runs.all_runs(sample.workspace)[0].state.status == "done")
    at = sample.go("filters", **{"filters-tab": "What cleaning does"})
    (table,) = [one.value for one in at.dataframe]
    assert table["policy"].tolist()[:2] == ["nothing", "+ verdicts"]
    assert table["rows kept"].iloc[0] == "239"
    assert len(at.warning) == 0
    review.settle(sample.workspace, "sample", sample.workspace.verdicts.disputed("sample")[0][0], Verdict.TOXIC, "lead")
    at = sample.go("filters", **{"filters-tab": "What cleaning does"})
    assert "compare again" in at.warning[0].value


def test_a_threshold_changed_on_the_page_is_what_the_run_is_told(empty):
    import_rows(empty.workspace, [hh("Name a river.", "The Danube.", "")])
    at = empty.go("filters")
    for name in ("vague", "indistinct", "toxic", "contested"):  # which would take seconds
        at.checkbox(key=f"on-{name}").uncheck().run()
    at.number_input(key="repetitive.at_least").set_value(0.9).run()
    at.button(key="screen").click().run()
    (view,) = runs.all_runs(empty.workspace)
    assert view.run.config()["filters"]["repetitive"]["at_least"] == 0.9
    until(lambda: bool(runs.settle(empty.workspace)))
    at = empty.go("filters", **{"filters-tab": "What they are"})
    assert at.number_input(key="repetitive.at_least").value == 0.9  # where the last screening left it


# ---- review


def test_review_settings_are_saved_and_kept(sample):
    at = sample.go("review", tab="Settings")
    assert next(one for one in at.number_input if one.label == "Reviewers for each pair").value == 2
    next(one for one in at.number_input if one.label == "Reviewers for each pair").set_value(3)
    next(one for one in at.checkbox if one.label == "Blind").uncheck()
    next(one for one in at.button if one.label == "Save").click().run()
    assert list(at.exception) == []
    now = review.settings_of(sample.workspace, "sample")
    assert (now.overlap, now.blind, now.reasons) == (3, False, "after")
    at = sample.go("review", tab="Settings")
    assert next(one for one in at.number_input if one.label == "Reviewers for each pair").value == 3


def test_gold_pairs_are_made_of_settled_ones(sample):
    workspace = sample.workspace
    at = sample.go("review", tab="Settings")
    at.button(key="make-gold").click().run()
    assert "There is no settled pair left" in sample.words()
    for pair_id, _, _ in workspace.verdicts.disputed("sample")[:2]:
        review.settle(workspace, "sample", pair_id, Verdict.SAME, "lead")
    at.button(key="make-gold").click().run()
    assert "2 gold pairs made" in sample.words()
    assert sorted(workspace.verdicts.gold("sample").values()) == ["opposite", "same"]  # every second one turned round


def test_a_decision_is_found_in_the_history_opened_again_and_changed(sample):
    workspace = sample.workspace
    at = sample.go("review")
    pair_id = workspace.board.current("ana", "sample").pair_id
    next(one for one in at.button if str(one.key).startswith("vague-")).click().run()
    assert [(one.pair_id, one.verdict) for one in workspace.verdicts.history("ana", "sample")] == [(pair_id, "vague")]
    at = sample.go("review", tab="My decisions")
    next(one for one in at.button if one.label == "Open again").click().run()
    assert list(at.exception) == []
    assert "You decided this pair before" in sample.words()
    assert workspace.board.current("ana", "sample").pair_id == pair_id
    next(one for one in at.button if str(one.key).startswith("toxic-")).click().run()
    assert [(one.pair_id, one.verdict) for one in workspace.verdicts.history("ana", "sample")] == [(pair_id, "toxic")]
    assert workspace.board.current("ana", "sample").pair_id != pair_id


def test_every_key_stands_on_its_button(sample):
    at = sample.go("review")
    keys = {str(one.key).split("-")[0]: one.proto.shortcut for one in at.button if "-" in str(one.key)}
    pressed = {str(one.key).split("-")[1]: one.proto.shortcut for one in at.button if str(one.key).startswith("press-")}
    assert {name: keys[name] for name in ("A", "B", "vague", "toxic", "repetitive", "empty")} == {
        "A": "1", "B": "2", "vague": "0", "toxic": "t", "repetitive": "p", "empty": "e",
    }  # fmt: skip
    assert pressed == {"skip": "space", "undo": "u", "note": "n", "difference": "d", "help": "h"}


def test_a_form_starts_at_the_filters_own_threshold_where_the_last_screening_knew_none(empty):
    (pair_id,) = import_rows(empty.workspace, [hh("Name a river.", "The Danube.", "")])
    flag_pairs(empty.workspace, {pair_id: 0.9}, filter="vague")  # as an older version stored it
    at = empty.go("filters", **{"filters-tab": "What they are"})
    assert at.number_input(key="vague.threshold").value == 0.6


def test_what_was_typed_for_one_dataset_is_no_start_for_another(empty):
    for name in ("one", "two"):
        import_rows(empty.workspace, [hh("Name a river.", "The Danube.", name)], name)
    at = empty.go("filters")
    at.number_input(key="repetitive.at_least").set_value(0.9).run()
    other = "one" if at.selectbox(key="dataset-choice").value == "two" else "two"
    at.selectbox(key="dataset-choice").set_value(other).run()
    assert at.number_input(key="repetitive.at_least").value == FILTERS["repetitive"].model_fields["at_least"].default


def test_findings_below_the_threshold_can_be_looked_at(sample):
    at = sample.go("filters")
    at.selectbox(key="example-filter").set_value("contested").run()
    at.toggle(key="below-contested").set_value(True).run()
    assert list(at.exception) == []
    shown = "".join(one.proto.body for one in at.get("html"))
    scores = [float(text) for text in re.findall(r"<b>contested</b> \(pair, ([0-9.]+)\)", shown)]
    assert len(scores) == 5
    assert max(scores) < 0.75


def test_pairs_are_found_by_meaning_and_their_neighbours_shown(sample):
    at = sample.go("datasets")
    at.segmented_control(key="search-by").set_value("meaning").run()
    at.text_input(key="search").set_value("cooking pasta").run()
    assert list(at.exception) == []
    (shown,) = [one.value for one in at.dataframe]
    assert len(shown) == 20
    assert shown["near"].tolist() == sorted(shown["near"], reverse=True)
    assert "pasta" in " ".join(shown[["asked", "chosen", "rejected"]].iloc[0]).lower()


def test_search_by_meaning_before_anything_is_read_says_what_to_do(empty):
    import_rows(empty.workspace, [hh("Name a river.", "The Danube.", "Water.")])
    at = empty.go("datasets", **{"search-by": "meaning"})
    at.text_input(key="search").set_value("water").run()
    assert "3 of 3 texts of 'small' are not read yet" in at.info[0].value.replace("\\", "")


def test_a_dataset_that_is_not_screened_says_so_in_review(empty):
    import_rows(empty.workspace, [hh("Name a river.", "The Danube.", "Water.")])
    empty.go("review")
    assert "not screened yet" in empty.words()


# ---- adjudicate


def test_a_disagreement_is_settled_once(sample, monkeypatch):
    workspace = sample.workspace
    at = sample.go("adjudicate")
    pair_id = workspace.verdicts.disputed("sample")[0][0]
    assert "1 of 5" in sample.words()
    assert not {"ben", "cleo"} & {line.split(":")[0] for line in sample.words().splitlines()}  # names are hidden at first
    at.toggle(key="names").set_value(True).run()
    assert {"ben", "cleo"} <= {line.split(":")[0] for line in sample.words().splitlines()}
    assert "both bad · ben says so" in sample.words()

    late = App("dan")  # sees the same pair before it is settled
    late.go("adjudicate")
    at.text_input(key=f"why-{pair_id}").set_value("plain insult").run()
    at.button(key=f"toxic-{pair_id}-None").click().run()
    assert "Settled as toxic" in sample.words()
    assert "1 of 4" in sample.words()
    late.at.button(key=f"vague-{pair_id}-None").click().run()
    assert "nothing was recorded" in late.words()
    (settled,) = workspace.verdicts.settlements("sample")
    assert (settled.pair_id, settled.verdict, settled.person, settled.note) == (pair_id, "toxic", "ana", "plain insult")

    at = sample.go("adjudicate", which="Settled")
    assert "Settled as toxic" in sample.words()
    at.button(key=f"vague-{pair_id}-{settled.adjudication_id}").click().run()
    assert [one.verdict for one in workspace.verdicts.settlements("sample")] == ["vague"]


# ---- who is here


def test_a_name_is_asked_for_once(screened, tmp_path, monkeypatch):
    app = opened(Path(shutil.copytree(screened, tmp_path / "workspace")), monkeypatch, person="")
    at = app.go("review")
    assert not [one for one in at.button if str(one.key).startswith("vague-")]
    at.text_input(key="name-given").set_value("  eva  ")
    next(one for one in at.button if one.label == "Start").click().run()
    assert app.workspace.board.current("eva", "sample") is not None
    app.go("adjudicate")
    assert not [one for one in at.text_input if one.key == "name-given"]
    app.workspace.close()


# ---- in a browser, where app.py may not have run


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.mark.browser
@pytest.mark.parametrize("page", list(PAGES))
def test_any_page_may_be_the_first_of_a_fresh_server_and_asks_no_other_machine_for_anything(screened, tmp_path, browser, page):
    folder = Path(shutil.copytree(screened, tmp_path / "workspace"))
    with serving(folder) as server:
        ana = Person(browser, server, "ana").open("" if page == "overview" else page)
        assert ana.page.locator("h1").inner_text() == PAGES[page]
        links = ana.page.locator('[data-testid="stSidebarNavLink"]')
        links.nth(len(PAGES) - 1).wait_for()
        assert links.all_inner_texts() == list(PAGES.values())
        assert ana.page.locator('[data-testid="stException"]').count() == 0
        first = {"datasets": "Rejects", "filters": "What they are", "review": "My decisions", "adjudicate": "Settled"}.get(page)
        if first:  # the first thing done there is not lost
            ana.page.get_by_text(first, exact=True).click()
            said = {
                "Rejects": "Every row could be read", "What they are": "Screen the dataset",
                "My decisions": "You have not decided", "Settled": "Nothing has been settled yet",
            }[first]  # fmt: skip
            ana.page.get_by_text(said).first.wait_for()
        links.filter(has_text="Runs").click()
        ana.page.get_by_role("heading", name="Runs").wait_for()
        assert ana.errors == []
        assert ana.hosts - {""} == {f"127.0.0.1:{server.port}"}


@pytest.mark.browser
def test_a_reviewer_s_link_shows_the_queue_and_nothing_else(screened, tmp_path, browser):
    folder = Path(shutil.copytree(screened, tmp_path / "workspace"))
    with serving(folder) as server:
        bo = Person(browser, server, "bo").open("review", **{"for": "reviewers"})
        assert bo.card()
        assert bo.page.locator('[data-testid="stSidebarNavLink"]').count() == 0
        assert bo.page.get_by_text("Settings", exact=True).count() == 0
        bo.open("datasets", **{"for": "reviewers"})
        bo.page.get_by_role("heading", name="Review").wait_for()
        assert bo.card()
        assert bo.errors == []
