"""The commands of studies as scripts see them: what they print, what is stored, what they refuse and how."""

import csv
import json

import pytest

from curation import people, studies, study_items
from curation.study_design import READY, Aspect, Design
from curation.study_items import Sample
from curation.workspace import Workspace
from tests.conftest import import_rows, numbered
from tests.raters import answer_all, item, set_up

pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # of crowd-kit 1.4
TEXTS = {"gpt": "Because of {}.", "claude": "Since {}.", "llama": "{}? No idea."}


@pytest.fixture
def outputs(tmp_path):
    """Outputs of three generators in AlpacaEval's form, the last of which did not answer the last prompt."""
    files = []
    for generator, text in TEXTS.items():
        rows = [
            {
                "instruction": f"Why {n}?",
                "output": text.format(n),
                "generator": generator,
                "dataset": "odd" if n % 2 else "even",
            }
            for n in range(12 if generator == "llama" else 13)
        ]
        files.append(tmp_path / f"{generator}.json")
        files[-1].write_text(json.dumps(rows))
    return files


@pytest.fixture
def items_file(tmp_path):
    """Three items as a file has them, one of them gold, and a line that is none."""
    sides = [{"generator": "a", "text": "Because."}, {"generator": "b", "text": "No."}]
    rows = [{"item": f"q{n}", "prompt": f"Why {n}?", "responses": sides} for n in range(2)]
    rows.append({"item": "g", "prompt": "Known?", "responses": sides, "kind": "gold", "expected": {"better": "a"}})
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows) + '{"item": "bad"}\n')
    return path


def refused(elephant, *arguments: object, says: str) -> None:
    """The command is refused with exit 2 and one line that says this."""
    complained = elephant(*arguments, expect=2)
    assert complained.count("\n") == 1, complained
    assert says in complained


# ---- setting one up


def test_a_study_of_a_dataset_is_drawn_as_the_options_say(elephant, opened):
    with opened() as workspace:
        import_rows(workspace, numbered(20))
    said = elephant(
        "study", "create", "one", "--dataset", "small", "--count", 6, "--stratify", "length", "--equal", "--seed", 3,
        "--attention", 2, "--protocol", "both", "--aspect", "tone", "--aspect", "harmlessness", "--points", 3,
        "--overlap", 2, "--set", "pause_seconds=1.5", "--set", 'reasons=["refusal"]', "--person", "ana",
    )  # fmt: skip
    assert said.startswith("one: created; 6 items added (6 of 20 pairs of dataset small, by length in equal numbers, seed 3)")
    assert "2 items added (2 attention items)" in said
    with opened() as workspace:
        tone = Aspect(name="tone", question="How would you rate its tone?", points=3)
        assert studies.design_of(workspace, "one") == Design(
            protocol="both", aspects=(tone, READY["harmlessness"].model_copy(update={"points": 3})), overlap=2,
            pause_seconds=1.5, reasons=("refusal",),
        )  # fmt: skip
        found = workspace.studies.items("one")
        expected = study_items.from_dataset(workspace, "one", "small", Sample(6, ("length",), True, 3)).items
        assert [one for one, known in found.items() if known.kind == "item"] == [one.item_id for one in expected]
        assert sum(one.kind == "attention" for one in found.values()) == 2
        assert {one.person for one in workspace.studies.events("one")} == {"ana"}


def test_a_study_of_a_release_has_only_what_it_keeps(elephant, opened, tmp_path):
    with opened() as workspace:
        pairs = import_rows(workspace, numbered(6))
        workspace.pairs.dataset("small")
        file = tmp_path / "verdicts.jsonl"
        file.write_text("".join(json.dumps({"pair_id": one, "person": "ana", "verdict": "toxic"}) + "\n" for one in pairs[:2]))
    elephant("verdicts", "import", file)
    elephant("release", "small", "--name", "v1", "--out", tmp_path / "release")
    said = json.loads(elephant("study", "create", "one", "--dataset", "small", "--release", "v1", "--json"))
    assert [one["new"] for one in said["added"]] == [4]
    with opened() as workspace:
        asked = {workspace.studies.content(one).prompt[0].content for one in workspace.studies.items("one")}
    assert asked == {f"Question {n}?" for n in range(2, 6)}
    refused(
        elephant,
        "study",
        "create",
        "two",
        "--dataset",
        "small",
        "--release",
        "v2",
        says="no release 'v2' of 'small': there is v1",
    )


