"""The pages of studies and agreement: set up, watched, settled, changed, taken out. The real app on a real database."""

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from curation import people, ratings_import, studies, study_disputes, study_items, study_numbers
from curation.importing import import_source
from curation.sources import source_of
from curation.store.answers import unpacked_marks
from curation.study_design import READY, Aspect, Design
from curation.study_items import Sample
from curation.workspace import Workspace
from tests.conftest import ROOT, SMALL, Clock, import_rows, numbered
from tests.raters import answer_all, item, set_up
from tests.test_pages import App, opened

pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # of crowd-kit 1.4
VIEWS = ("Progress", "Raters", "Items", "Disputed", "Design", "In and out")
LOOKS = ("Measures", "Generators", "Ratings beside comparisons", "Labels")


@pytest.fixture
def empty(tmp_path, monkeypatch) -> Iterator[App]:
    """The app on an empty workspace."""
    app = opened(tmp_path / "workspace", monkeypatch, "lead")
    yield app
    app.workspace.close()


@pytest.fixture
def sample(tmp_path, monkeypatch) -> Iterator[App]:
    """The app on a workspace with the sample, not screened."""
    app = opened(tmp_path / "workspace", monkeypatch, "lead")
    import_source(app.workspace, source_of(str(ROOT / "data" / "sample.jsonl")), "sample")
    yield app
    app.workspace.close()


