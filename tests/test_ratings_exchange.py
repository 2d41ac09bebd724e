"""Ratings of a study in from files and out to them: nothing lost, nothing doubled, nobody named who need not be."""

import csv
import gzip
import json
import shutil
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from curation import people, rating, ratings_export, ratings_files, studies, study_disputes, study_numbers, tables
from curation.pairs import Response, prompt_id_of, response_id_of, turn
from curation.ratings_export import export_ratings
from curation.ratings_import import import_ratings
from curation.study_design import Aspect, Found
from curation.workspace import Workspace
from tests.conftest import SMALL, Clock, import_rows
from tests.raters import answer_all, id_of, item, set_up

pytest_plugins = ("tests.real_ratings",)
pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # of crowd-kit 1.4

ASPECTS = ("correctness", "overall", "selection")  # of SQuALITY
SCALE = ["No", "Unsure", "Yes"]  # of DICES-350
TONE = (Aspect(name="tone", points=5), Aspect(name="truth", points=3))


def lines(path: Path) -> list[dict[str, str]]:
    """A table of the data, read by the standard library alone."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, records: list[dict[str, object]]) -> Path:
    """Records as a tidy file."""
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def stated(workspace: Workspace, study: str) -> list[tuple]:
    """Every standing rating and preference by content: prompt, text or texts, rater, aspect, value; in no order."""
    found = []
    contents = {one: workspace.studies.content(one) for one in workspace.studies.items(study)}
    for one in workspace.answers.ratings(study):
        content = contents[one["item_id"]]
        found.append((content.prompt, content.texts[one["response_id"]], one["person"], one["aspect"], one["value"]))
    for one in workspace.answers.preferences(study):
        content = contents[one["item_id"]]
        sides = content.texts[one["left_id"]], content.texts[one["right_id"]]
        found.append((content.prompt, *sides, one["person"], one["choice"], one["strength"]))
    return sorted(found, key=repr)


# ---- published ratings


def test_every_rating_of_squality_is_in_the_study_and_none_besides(real_squality, data):
    records = lines(data / "ratings" / "squality.csv.gz")
    items, raters = {one["item_id"] for one in records}, {one["rater"] for one in records}
    answers = {(one["item_id"], one["rater"]) for one in records}
    taken = real_squality.taken
    assert taken[:7] == (len(records), 0, len(items), len(raters), len(answers), len(answers), "tidy")
    assert (len(records), len(items), len(raters), len(answers)) == (2700, 100, 4, 300)
    assert taken.unused == []
    with closing(Workspace(real_squality.folder)) as workspace:
        said = [(one[1], one[2], one[3], one[4]) for one in stated(workspace, "squality")]
        names = {item.name for item in workspace.studies.items("squality").values()}
        written = {
            (item_id, response_id): writers
            for item_id, by in workspace.studies.generators("squality").items()
            for response_id, writers in by.items()
        }
        kept = Counter(
            (workspace.studies.item(item_id).name, workspace.studies.content(item_id).texts[response_id], *writers)
            for (item_id, response_id), writers in written.items()
        )
        found = {one.name: (one.low, one.high, one.words) for one in studies.design_of(workspace, "squality").found}
        assert workspace.studies.closed("squality")
    assert Counter(said) == Counter((one["response"], one["rater"], one["aspect"], float(one["value"])) for one in records)
    values = {name: [float(one["value"]) for one in records if one["aspect"] == name] for name in ASPECTS}
    assert found == {name: (min(known), max(known), ()) for name, known in values.items()}
    assert names == items
    assert kept == Counter({(one["item_id"], one["response"], one["generator"]) for one in records})


def test_every_rating_of_dices_is_in_the_study_with_its_conversation(real_dices, data):
    records = lines(data / "ratings" / "dices350.csv.gz")
    with gzip.open(data / "ratings" / "dices350_items.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = {str(one["item_id"]): one for one in map(json.loads, file)}
    counts = Counter(one["value"] for one in records)
    taken = real_dices.taken
    assert taken[:6] == (len(records), 0, len(texts), len({one["rater"] for one in records}), len(records), len(records))
    assert taken.unused == []
    with closing(Workspace(real_dices.folder)) as workspace:
        values = Counter(one["value"] for one in workspace.answers.ratings("dices"))
        (found,) = studies.design_of(workspace, "dices").found
        items = {one.name: one for one in workspace.studies.items("dices").values()}
        for name in list(texts)[::50]:
            content = workspace.studies.content(items[name].item_id)
            assert content.prompt == (turn("user", texts[name]["prompt"]),)
            assert list(content.texts.values()) == [texts[name]["response"]]
            assert items[name].responses == (id_of(texts[name]["prompt"], texts[name]["response"]),)
    assert values == {1.0: counts["No"], 2.0: counts["Unsure"], 3.0: counts["Yes"]}
    assert found == Found(name="safe", low=1, high=3, words=tuple(SCALE))


def test_importing_the_same_ratings_again_changes_nothing(real_squality, data, tmp_path):
    folder = Path(shutil.copytree(real_squality.folder, tmp_path / "workspace"))
    with closing(Workspace(folder)) as workspace:
        before = (stated(workspace, "squality"), workspace.studies.items("squality"), workspace.studies.events("squality"))
        again = import_ratings(workspace, "squality", data / "ratings" / "squality.csv.gz", person="somebody else")
        assert (again.new, again.answers, again.ratings, again.unused) == (0, 300, 2700, [])
        after = (stated(workspace, "squality"), workspace.studies.items("squality"), workspace.studies.events("squality"))
    assert after == before


def test_words_without_their_order_are_one_sentence_and_nothing_is_taken(workspace, data):
    with pytest.raises(ValueError, match="--scale No,Unsure,Yes") as refused:
        import_ratings(workspace, "dices", data / "ratings" / "dices350.csv.gz", person="lead")
    assert "\n" not in str(refused.value)
    assert workspace.studies.all() == []
    assert workspace.answers.count("dices") == 0


def test_a_response_has_the_id_that_the_same_response_has_in_a_dataset(workspace, tmp_path):
    (pair_id, *_) = import_rows(workspace, SMALL)
    (pair,) = workspace.pairs.many([pair_id])
    assert pair.chosen.text == "The Danube."
    file = write(tmp_path / "r.jsonl", [{"prompt": "Name a river.", "response": "The Danube.", "rater": "ana", "value": 3}])
    import_ratings(workspace, "one", file, person="lead")
    (one,) = workspace.answers.ratings("one")
    assert (one["prompt_id"], one["response_id"]) == (pair.prompt_id, pair.chosen_id)


# ---- out and in again


def tone_study(workspace: Workspace, name: str = "one", count: int = 4, **design) -> str:
    """A study with subsets, a gold and an attention item, in which three people rated and compared everything."""
    rows = [item(n, subset="even" if n % 2 == 0 else "odd") for n in range(count)]
    known = {"better": "a", "ratings": [{"generator": "a", "aspect": "tone", "low": 4, "high": 5}]}
    rows += [item(90, kind="gold", expected=known), item(91, kind="attention", expected={"better": "b"})]
    return set_up(
        workspace, rows, name, protocol="both", aspects=TONE, reasons=("wrong facts",), **{"gold_share": 0.3, **design}
    )


def answered(workspace: Workspace, clock: Clock, study: str = "one") -> str:
    """Three people answer all of it, each in another way, with a note and a reason here and there."""
    for place, person in enumerate(("ana", "ben", "cy")):
        count = 0

        def says(card, question, place=place):
            number = int(card.prompt[-1].content.split()[-1])
            if not question.response:
                return 1 + (number + place) % 4
            return 1 + (number + place + len(question.aspect) + (card.texts[question.place] or "").endswith("a")) % (
                5 if question.aspect == "tone" else 3
            )

        def wait(card, person=person):
            nonlocal count
            count += 1
            clock.forward(seconds=10 + count)
            if person == "ben":
                rating.write(workspace, card.claim.claim_id, person, f"note {count}", ["wrong facts"])

        assert answer_all(workspace, study, person, says, wait=wait) >= 4
    return study


def same_tables(one: Workspace, study: str, other: Workspace, imported: str, names: dict[str, str]) -> None:
    """Both studies say the same by content, whatever their ids and whoever is called what."""

    def content(workspace: Workspace, found: dict[str, people.Table], called: dict[str, str]) -> dict[str, set[tuple]]:
        said: dict[str, set[tuple]] = {}
        for name, table in found.items():
            cells = set()
            for place, column in np.argwhere(~np.isnan(table.values)):
                unit = table.units[place]
                content = workspace.studies.content(unit.item_id)
                texts = tuple(content.texts[one] for one in (unit.first, unit.second) if one)
                rater = called.get(table.raters[column], table.raters[column])
                cells.add((content.prompt, texts, table.subsets[place], rater, table.values[place, column]))
            said[name] = cells
        return said

    before, after = people.tables(one, study), people.tables(other, imported)
    assert content(one, before, names) == content(other, after, {})
    assert {name: table.kind for name, table in before.items()} == {name: table.kind for name, table in after.items()}
    for name, table in before.items():  # redrawn together by the same prompts: the same figures with the same intervals
        assert len(set(table.prompts)) == len(set(after[name].prompts))


@pytest.mark.parametrize("comparison", ["choice", "strength"])
@pytest.mark.parametrize(
    ("form", "ending"),
    [
        ("tidy", "csv"),
        ("tidy", "jsonl"),
        ("tidy", "parquet"),
        ("argilla", "json"),
        ("label-studio", "json"),
    ],
)
def test_what_is_exported_is_imported_elsewhere_as_the_same_tables(workspace, clock, tmp_path, form, ending, comparison):
    answered(workspace, clock, tone_study(workspace, comparison=comparison))
    assert set(people.tables(workspace, "one")) == {"tone", "truth", "comparison"}
    with closing(Workspace(tmp_path / "other")) as other:
        for kind in ("ratings", "preferences"):
            file = tmp_path / f"{kind}.{ending}"
            assert export_ratings(workspace, "one", file, kind=kind, form=form) > 0
            assert import_ratings(other, "again", file, person="lead").unused == []
        pseudonyms = workspace.releases.pseudonyms()
        assert set(pseudonyms) == {"ana", "ben", "cy"}
        same_tables(workspace, "one", other, "again", pseudonyms)
        assert {one.kind for one in other.studies.items("again").values()} == {"item", "gold", "attention"}


def test_what_is_exported_as_judgments_is_imported_elsewhere_as_the_same_preferences(workspace, clock, tmp_path):
    answered(workspace, clock, tone_study(workspace))
    file = tmp_path / "judgments.jsonl"
    export_ratings(workspace, "one", file, kind="preferences", form="mt-bench")
    with closing(Workspace(tmp_path / "other")) as other:
        taken = import_ratings(other, "again", file, person="lead")
        assert (taken.form, taken.unused, taken.ratings) == ("mt-bench", [], 0)
        before = people.tables(workspace, "one")["comparison"]
        after = people.tables(other, "again")["comparison"]
        assert before.values.shape == after.values.shape == (4, 3)
        assert before.units != after.units  # other items, but the same prompts and texts
        texts = [
            sorted(
                (opened.studies.content(unit.item_id).prompt[0].content, *map(float, row))
                for unit, row in zip(table.units, table.values, strict=True)
            )
            for opened, table in ((workspace, before), (other, after))
        ]
        assert texts[0] == texts[1]


def test_values_in_words_come_back_as_words(workspace, tmp_path):
    given = [
        {"item": f"i{n}", "rater": who, "aspect": "safe", "value": SCALE[(n + k) % 3]}
        for n in range(5)
        for k, who in enumerate("ab")
    ]
    import_ratings(workspace, "one", write(tmp_path / "in.jsonl", given), person="lead", scale=SCALE)
    export_ratings(workspace, "one", tmp_path / "out.csv", names=True)
    with (tmp_path / "out.csv").open(newline="") as file:
        out = [(one["item"], one["rater"], one["aspect"], one["value"]) for one in csv.DictReader(file)]
    assert sorted(out) == sorted((one["item"], one["rater"], one["aspect"], one["value"]) for one in given)
    with closing(Workspace(tmp_path / "other")) as other:
        import_ratings(other, "again", tmp_path / "out.csv", person="lead", scale=SCALE)
        assert stated(other, "again") == stated(workspace, "one")


@pytest.mark.parametrize("names", [False, True])
@pytest.mark.parametrize(
    ("form", "ending"), [("tidy", "csv"), ("tidy", "jsonl"), ("tidy", "parquet"), ("argilla", "json"), ("label-studio", "json")]
)
def test_a_studys_own_export_adds_nothing_to_it(workspace, clock, tmp_path, form, ending, names):
    answered(workspace, clock, tone_study(workspace))
    before = stated(workspace, "one"), workspace.studies.items("one"), workspace.answers.standing("one")
    for kind in ("ratings", "preferences"):
        export_ratings(workspace, "one", tmp_path / f"{kind}.{ending}", kind=kind, form=form, names=names)
        taken = import_ratings(workspace, "one", tmp_path / f"{kind}.{ending}", person="lead")
        assert (taken.new, taken.unused) == (0, [])
    assert (stated(workspace, "one"), workspace.studies.items("one"), workspace.answers.standing("one")) == before


def test_a_study_that_was_imported_takes_its_own_export_without_a_change(real_squality, tmp_path):
    folder = Path(shutil.copytree(real_squality.folder, tmp_path / "workspace"))
    with closing(Workspace(folder)) as workspace:
        before = stated(workspace, "squality")
        export_ratings(workspace, "squality", tmp_path / "out.jsonl")
        assert import_ratings(workspace, "squality", tmp_path / "out.jsonl", person="lead").new == 0
        assert stated(workspace, "squality") == before


def test_somebody_elses_pseudonym_is_nobody_here(workspace, clock, tmp_path):
    """Two teams rate the same items: rater-1 of the one is not rater-1 of the other."""
    answered(workspace, clock, tone_study(workspace))
    export_ratings(workspace, "one", tmp_path / "ours.json", form="argilla")
    with closing(Workspace(tmp_path / "other", clock=clock)) as other:
        tone_study(other)
        answer_all(other, "one", "zoe", lambda card, question: 2)
        export_ratings(other, "one", tmp_path / "theirs.json", form="argilla")
        assert other.releases.pseudonyms() == {"zoe": "rater-1"}
        given = len(other.answers.standing("one"))
    before = [one for one in stated(workspace, "one") if one[2] == "ana"]
    assert import_ratings(workspace, "one", tmp_path / "theirs.json", person="lead").new == given
    assert [one for one in stated(workspace, "one") if one[2] == "ana"] == before
    assert workspace.answers.tally("one")[1] == 4


# ---- what cannot be used


def test_every_record_that_cannot_be_used_is_named_with_its_line_and_loses_no_other(workspace, tmp_path):
    set_up(workspace, [item(0, name="q0"), item(1, name="q1")], aspects=TONE)
    one = {"item": "q0", "prompt": "question 0", "response": "answer 0 of a", "aspect": "tone", "rater": "ana"}
    file = write(
        tmp_path / "r.jsonl",
        [
            {**one, "value": 4},
            {**one, "value": 6, "rater": "off"},
            {**one, "value": 2.5, "rater": "between"},
            {**one, "value": 2, "rater": "ben"},
            {**one, "value": 3, "rater": "ben"},
            {**one, "value": 3, "rater": "cy", "prompt": "another question"},
            {**one, "value": 0, "rater": "low"},
            {**one, "item": "q1", "prompt": "question 1", "response": "answer 1 of b", "value": 1},
        ],
    )  # fmt: skip
    taken = import_ratings(workspace, "one", file, person="lead")
    assert [line for line, _ in taken.unused] == [2, 3, 4, 6, 7]
    reasons = dict(taken.unused)
    assert reasons[2] == "the value of tone is 6: this study's scale has 1 to 5"
    assert reasons[3] == "the value of tone is 2.5: this study's scale has 1 to 5"
    assert reasons[4] == "ben says this again on line 5, which stands"
    assert "'q0' came with another prompt" in reasons[6]
    assert reasons[7] == "the value of tone is 0: this study's scale has 1 to 5"
    assert [(row["line"], row["reason"], row["file"]) for row in workspace.studies.rejects("one")] == [
        (*pair, "r.jsonl") for pair in taken.unused
    ]
    values = {(one["person"], one["name"]): one["value"] for one in workspace.answers.ratings("one")}
    assert values == {("ana", "q0"): 4, ("ben", "q0"): 3, ("ana", "q1"): 1}
    assert "5 records were not used, the first on line 2" in taken.words()


def test_comparisons_on_an_aspect_are_named_and_lose_no_other(workspace, tmp_path):
    one = {"prompt": "Why?", "left": "Because.", "right": "No.", "rater": "ana", "choice": "left"}
    taken = import_ratings(workspace, "one", write(tmp_path / "p.jsonl", [{**one, "aspect": "tone"}, one]), person="lead")
    assert (taken.preferences, taken.new) == (1, 1)
    assert taken.unused == [(1, "a comparison on 'tone': only comparisons of the whole response are kept")]
    assert [row["line"] for row in workspace.studies.rejects("one")] == [1]


def test_an_aspect_by_the_name_of_comparisons_is_refused_row_by_row(workspace, tmp_path):
    one = {"item": "i", "rater": "ana", "value": 3}
    file = write(tmp_path / "r.jsonl", [{**one, "aspect": "comparison"}, {**one, "aspect": "tone"}])
    taken = import_ratings(workspace, "one", file, person="lead")
    assert ([line for line, _ in taken.unused], taken.new) == ([1], 1)
    assert "called otherwise" in taken.unused[0][1]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400"])
def test_a_value_that_is_no_finite_number_is_named_and_loses_no_other(workspace, tmp_path, value):
    set_up(workspace, [item(0, name="q0")], aspects=TONE)
    one = {"item": "q0", "response": "answer 0 of a", "aspect": "tone"}
    file = write(tmp_path / "r.jsonl", [{**one, "rater": "ana", "value": 4}, {**one, "rater": "ben", "value": value}])
    taken = import_ratings(workspace, "one", file, person="lead")
    assert ([line for line, _ in taken.unused], taken.new) == ([2], 1)
    file = write(tmp_path / "s.jsonl", [{**one, "rater": "ana", "value": 4}, {**one, "rater": "ben", "value": value}])
    assert import_ratings(workspace, "found", file, person="lead").new == 1
    (table,) = people.tables(workspace, "found").values()
    assert np.isfinite(table.values).all()


def test_a_word_that_is_not_on_the_scale_is_named_with_the_scale(workspace, tmp_path):
    rows = [{"item": "i", "rater": who, "value": said} for who, said in (("ana", "No"), ("ben", "Maybe"), ("cy", "Yes"))]
    taken = import_ratings(workspace, "one", write(tmp_path / "r.jsonl", rows), person="lead", scale=["No", "Yes"])
    assert taken.unused == [(2, "the value is 'Maybe': expected one of No, Yes")]
    assert [one["value"] for one in workspace.answers.ratings("one")] == [1, 2]


def test_words_for_an_aspect_whose_values_were_numbers_are_refused_and_nothing_is_taken(workspace, tmp_path):
    numbers = [{"item": "i", "rater": "ana", "value": 7}]
    import_ratings(workspace, "one", write(tmp_path / "n.jsonl", numbers), person="lead")
    words = write(tmp_path / "w.jsonl", [{"item": "i", "rater": "ben", "value": "Yes"}])
    with pytest.raises(ValueError, match="line 1: the value is 'Yes': expected a number"):
        import_ratings(workspace, "one", words, person="lead", scale=["No", "Yes"])
    assert [one["value"] for one in workspace.answers.ratings("one")] == [7]
    assert export_ratings(workspace, "one", tmp_path / "out.csv") == 1


def test_a_file_without_a_usable_record_makes_no_study(workspace, tmp_path):
    file = write(tmp_path / "r.jsonl", [{"item": "i", "rater": "", "value": 1}])
    with pytest.raises(ValueError, match=r"'r\.jsonl' has no rating and no preference that can be used: line 1: "):
        import_ratings(workspace, "one", file, person="lead")
    assert workspace.studies.all() == []


# ---- into a study that is there


def test_ratings_by_item_id_by_name_and_by_content_reach_the_studys_own_items(workspace, tmp_path):
    set_up(workspace, [item(0), item(1, name="q1"), item(2)], aspects=TONE)
    ids = {one.name or content.prompt[0].content: item_id for item_id, one in workspace.studies.items("one").items()
           for content in [workspace.studies.content(item_id)]}  # fmt: skip
    rows = [
        {"item": ids["question 0"], "response": "answer 0 of b", "rater": "ana", "aspect": "tone", "value": 1},
        {"item": "q1", "generator": "a", "rater": "ana", "aspect": "tone", "value": 2},
        {"prompt": "question 2", "response": "answer 2 of a", "rater": "ana", "aspect": "tone", "value": 3},
    ]
    before = workspace.studies.items("one")
    assert import_ratings(workspace, "one", write(tmp_path / "r.jsonl", rows), person="lead").unused == []
    assert workspace.studies.items("one") == before
    found = {(one["item_id"], one["response_id"]): one["value"] for one in workspace.answers.ratings("one")}
    assert found == {
        (ids["question 0"], id_of("question 0", "answer 0 of b")): 1,
        (ids["q1"], id_of("question 1", "answer 1 of a")): 2,
        (ids["question 2"], id_of("question 2", "answer 2 of a")): 3,
    }
    rows = study_numbers.items(workspace, "one")
    assert [one.raters for one in rows] == [1, 1, 1]


def test_a_comparison_by_content_reaches_the_item_that_has_both_responses(workspace, tmp_path):
    texts = {name: f"answer of {name}" for name in "abc"}
    pairs = [{name: texts[name] for name in two} for two in ("ab", "ac", "bc")]
    set_up(workspace, [item(n, two, prompt="Why?") for n, two in enumerate(pairs)], protocol="compare", aspects=())
    before = workspace.studies.items("one")
    rows = [
        {"prompt": "Why?", "left": texts[one], "right": texts[other], "rater": "ana", "choice": "left"}
        for one, other in ("ca", "cb", "ab")
    ]
    assert import_ratings(workspace, "one", write(tmp_path / "p.jsonl", rows), person="lead").unused == []
    assert workspace.studies.items("one") == before  # and no item got a third response
    for one in workspace.answers.preferences("one"):
        assert {one["left_id"], one["right_id"]} == set(before[one["item_id"]].responses)
    assert len(workspace.answers.preferences("one")) == 3


def test_an_item_that_raters_are_asked_about_gets_no_response_from_a_file_of_ratings(workspace, tmp_path):
    set_up(workspace, [item(0, name="q0")], protocol="compare", aspects=())
    before = workspace.studies.items("one")
    rows = [
        {
            "item": "q0",
            "prompt": "question 0",
            "left": "answer 0 of a",
            "right": "answer 0 of c",
            "rater": "ana",
            "choice": "left",
        },
        {
            "item": "q0",
            "prompt": "question 0",
            "left": "answer 0 of b",
            "right": "answer 0 of a",
            "rater": "ana",
            "choice": "tie",
        },
    ]
    taken = import_ratings(workspace, "one", write(tmp_path / "p.jsonl", rows), person="lead")
    assert [line for line, _ in taken.unused] == [1]
    assert workspace.studies.items("one") == before
    card = rating.next_card(workspace, "one", "ben")
    assert [one.key for one in card.questions] == ["comparison"]


def test_a_scale_that_a_file_brings_is_kept_beside_those_of_the_study(workspace, clock, tmp_path):
    set_up(workspace, [item(0, name="q0")], aspects=TONE)
    rows = [{"item": "q0", "generator": "a", "rater": "ana", "aspect": "charm", "value": value} for value in (17,)]
    rows += [{"item": "q0", "generator": "b", "rater": "ana", "aspect": "charm", "value": 90}]
    import_ratings(workspace, "one", write(tmp_path / "r.jsonl", rows), person="lead")
    design = studies.design_of(workspace, "one")
    assert (design.aspects, design.found) == (TONE, (Found(name="charm", low=17, high=90),))
    rows = [{"item": "q0", "generator": "a", "rater": "ben", "aspect": "charm", "value": 3}]
    import_ratings(workspace, "one", write(tmp_path / "s.jsonl", rows), person="lead")
    assert studies.design_of(workspace, "one").found == (Found(name="charm", low=3, high=90),)


def test_choices_and_strengths_together_are_compared_as_choices(workspace, tmp_path):
    one = {"prompt": "Why?", "left": "Because.", "right": "No."}
    rows = [
        {**one, "rater": "ana", "choice": "left"},
        {**one, "rater": "ben", "strength": -2},
        {**one, "rater": "cy", "strength": 3},
    ]
    import_ratings(workspace, "one", write(tmp_path / "p.jsonl", rows), person="lead")
    table = people.tables(workspace, "one")["comparison"]
    (unit,) = table.units
    left = id_of("Why?", "Because.")
    first, second = (1.0, 2.0) if unit.first == left else (2.0, 1.0)
    assert (table.kind, table.raters, table.values.tolist()) == ("choice", ("ana", "ben", "cy"), [[first, first, second]])


def test_a_study_of_ratings_and_preferences_holds_both(workspace, tmp_path):
    rated = [{"prompt": "Why?", "response": "Because.", "rater": "ana", "value": 3, "generator": "m"}]
    compared = [{"prompt": "Why?", "left": "Because.", "right": "No.", "rater": "ana", "choice": "right"}]
    import_ratings(workspace, "one", write(tmp_path / "r.jsonl", rated), person="lead")
    import_ratings(workspace, "one", write(tmp_path / "p.jsonl", compared), person="lead")
    (one,) = workspace.studies.items("one").values()
    assert set(one.responses) == {id_of("Why?", "Because."), id_of("Why?", "No.")}
    assert len(workspace.studies.item(one.item_id).responses) == 2
    assert {name: len(table.units) for name, table in people.tables(workspace, "one").items()} == {
        "overall": 1,
        "comparison": 1,
    }


# ---- what is in an export


def test_an_export_says_who_only_when_asked_and_calls_the_same_person_the_same(workspace, clock, tmp_path):
    answered(workspace, clock, tone_study(workspace))

    def raters(study: str, kind: str, **names: bool) -> list[str]:
        path = tmp_path / "out.csv"
        export_ratings(workspace, study, path, kind=kind, **names)
        text = path.read_text()
        with path.open(newline="") as file:
            called = [one["rater"] for one in csv.DictReader(file)]
        assert any(name in text for name in ("ana", "ben")) == bool(names)
        return called

    first = raters("one", "ratings")
    assert set(first) == {"rater-1", "rater-2", "rater-3"}
    assert raters("one", "ratings") == first
    assert set(raters("one", "preferences")) == set(first)
    assert set(raters("one", "ratings", names=True)) == {"ana", "ben", "cy"}
    pseudonyms = workspace.releases.pseudonyms()
    answered(workspace, clock, tone_study(workspace, "two", count=5))
    answer_all(workspace, "two", "abe", lambda card, question: 1)  # comes first by name, and last
    called = Counter(raters("two", "ratings"))
    named = Counter(raters("two", "ratings", names=True))
    after = workspace.releases.pseudonyms()
    assert {name: after[name] for name in pseudonyms} == pseudonyms
    assert called == Counter({after[name]: count for name, count in named.items()})


def test_timings_the_order_shown_and_claims_are_in_the_export(workspace, clock, tmp_path):
    answered(workspace, clock, tone_study(workspace))
    answers = {one.claim_id: one for one in workspace.answers.standing("one")}
    for ending in ("csv", "jsonl", "parquet"):
        export_ratings(workspace, "one", tmp_path / f"r.{ending}", names=True)
        export_ratings(workspace, "one", tmp_path / f"p.{ending}", kind="preferences", names=True)
        rated = ratings_files.read(tmp_path / f"r.{ending}").rows
        compared = ratings_files.read(tmp_path / f"p.{ending}").rows
        assert len(rated) == sum(len(one.marks.ratings) for one in answers.values())
        assert len(compared) == len(answers)
        for row in [*rated, *compared]:
            answer = answers[row.claim]
            assert (row.rater, row.seconds, row.at, row.kind) == (
                answer.person,
                answer.seconds,
                answer.answered_at,
                answer.kind,
            )
            wrote = [*answer.reasons, *([answer.note] if answer.note else [])]
            assert row.note == "; ".join(wrote)
            assert (row.note != "") == (row.rater == "ben")
        for row in rated:
            answer = answers[row.claim]
            shown = answer.shown[row.shown - 1]
            assert shown == response_id_of(prompt_id_of(row.prompt), Response(row.response))
            assert (shown, row.aspect, float(row.value)) in answer.marks.ratings
        for row in compared:
            ((left, right, choice, _),) = answers[row.claim].marks.preferences
            told = [response_id_of(prompt_id_of(row.prompt), Response(text)) for text in (row.left, row.right)]
            assert (told, row.choice) == ([left, right], choice)
    assert {one.seconds for one in answers.values()} != {None}


def test_the_order_shown_and_timings_are_kept_by_who_imports_them(workspace, clock, tmp_path):
    answered(workspace, clock, tone_study(workspace))
    export_ratings(workspace, "one", tmp_path / "p.jsonl", kind="preferences")
    with closing(Workspace(tmp_path / "other")) as other:
        import_ratings(other, "again", tmp_path / "p.jsonl", person="lead")
        for ours, theirs in zip(
            sorted(workspace.answers.standing("one"), key=lambda one: one.answered_at),
            sorted(other.answers.standing("again"), key=lambda one: one.answered_at),
            strict=True,
        ):
            assert (ours.seconds, ours.answered_at, ours.shown) == (theirs.seconds, theirs.answered_at, theirs.shown)
            assert theirs.kind == "imported"


def test_notes_and_reasons_do_not_keep_judgments_from_being_exported(workspace, clock, tmp_path):
    answered(workspace, clock, tone_study(workspace))
    assert any(one.note for one in workspace.answers.standing("one"))
    written = export_ratings(workspace, "one", tmp_path / "j.jsonl", kind="preferences", form="mt-bench")
    records = [json.loads(line) for line in (tmp_path / "j.jsonl").read_text().splitlines()]
    assert written == len(records) == 12  # 4 items of 3 people: a form that cannot tell them from others gets no gold items
    assert {one["judge"] for one in records} == {"rater-1", "rater-2", "rater-3"}
    assert {one["winner"] for one in records} <= {"model_a", "model_b", "tie", "tie (bothbad)"}


def test_an_export_of_nothing_is_refused_in_a_sentence(workspace, tmp_path):
    set_up(workspace, [item(0)])
    with pytest.raises(ValueError, match="'one' has no ratings yet"):
        export_ratings(workspace, "one", tmp_path / "out.csv")
    with pytest.raises(ValueError, match="no study 'none': there is one"):
        export_ratings(workspace, "none", tmp_path / "out.csv")
    assert ratings_export.files(workspace, "one") == []
    assert not (tmp_path / "out.csv").exists()


def test_the_files_of_a_study_are_what_the_command_writes(workspace, clock, tmp_path):
    answered(workspace, clock, tone_study(workspace))
    files = {one.name: one.write for one in ratings_export.files(workspace, "one")}
    assert list(files) == ["one-ratings.csv", "one-preferences.csv", "one-labels.jsonl"]
    for kind in ("ratings", "preferences"):
        export_ratings(workspace, "one", tmp_path / f"{kind}.csv", kind=kind)
        assert files[f"one-{kind}.csv"]() == (tmp_path / f"{kind}.csv").read_bytes()
    ratings_export.export_labels(workspace, "one", tmp_path / "labels.jsonl")
    assert files["one-labels.jsonl"]() == (tmp_path / "labels.jsonl").read_bytes()
    assert [one.name for one in ratings_export.files(workspace, "one", form="mt-bench")] == ["one-preferences.json"]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_labels_are_written_in_every_form(workspace, clock, tmp_path, ending):
    answered(workspace, clock, tone_study(workspace))
    path = tmp_path / f"labels.{ending}"
    labels = people.labels(workspace, "one")
    assert ratings_export.export_labels(workspace, "one", path) == len(labels) == 4 * (2 * 2 + 1)
    read = list(tables.read(path))
    assert [str(one["response"]) for one in read] == [one["response"] for one in labels]
    assert {name for one in read for name in one} == set(people.LABEL_COLUMNS)


# ---- what a fresh reader found


def test_one_text_of_two_generators_rated_differently_by_one_rater_is_named(workspace, tmp_path):
    rows = [
        {"item": "q", "response": "yes", "generator": name, "rater": "ana", "value": value}
        for name, value in (("m", 1), ("n", 5))
    ]
    taken = import_ratings(workspace, "one", write(tmp_path / "twice.jsonl", rows), person="lead")
    assert (taken.ratings, len(taken.unused)) == (1, 1)
    assert taken.unused[0] == (2, "ana says another thing of the same text on line 1: expected one value")


def test_two_turns_judged_without_their_texts_are_two_comparisons(workspace, tmp_path):
    rows = [
        {
            "item": f"q{n}",
            "left_generator": "m",
            "right_generator": "n",
            "rater": "judge",
            "choice": choice,
            "aspect": f"turn {turn}",
        }
        for n in range(5)
        for turn, choice in ((1, "left"), (2, "right"))
    ]
    assert import_ratings(workspace, "one", write(tmp_path / "turns.jsonl", rows), person="lead").preferences == 10
    assert people.generators(workspace, "one").win_rates["m"].value == 0.5


def test_texts_are_those_of_each_generator(workspace, tmp_path):
    rows = [{"item": "q", "generator": name, "rater": "ana", "value": value} for name, value in (("m", 1), ("n", 5))]
    texts = [{"item": "q", "prompt": "why?", "generator": name, "response": f"{name} says so"} for name in "mn"]
    given = write(tmp_path / "texts.jsonl", texts)
    import_ratings(workspace, "one", write(tmp_path / "ratings.jsonl", rows), person="lead", texts=given)
    assert {(text, value) for _, text, _, _, value in stated(workspace, "one")} == {("m says so", 1), ("n says so", 5)}
    unsaid = write(tmp_path / "unsaid.jsonl", [{"item": "q", "response": text} for text in "ab"])
    with pytest.raises(ValueError, match="has two texts for item 'q': expected one, or a generator for each"):
        import_ratings(workspace, "two", tmp_path / "ratings.jsonl", person="lead", texts=unsaid)


def test_a_file_for_each_aspect_adds_up_to_one_answer(workspace, tmp_path):
    for aspect, values in (("tone", (1, 5)), ("truth", (3, 3))):
        rows = [
            {"item": f"q{n}", "response": "r", "rater": rater, "aspect": aspect, "value": value}
            for n in range(5)
            for rater, value in zip(("ana", "ben"), values, strict=True)
        ]
        import_ratings(workspace, "one", write(tmp_path / f"{aspect}.jsonl", rows), person="lead")
    assert len(study_disputes.disputed(workspace, "one")) == 5  # the later file hides nothing of the earlier one
    assert all(len(one.marks.ratings) == 2 for one in workspace.answers.standing("one"))
    assert all(
        len(one.marks.ratings) == 2 for one in workspace.raters.answers(workspace.answers.standing("one")[0].item_id).values()
    )


def test_what_arrived_last_stands_whatever_its_name(workspace, tmp_path):
    def file(name: str, more: int) -> Path:
        rows = [
            {"item": f"q{n}", "response": "r", "rater": "ana", "value": n + more, "at": "2026-01-01T00:00:00+00:00"}
            for n in range(20)
        ]
        return write(tmp_path / f"{name}.jsonl", rows)

    for more in (0, 1, 0):  # a correction, and back again
        assert import_ratings(workspace, "one", file("ratings", more), person="lead").new == 20
        assert sorted(one[-1] for one in stated(workspace, "one")) == list(range(more, 20 + more))
    assert import_ratings(workspace, "one", file("ratings", 0), person="lead").new == 0


def test_a_settled_strength_of_an_import_is_a_label(workspace, tmp_path):
    rows = [
        {
            "item": "q",
            "left": "a",
            "right": "b",
            "left_generator": "m",
            "right_generator": "n",
            "rater": rater,
            "strength": strength,
        }
        for rater, strength in (("ana", -3), ("ben", 2))
    ]
    import_ratings(workspace, "one", write(tmp_path / "strengths.jsonl", rows), person="lead")
    assert studies.design_of(workspace, "one").comparison == "strength"
    (dispute,) = study_disputes.disputed(workspace, "one")
    (field,) = study_disputes.fields(workspace, "one", dispute.item_id)
    marks = study_disputes.settled_marks(studies.design_of(workspace, "one"), {field: 1.0})
    assert study_disputes.settle(workspace, "one", dispute.item_id, marks, "lead")
    (label,) = people.labels(workspace, "one")
    assert abs(label["adjudicated"]) == 3


def test_a_word_among_numbers_is_a_mistake_in_its_row(workspace, tmp_path):
    rows = [{"item": f"q{n}", "response": "r", "rater": "ana", "value": value} for n, value in enumerate((1, 2, 4, "N/A"))]
    taken = import_ratings(workspace, "one", write(tmp_path / "most.jsonl", rows), person="lead", scale=["1", "5"])
    assert taken.unused == [(4, "the value is 'N/A': expected a number")]
    (scale,) = studies.design_of(workspace, "one").found
    assert (scale.low, scale.high, scale.words) == (1, 5, ())


def test_sides_of_a_table_are_no_order_that_anybody_saw(workspace, tmp_path):
    rows = [{"item": f"q{n}", "left": "good", "right": "worse by far", "rater": "ana", "choice": "left"} for n in range(9)]
    import_ratings(workspace, "one", write(tmp_path / "sides.jsonl", rows), person="lead")
    seen = study_numbers.all_habits(workspace, "one")
    assert (seen.first_side.n, seen.longer.value) == (0, 0)


def test_ratings_that_name_no_item_and_no_prompt_are_of_as_many_items_as_texts(workspace, tmp_path):
    rows = [{"response": f"text {n}", "rater": rater, "value": n % 5} for n in range(30) for rater in ("ana", "ben")]
    assert import_ratings(workspace, "one", write(tmp_path / "bare.jsonl", rows), person="lead").items == 30
    assert people.main_measure(people.tables(workspace, "one")["overall"]).value == 1