def test_a_study_of_generators_outputs_compares_every_two_as_often(elephant, opened, outputs):
    given = [part for file in outputs for part in ("--outputs", file)]
    said = json.loads(elephant("study", "create", "one", "--protocol", "compare", *given, "--count", 12, "--json"))
    assert (said["protocol"], said["aspects"], said["added"][0]["new"]) == ("compare", [], 12)
    assert "1 left out, that not all of them answered" in said["added"][0]["words"]
    with opened() as workspace:
        met = [
            tuple(sorted(name for names in by.values() for name in names))
            for by in workspace.studies.generators("one").values()
        ]
    assert sorted(met) == sorted([("claude", "gpt"), ("claude", "llama"), ("gpt", "llama")] * 4)
    again = json.loads(elephant("study", "add", "one", *given, "--count", 12, "--json"))
    assert [one["new"] for one in again["added"]] == [0]  # the same seed draws the same


def test_a_study_of_an_items_file_has_them_as_they_stand(elephant, opened, items_file):
    said = elephant("study", "create", "one", "--items", items_file, "--protocol", "compare")
    assert "3 items added (3 items of items.jsonl; 1 records could not be used, the first items.jsonl line 4: no prompt" in said
    with opened() as workspace:
        kinds = {one.name: one.kind for one in workspace.studies.items("one").values()}
    assert kinds == {"q0": "item", "q1": "item", "g": "gold"}


def test_a_design_in_a_file_is_taken_whole_and_the_options_change_it(elephant, opened, tmp_path):
    design = Design(protocol="both", overlap=5, comparison="strength", question="Which would you send?")
    (tmp_path / "design.json").write_text(design.model_dump_json())
    (tmp_path / "how.md").write_text("# How")
    elephant("study", "create", "one", "--design", tmp_path / "design.json", "--guidelines", tmp_path / "how.md")
    elephant("study", "create", "two", "--design", tmp_path / "design.json", "--set", "overlap=2", "--aspect", "honesty")
    with opened() as workspace:
        assert studies.design_of(workspace, "one") == design.model_copy(update={"guidelines": "# How"})
        assert studies.design_of(workspace, "two") == design.model_copy(update={"overlap": 2, "aspects": (READY["honesty"],)})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--dataset", "none"], "none"),
        (["--items", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--outputs", "nowhere.json"], "nowhere.json"),
        (["--dataset", "small", "--items", "x.jsonl"], "given together"),
        (["--gold", "3"], "need --dataset"),
        (["--release", "v1"], "need --dataset"),
        (["--dataset", "small", "--stratify", "colour"], "cannot stratify by 'colour': expected some of subset, length, flag"),
        (["--set", "colour=red"], "colour"),
        (["--set", "overlap"], "'overlap': expected FIELD=VALUE"),
        (["--protocol", "rank"], "'rank'"),
        (["--design", "nowhere.json"], "cannot be read as a design"),
        (["--guidelines", "nowhere.md"], "nowhere.md"),
        (["--set", "raters_at_most=2"], "2 raters at most for an item, but an overlap of 3"),
    ],
)
def test_bad_input_is_one_line_and_makes_no_study(elephant, opened, options, says):
    with opened() as workspace:
        import_rows(workspace, numbered(3))
    refused(elephant, "study", "create", "one", *options, says=says)
    with opened() as workspace:
        assert workspace.studies.all() == []


@pytest.mark.parametrize("name", ["", "a/b", "x" * 81])
def test_a_name_that_cannot_be_used_is_refused(elephant, name):
    refused(elephant, "study", "create", name, says="cannot be used")


def test_a_name_that_is_taken_is_refused(elephant):
    elephant("study", "create", "one")
    refused(elephant, "study", "create", "one", says="there is a study 'one' already")


def test_a_study_there_is_not_is_refused_by_every_command_with_those_there_are(elephant, tmp_path):
    elephant("study", "create", "one")
    for command in (
        ["study", "close", "two"], ["study", "reopen", "two"], ["study", "change", "two", "--set", "overlap=4"],
        ["study", "add", "two", "--dataset", "small"], ["agreement", "two"], ["agreement", "two", "--json"],
        ["ratings", "export", tmp_path / "out.csv", "--study", "two"],
        ["ratings", "export", tmp_path / "out.csv", "--study", "two", "--kind", "labels"],
    ):  # fmt: skip
        refused(elephant, *command, says="no study 'two': there is one")