@pytest.fixture(scope="module")
def answered(tmp_path_factory) -> Path:
    """A workspace with a study that three people answered: ratings, comparisons, gold, disputes, contradictions, a pause."""
    folder = tmp_path_factory.mktemp("answered") / "workspace"
    clock = Clock()
    with closing(Workspace(folder, clock=clock)) as workspace:
        import_rows(workspace, [*numbered(9), *SMALL])
        design = Design(
            protocol="both", aspects=(Aspect(name="tone", points=5), READY["harmlessness"]), overlap=3, gold_share=0.2,
            reasons=("refusal",), guidelines="# Be kind\n\n![x](http://evil.example/x.png)", pause_gold=2,
        )  # fmt: skip
        studies.create(workspace, "pairs", design, "lead")
        drawn = study_items.from_dataset(workspace, "pairs", "small", Sample(8))
        studies.add_items(workspace, "pairs", drawn.items, "lead", words=drawn.words)
        known = study_items.attention_items("pairs", design, drawn.items, 2)
        studies.add_items(workspace, "pairs", known, "lead", words="attention")
        for number, person in enumerate(("ana", "ben <b>*cy*</b>", "dan")):

            def says(card, question, number=number):
                if not question.response:
                    return 1 + (len(card.prompt[-1].content) + number // 2) % 3
                return 1 + (len(card.texts[question.place] or "") + number) % len(question.values)

            answer_all(workspace, "pairs", person, says, wait=lambda card: clock.forward(seconds=17))
        set_up(workspace, [item(n) for n in range(3)], "nobody yet", protocol="compare", aspects=())
        rows = [
            {"item": f"i{n}", "rater": who, "aspect": aspect, "value": value}
            for n in range(4)
            for place, who in enumerate(("ana", "eve"))
            for aspect, value in (("overall", 12.5 * n + 7 * place), ("safe", ("No", "Unsure", "Yes")[(n + place) % 3]))
        ]
        (folder / "found.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        ratings_import.import_ratings(workspace, "found", folder / "found.jsonl", person="lead", scale=["No", "Unsure", "Yes"])
    return folder


@pytest.fixture
def watched(answered, tmp_path, monkeypatch) -> Iterator[App]:
    """The app on a copy of it."""
    app = opened(Path(shutil.copytree(answered, tmp_path / "workspace")), monkeypatch, "lead")
    yield app
    app.workspace.close()


def study(app: App, name: str, view: str = "Progress", page: str = "studies"):
    """A view of a study."""
    app.at.query_params["study"] = name
    app.at.session_state["study"] = name
    at = app.go(page)
    if len(app.workspace.studies.all()) > 1 and at.selectbox(key="study-choice").value != name:
        at.selectbox(key="study-choice").set_value(name).run()
    at.segmented_control(key="view").set_value(view).run()
    assert list(at.exception) == []
    assert at.segmented_control(key="view").value == view
    return at


def create(at, name: str):
    at.text_input(key="new-name").set_value(name)
    at.button(key="create").click().run()
    assert list(at.exception) == []


# ---- setting one up


def test_a_study_of_a_stratified_sample_is_set_up_as_asked(sample):
    at = sample.go("studies")
    assert at.segmented_control(key="place").value == "New study"
    at.segmented_control(key="new-protocol").set_value("both").run()
    at.segmented_control(key="new-comparison").set_value("strength")
    at.multiselect(key="new-ready").set_value(["helpfulness", "overall"])
    at.text_area(key="new-guidelines").set_value("Read **both**.")
    at.number_input(key="new-overlap").set_value(2)
    at.number_input(key="new-most").set_value(4)
    at.number_input(key="new-gold").set_value(0.25)
    at.multiselect(key="new-reasons").set_value(["refusal"])
    at.number_input(key="new-count").set_value(30)
    at.multiselect(key="new-by").set_value(["length"])
    at.checkbox(key="new-equal").set_value(True)
    at.number_input(key="new-seed").set_value(5)
    at.number_input(key="new-attention").set_value(3)
    create(at, "  first study ")
    assert [one.value for one in at.error] == []
    workspace = sample.workspace
    assert [(name, who) for name, who, _ in workspace.studies.all()] == [("first study", "lead")]
    design = studies.design_of(workspace, "first study")
    assert design == Design(
        guidelines="Read **both**.", protocol="both", aspects=(READY["helpfulness"], READY["overall"]), comparison="strength",
        overlap=2, raters_at_most=4, gold_share=0.25, reasons=("refusal",),
    )  # fmt: skip
    expected = study_items.from_dataset(workspace, "first study", "sample", Sample(30, ("length",), True, 5))
    items = workspace.studies.items("first study")
    assert [one for one, known in items.items() if known.kind == "item"] == [one.item_id for one in expected.items]
    assert sum(one.kind == "attention" for one in items.values()) == 3
    assert at.segmented_control(key="place").value == "Watch a study"
    assert at.segmented_control(key="view").value == "Progress"
    assert "0 of 30" in [one.value for one in at.metric]


def test_a_study_of_nothing_yet_can_be_made_in_an_empty_workspace(empty):
    at = empty.go("studies")
    at.radio(key="new-source").set_value("Nothing yet").run()
    create(at, "one")
    assert studies.design_of(empty.workspace, "one") == Design()
    assert "This study has no items yet" in empty.words()
    assert list(at.error) == []


@pytest.mark.parametrize(
    ("name", "source", "says"),
    [
        ("", "Nothing yet", "cannot be used"),
        ("a/b", "Nothing yet", "cannot be used"),
        ("nobody yet", "Nothing yet", "there is a study"),
        ("new", "A file of items", "no file was chosen"),
        ("new", "Outputs of generators", "no file was chosen"),
    ],
)
def test_bad_input_is_told_in_one_sentence_and_no_study_is_made(watched, name, source, says):
    before = watched.workspace.studies.all()
    at = watched.go("studies", place="New study")
    at.radio(key="new-source").set_value(source).run()
    create(at, name)
    (error,) = at.error
    assert says in error.value.replace("\\", "")
    assert "\n" not in error.value
    assert watched.workspace.studies.all() == before
    assert at.segmented_control(key="place").value == "New study"


def test_a_design_that_does_not_fit_together_is_told_and_not_made(empty):
    at = empty.go("studies")
    at.radio(key="new-source").set_value("Nothing yet")
    at.number_input(key="new-overlap").set_value(5)
    at.number_input(key="new-most").set_value(2).run()
    (warning,) = at.warning
    assert "2 raters at most for an item, but an overlap of 5" in warning.value.replace("\\", "")
    create(at, "one")
    assert empty.workspace.studies.all() == []


def test_an_uploaded_file_of_items_becomes_a_study(empty):
    lines = [
        {
            "item": f"q{n}",
            "prompt": f"Why {n}?",
            "responses": [{"generator": "a", "text": "x"}, {"generator": "b", "text": "y"}],
        }
        for n in range(3)
    ]
    at = empty.go("studies")
    at.radio(key="new-source").set_value("A file of items").run()
    content = "\n".join(map(json.dumps, [*lines, {"prompt": "no responses"}])).encode()
    at.file_uploader(key="new-items").upload("items.jsonl", content, "application/json").run()
    create(at, "one")
    assert [one.name for one in empty.workspace.studies.items("one").values()] == ["q0", "q1", "q2"]
    told = " ".join(one.value for one in at.info).replace("\\", "")
    assert "3 items added" in told
    assert "1 records could not be used, the first items.jsonl line 4" in told


# ---- every view


def test_every_view_of_a_study_opens_with_and_without_answers(watched):
    for name in ("nobody yet", "pairs", "found"):
        for view in VIEWS:
            at = study(watched, name, view)
            assert [one.value for one in at.error] == []
    at = watched.go("studies", place="Sample size")
    plans = [frame.value for frame in at.dataframe]
    assert [len(frame) for frame in plans] == [5, 5]
    assert plans[1]["items"].iloc[0] == 385  # a share of half to within five points


def test_progress_says_how_far_it_is(watched):
    at = study(watched, "pairs")
    now = study_numbers.totals(watched.workspace, "pairs")
    metrics = {one.label: one.value for one in at.metric}
    assert metrics["Items complete"] == f"{now.complete} of 8"
    assert metrics["Answers"] == f"{now.answers} of {now.wanted}"
    assert metrics["Raters"] == str(now.raters)
    assert metrics["Median time an item"] == "17 s"
    figure = people.main_measure(people.tables(watched.workspace, "pairs")["tone"])
    assert f"tone: Krippendorff alpha (ordinal) {figure.words()}" in watched.words()
    assert "/rate?study=pairs&for=raters" in watched.words()
    at = study(watched, "nobody yet")
    assert "nobody has answered" in watched.words()
    assert {one.label: one.value for one in at.metric}["Items complete"] == "0 of 3"


def test_raters_are_numbered_until_names_are_asked_for(watched):
    at = study(watched, "pairs", "Raters")
    assert "ana" not in watched.words()
    assert "Rater 1:" in watched.words()
    at.toggle(key="names").set_value(True).run()
    for name in ("ana", "ben <b>*cy*</b>", "dan"):
        assert f"{name}: " in watched.words()
    paused = [one for one in study_numbers.raters(watched.workspace, "pairs") if one.paused]
    assert paused
    at.button(key=f"on-{paused[0].rater}").click().run()
    assert list(at.exception) == []
    still = {one.rater for one in study_numbers.raters(watched.workspace, "pairs") if one.paused}
    assert still == {one.rater for one in paused[1:]}


def test_items_are_listed_and_narrowed_to_those_not_complete(watched):
    at = study(watched, "pairs", "Items")
    rows = study_numbers.items(watched.workspace, "pairs")
    (frame,) = at.dataframe
    assert frame.value["raters"].tolist() == [one.raters for one in rows]
    assert frame.value["agreement"].fillna(-1).tolist() == [-1 if one.agreement is None else one.agreement for one in rows]
    at.toggle(key="open-only").set_value(True).run()
    left = [one for one in rows if one.raters < one.wanted]
    assert sum(len(one.value) for one in at.dataframe) == len(left)
    assert ("There is none" in watched.words()) == (not left)


# ---- settling


def test_a_disputed_item_is_settled_from_the_page_once_and_again(watched):
    at = study(watched, "pairs", "Disputed")
    workspace = watched.workspace
    dispute = study_disputes.disputed(workspace, "pairs", settled=False)[0]
    item_id = dispute.item_id
    assert f"1 of {len(study_disputes.disputed(workspace, 'pairs'))} · {len(dispute.answers)} raters" in watched.words()
    at.button(key=f"settle-{item_id}").click().run()
    (error,) = at.error
    assert "nothing is settled yet" in error.value
    assert workspace.studies.settlements("pairs") == {}
    first, second = workspace.studies.item(item_id).responses
    wanted = {(first, "tone"): 4.0, (first, "harmlessness"): 5.0, (second, "tone"): 2.0, (second, "harmlessness"): 1.0}
    fields = study_disputes.fields(workspace, "pairs", item_id)
    for number, one in enumerate(fields):
        value = 2.0 if one.second else wanted[one.first, one.aspect]
        at.segmented_control(key=f"settle-{number}-{item_id}-None").set_value(value)
    at.text_input(key=f"why-{item_id}").set_value("because it says so")
    at.button(key=f"settle-{item_id}").click().run()
    assert list(at.exception) == []
    assert "Settled." in watched.words().replace("\\", "")
    standing = workspace.studies.settlements("pairs")[item_id]
    assert (standing.person, standing.note) == ("lead", "because it says so")
    assert standing.seconds is not None
    marks = unpacked_marks(standing.marks)
    assert {(response, aspect): value for response, aspect, value in marks.ratings} == wanted
    ((left, right, choice, strength),) = marks.preferences
    assert ({left, right}, choice, strength) == ({first, second}, "right", None)
    assert (
        len(study_disputes.disputed(workspace, "pairs", settled=False)) == len(study_disputes.disputed(workspace, "pairs")) - 1
    )
    at.segmented_control(key="which").set_value("Settled").run()
    key = f"settle-{len(fields) - 1}-{item_id}-{standing.settlement_id}"
    assert at.segmented_control(key=key).value == 2  # what stands is filled in
    at.segmented_control(key=key).set_value(3)
    at.button(key=f"settle-{item_id}").click().run()
    assert list(at.exception) == []
    again = workspace.studies.settlements("pairs")[item_id]
    assert unpacked_marks(again.marks) == marks._replace(preferences=((left, right, "tie", None),))


def test_a_page_that_is_out_of_date_settles_nothing(watched):
    at = study(watched, "pairs", "Disputed")
    workspace = watched.workspace
    item_id = study_disputes.disputed(workspace, "pairs", settled=False)[0].item_id
    for number, _ in enumerate(study_disputes.fields(workspace, "pairs", item_id)):
        at.segmented_control(key=f"settle-{number}-{item_id}-None").set_value(1.0)
    theirs = study_disputes.disputed(workspace, "pairs")[0].answers[0].marks
    assert study_disputes.settle(workspace, "pairs", item_id, theirs, "somebody else")
    at.button(key=f"settle-{item_id}").click().run()
    assert list(at.exception) == []
    assert workspace.studies.settlements("pairs")[item_id].person == "somebody else"


def test_disputes_are_turned_one_by_one(watched):
    at = study(watched, "pairs", "Disputed")
    count = len(study_disputes.disputed(watched.workspace, "pairs"))
    assert count > 2
    seen = []
    for _ in range(count + 1):
        seen.append(next(one.value.split(" ·")[0] for one in at.text if " raters, agreement " in one.value))
        at.button(key="next").click().run()
    assert seen == [*(f"{n} of {count}" for n in range(1, count + 1)), f"1 of {count}"]
    at = study(watched, "nobody yet", "Disputed")
    assert "No disagreement is open" in watched.words()


def test_ratings_that_were_imported_are_settled_on_their_own_scales(watched):
    at = study(watched, "found", "Disputed")
    workspace = watched.workspace
    item_id = study_disputes.disputed(workspace, "found", settled=False)[0].item_id
    fields = study_disputes.fields(workspace, "found", item_id)
    assert [(one.aspect, one.words) for one in fields] == [("overall", ()), ("safe", ("No", "Unsure", "Yes"))]
    at.number_input(key=f"settle-0-{item_id}-None").set_value(20.25)
    at.segmented_control(key=f"settle-1-{item_id}-None").set_value(2.0)
    at.button(key=f"settle-{item_id}").click().run()
    assert list(at.exception) == []
    held = {one["aspect"]: one["adjudicated"] for one in people.labels(workspace, "found") if one["item"] == item_id}
    assert held == {"overall": 20.25, "safe": 2.0}


# ---- closing, changing


def test_a_study_is_closed_and_opened_again_from_the_page(watched):
    at = study(watched, "pairs")
    at.button(key="close").click().run()
    assert watched.workspace.studies.closed("pairs")
    assert "nobody is handed an item" in watched.words()
    at.button(key="reopen").click().run()
    assert not watched.workspace.studies.closed("pairs")
    kinds = [(one.kind, one.person) for one in watched.workspace.studies.events("pairs", kinds=("closed", "reopened"))]
    assert kinds == [("closed", "lead"), ("reopened", "lead")]


def test_what_widens_a_study_is_saved_and_what_does_not_is_refused_in_a_sentence(watched):
    at = study(watched, "pairs", "Design")
    before = studies.design_of(watched.workspace, "pairs")
    assert "questions are frozen" in watched.words()
    at.text_area(key="change-pairs-guidelines").set_value("Something else.")
    at.button(key="save-design").click().run()
    assert list(at.exception) == []
    (error,) = at.error
    assert "guidelines" in error.value
    assert "cannot change any more" in error.value.replace("\\", "")
    assert studies.design_of(watched.workspace, "pairs") == before
    at.text_area(key="change-pairs-guidelines").set_value(before.guidelines)
    at.number_input(key="change-pairs-overlap").set_value(4)
    at.number_input(key="change-pairs-gold").set_value(0.1)
    at.button(key="save-design").click().run()
    assert list(at.exception) == []
    assert studies.design_of(watched.workspace, "pairs") == before.model_copy(update={"overlap": 4, "gold_share": 0.1})
    assert "Saved: overlap, gold_share." in watched.words().replace("\\", "")
    at.button(key="save-design").click().run()
    assert "Nothing was changed" in watched.words()


def test_items_are_added_from_the_page_and_the_same_ones_only_once(watched):
    at = study(watched, "pairs", "Design")
    for _ in range(2):
        at.number_input(key="more-count").set_value(100)
        at.button(key="add-items").click().run()
        assert list(at.exception) == []
        items = watched.workspace.studies.items("pairs").values()
        assert sum(one.kind == "item" for one in items) == 12  # of 13 pairs one has an empty side
    assert "0 items added" in watched.words()


# ---- in and out


def test_ratings_uploaded_in_words_are_refused_until_their_order_is_given(watched):
    at = study(watched, "nobody yet", "In and out")
    rows = "".join(
        f'{{"item": "x{n}", "rater": "zoe", "aspect": "safe", "value": "{said}"}}\n' for n, said in enumerate(("No", "Yes"))
    )
    at.file_uploader(key="ratings-upload").upload("words.jsonl", rows.encode(), "application/json").run()
    at.button(key="import-ratings").click().run()
    (error,) = at.error
    assert "give their order" in error.value
    assert watched.workspace.answers.count("nobody yet") == 0
    at.text_input(key="scale").set_value("No, Yes")
    at.button(key="import-ratings").click().run()
    assert list(at.exception) == []
    assert [one["value"] for one in watched.workspace.answers.ratings("nobody yet")] == [1, 2]
    assert "2 ratings and 0 preferences by 1 raters on 2 items" in watched.words().replace("\\", "")


def test_the_files_offered_are_those_the_study_has(watched):
    at = study(watched, "pairs", "In and out")
    labels = [one.label.replace("\\", "") for one in at.get("download_button")]
    assert labels == ["pairs-ratings.csv", "pairs-preferences.csv", "pairs-labels.jsonl"]
    at.selectbox(key="form").set_value("mt-bench").run()
    (one,) = at.get("download_button")
    assert one.label.replace("\\", "") == "pairs-preferences.json"
    study(watched, "nobody yet", "In and out")
    assert list(watched.at.get("download_button")) == []


# ---- agreement


def test_every_view_of_agreement_shows_what_the_report_says(watched):
    report = people.report(watched.workspace, "pairs")
    at = study(watched, "pairs", "Measures", page="agreement")
    for name, question in report["questions"].items():
        at.segmented_control(key="of-pairs").set_value(name).run()
        assert list(at.exception) == []
        table = at.dataframe[0].value
        shown = dict(zip(table[""], table["value"], strict=True))
        assert shown == {
            measure: "undefined" if one["value"] is None else f"{one['value']:.3f}"
            for measure, one in question["measures"].items()
        }
    assert "ana" not in watched.words()
    for view in LOOKS[1:]:
        at = study(watched, "pairs", view, page="agreement")
        assert [one.value for one in at.error] == []
    at = study(watched, "pairs", "Generators", page="agreement")
    means = {one.value[""].iloc[0]: one.value for one in at.dataframe}
    assert set(means["chosen"][""]) == {"chosen", "rejected"}
    at = study(watched, "pairs", "Ratings beside comparisons", page="agreement")
    both = report["ratings_and_comparisons"]
    assert f"n={both['same'] + both['against']}" in watched.words()
    assert len(at.expander) == min(20, both["against"])


def test_agreement_without_answers_says_so(watched):
    watched.at.query_params["study"] = watched.at.session_state["study"] = "nobody yet"
    watched.go("agreement")
    assert "Nobody has answered in this study yet" in watched.words()


def test_agreement_without_a_study_says_where_to_set_one_up(empty):
    empty.go("agreement")
    assert "There is no study yet" in empty.words()