# ---- afterwards


def answered(workspace: Workspace, name: str = "one") -> None:
    """A study of six items that three people rated and compared."""
    set_up(workspace, [item(n, subset="odd" if n % 2 else "even") for n in range(6)], name, protocol="both")
    for place, person in enumerate(("ana", "ben", "cy")):

        def says(card, question, place=place):
            number = int(card.prompt[0].content.split()[-1])
            return 1 + (number + place * (number > 3) + len(card.texts[question.place] or "")) % (5 if question.response else 3)

        answer_all(workspace, name, person, says)


def test_what_widens_is_changed_and_anything_else_refused_once_there_are_answers(elephant, opened):
    elephant("study", "create", "free", "--aspect", "tone")
    assert elephant("study", "change", "free", "--set", "guidelines=Be kind.") == "free: guidelines changed\n"
    assert elephant("study", "change", "free", "--set", "guidelines=Be kind.") == "free: nothing was changed\n"
    with opened() as workspace:
        answered(workspace)
    told = json.loads(elephant("study", "change", "one", "--set", "overlap=4", "--json"))
    assert told == {"study": "one", "changed": {"overlap": [3, 4]}}
    refused(elephant, "study", "change", "one", "--set", "overlap=2", says="overlap from '4' to '2'")
    refused(elephant, "study", "change", "one", "--set", "question=Really?", says="cannot change any more")
    with opened() as workspace:
        assert studies.design_of(workspace, "one").overlap == 4


def test_a_study_is_closed_and_reopened_and_listed(elephant, opened):
    assert elephant("studies") == "no study yet\n"
    with opened() as workspace:
        answered(workspace)
        studies.create(workspace, "empty", Design(), "lead")
    assert elephant("study", "close", "one", "--person", "ana") == "one: closed\n"
    by_name = {one["study"]: one for one in json.loads(elephant("studies", "--json"))}
    assert by_name["one"] == {
        "study": "one", "protocol": "both", "items": 6, "answers": 18, "raters": 3, "overlap": 3, "state": "closed",
    }  # fmt: skip
    assert (by_name["empty"]["items"], by_name["empty"]["answers"], by_name["empty"]["state"]) == (0, 0, "open")
    header, *rows = elephant("studies").splitlines()
    assert header.split() == ["study", "protocol", "items", "answers", "raters", "overlap", "state"]
    assert [row.split()[0] for row in rows] == ["one", "empty"]
    assert json.loads(elephant("study", "reopen", "one", "--json")) == {"study": "one", "closed": False}
    with opened() as workspace:
        assert not workspace.studies.closed("one")
        assert [one.person for one in workspace.studies.events("one", kinds=("closed", "reopened"))] == ["ana", "lead"]


def test_items_are_added_from_a_file_and_nothing_to_add_is_refused(elephant, opened, items_file):
    with opened() as workspace:
        answered(workspace)
    assert elephant("study", "add", "one", "--items", items_file).startswith("3 items added (3 items of items.jsonl")
    assert elephant("study", "add", "one", "--items", items_file).startswith("0 items added (3 items of items.jsonl")
    refused(elephant, "study", "add", "one", says="nothing to add: give --dataset, --outputs or --items")


# ---- ratings and agreement


def test_ratings_go_out_and_come_in_elsewhere(elephant, opened, tmp_path):
    with opened() as workspace:
        answered(workspace)
    assert (
        elephant("ratings", "export", tmp_path / "r.csv", "--study", "one") == f"36 ratings written to {tmp_path / 'r.csv'}\n"
    )
    elephant("ratings", "export", tmp_path / "p.jsonl", "--study", "one", "--kind", "preferences", "--names")
    with (tmp_path / "r.csv").open(newline="") as file:
        assert {one["rater"] for one in csv.DictReader(file)} == {"rater-1", "rater-2", "rater-3"}
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert {one["rater"] for one in rows} == {"ana", "ben", "cy"}
    labels = json.loads(
        elephant("ratings", "export", tmp_path / "l.csv", "--study", "one", "--kind", "labels", "--json")
    )  # fmt: skip
    assert labels == {"written": 18, "file": str(tmp_path / "l.csv")}
    said = elephant("ratings", "import", tmp_path / "r.csv", "--study", "again")
    assert said == (
        "again: 36 ratings and 0 preferences by 3 raters on 6 items (tidy form): 18 of 18 answers are new.\n"
    )  # fmt: skip
    taken = json.loads(elephant("ratings", "import", tmp_path / "r.csv", "--study", "again", "--json"))
    assert (taken["new"], taken["answers"], taken["form"], taken["unused"]) == (0, 18, "tidy", [])


def test_columns_are_mapped_and_words_put_in_order(elephant, tmp_path, opened):
    file = tmp_path / "words.csv"
    file.write_text("thing,who,aspect,said\n1,ana,safe,No\n1,ben,safe,Yes\n2,ana,safe,Perhaps\n")
    maps = ["--map", "item=thing", "--map", "rater=who", "--map", "value=said"]
    refused(elephant, "ratings", "import", file, "--study", "one", says="expected also rater; value")
    refused(elephant, "ratings", "import", file, "--study", "one", *maps, says="--scale No,Perhaps,Yes")
    with opened() as workspace:
        assert workspace.studies.all() == []
    said = elephant("ratings", "import", file, "--study", "one", *maps, "--scale", "No, Yes")
    assert "2 of 2 answers are new. Read as: item from thing, rater from who, value from said." in said
    assert "1 records were not used, the first on line 3: the value is 'Perhaps': expected one of No, Yes" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["import", "nowhere.csv", "--study", "one"], "nowhere.csv"),
        (["import", "r.csv", "--study", "one", "--form", "word"], "the form is 'word': expected one of auto"),
        (["import", "r.csv", "--study", "one", "--map", "colour=x"], "cannot map 'colour'"),
        (["import", "r.csv", "--study", "a/b"], "cannot be used"),
        (
            ["export", "out.csv", "--study", "one", "--kind", "words"],
            "--kind is 'words': expected ratings, preferences or labels",
        ),
        (["export", "out.txt", "--study", "one"], "out.txt"),
        (["export", "out.csv", "--study", "one", "--form", "word"], "the form is 'word'"),
        (["export", "out.csv", "--study", "one", "--form", "argilla"], "expected .json or .jsonl"),
        (["export", "out.json", "--study", "one", "--form", "mt-bench"], "expected preferences, not ratings"),
        (["export", "out.csv", "--study", "empty"], "'empty' has no ratings yet"),
        (["export", "nowhere/out.csv", "--study", "one"], "nowhere"),
    ],
)
def test_ratings_that_cannot_be_taken_or_written_are_one_line(elephant, opened, tmp_path, arguments, says):
    with opened() as workspace:
        answered(workspace)
        studies.create(workspace, "empty", Design(), "lead")
    (tmp_path / "r.csv").write_text("item,rater,value\n1,ana,3\n")
    refused(elephant, "ratings", *arguments, says=says)
    with opened() as workspace:
        assert [name for name, _, _ in workspace.studies.all()] == ["one", "empty"]
        assert workspace.answers.count("one") == 18


def test_agreement_is_told_in_words_and_whole_as_json(elephant, opened):
    with opened() as workspace:
        answered(workspace)
        studies.create(workspace, "empty", Design(), "lead")
        report = people.report(workspace, "one")
        told = [
            (table.name, one.name, one.figure.words())
            for table in people.tables(workspace, "one").values()
            for one in people.measures(table)
        ]
        means = people.generators(workspace, "one").means["helpfulness"]
    assert json.loads(elephant("agreement", "one", "--json")) == json.loads(json.dumps(report))
    header, *lines = elephant("agreement", "one").splitlines()
    assert header.split() == ["of", "measure", "figure"]
    for line, (of, name, words) in zip(lines[: len(told)], told, strict=True):
        assert line.startswith(of)
        assert name in line
        assert line.endswith(words)
    for line, (generator, mean) in zip(lines[len(told) :], means.items(), strict=True):
        assert line.startswith(f"{generator}: mean helpfulness {mean.words()} · rank ")
    assert {of for of, _, _ in told} == {"helpfulness", "comparison"}
    assert elephant("agreement", "empty") == "nobody has answered yet\n"
    assert json.loads(elephant("agreement", "empty", "--json"))["questions"] == {}
