"""The `elephant` command as scripts see it: what it prints, what it writes, its exit status."""

import csv
import json
import os

import pyarrow.parquet as pq
import pytest

from curation import exchange, review
from curation.cli import app
from curation.workspace import Workspace
from tests.command import Elephant
from tests.conftest import ROOT, SMALL, import_rows, take_readings

SAMPLE = ROOT / "data" / "sample.jsonl"


@pytest.fixture(scope="module")
def screened(tmp_path_factory, sample_workspace):
    elephant = Elephant(tmp_path_factory.mktemp("cli") / "workspace")
    take_readings(sample_workspace, elephant.folder)
    assert elephant("import", SAMPLE, "--name", "sample", apart=True) == "sample: 239 rows, 0 rejected\n"
    elephant("screen", "sample", apart=True)
    return elephant


def test_importing_again_says_that_nothing_is_new(screened):
    assert screened("import", SAMPLE, "--name", "sample") == "sample: 239 rows, 0 rejected, all of them there already\n"


def test_rejected_rows_are_counted_and_can_be_listed(elephant, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(SMALL[0]) + "\nnot json\n")
    assert elephant("import", file) == "rows: 1 rows, 1 rejected (see `elephant datasets --rejects rows`)\n"
    (one,) = json.loads(elephant("datasets", "--rejects", "rows", "--json"))
    assert (one["file"], one["line"], one["text"]) == ("rows.jsonl", 2, "not json\n")
    assert one["reason"].startswith("not JSON")


def test_columns_called_otherwise_are_mapped(elephant, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("question,good,bad\nWhy?,Because.,No.\n")
    maps = ["--map", "prompt=question", "--map", "chosen=good", "--map", "rejected=bad"]
    assert json.loads(elephant("import", file, *maps, "--json"))["rows"] == 1


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_flags_are_one_a_row_in_every_form(screened, tmp_path, ending):
    file = tmp_path / f"flags.{ending}"
    screened("flags", "sample", "--out", file)
    if ending == "jsonl":
        rows = [json.loads(line) for line in file.read_text().splitlines()]
    elif ending == "parquet":
        rows = pq.read_table(file).to_pylist()
    else:
        with file.open(newline="") as opened:
            rows = [{**row, "rows": json.loads(row["rows"]), "score": float(row["score"])} for row in csv.DictReader(opened)]
    assert list(rows[0]) == list(exchange.FLAG_COLUMNS)
    key = [json.loads(line) for line in (ROOT / "data" / "sample_key.jsonl").read_text().splitlines()]
    planted = {row["row"] for row in key if row["filter"] == "empty"}
    assert {place for row in rows if row["filter"] == "empty" for place in row["rows"]} == planted
    assert all(0 <= row["score"] <= 1 and row["reason"] for row in rows)


def test_a_parameter_can_be_set(elephant, tmp_path):
    elephant("import", SAMPLE)
    settings = ["--filter", "empty", "--set", "empty.punctuation_too=true", "--json"]
    (found,) = json.loads(elephant("screen", "sample", *settings))
    assert (found["filter"], found["flagged"]) == ("empty", 8)  # five without text, three of punctuation alone
    (listed,) = json.loads(elephant("runs", "--json"))
    assert (listed["status"], listed["done"]) == ("done", listed["of"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["import", "nowhere"], "no file or folder 'nowhere'"),
        (["import", str(SAMPLE), "--name", "a/b"], "the name 'a/b' cannot be used"),
        (["import", str(SAMPLE), "--map", "prompt"], "'prompt': expected FIELD=COLUMN"),
        (["screen", "other"], "no dataset 'other': there is sample"),
        (["screen", "sample", "--filter", "odd"], "there is no filter 'odd'"),
        (["screen", "sample", "--set", "vague.longest=no"], "longest is 'no'"),
        (["flags", "other", "--out", "f.jsonl"], "no dataset 'other'"),
        (["flags", "sample", "--out", "f.xlsx"], "expected .jsonl, .csv, .parquet"),
        (["release", "sample", "--name", "x", "--policy", "none.json"], "no file 'none.json'"),
        (["cancel", "nothing"], "no run 'nothing'"),
        (["verdicts", "import", "none.csv"], "no file 'none.csv'"),
        (["restore", "none"], "no file 'none'"),
    ],
)
def test_bad_input_ends_with_2_and_one_line_that_names_it(screened, arguments, says):
    said = screened(*arguments, expect=2)
    assert said.startswith("elephant: ")
    assert says in said
    assert said.count("\n") == 1


def test_a_busy_workspace_says_who_holds_it(elephant):
    elephant("import", SAMPLE)
    held = Workspace(elephant.folder)
    assert f"in use by process {os.getpid()}" in elephant("datasets", expect=2, apart=True)
    held.close()


def test_a_release_by_a_policy_file(screened, tmp_path):
    policy = tmp_path / "policy.json"
    policy.write_text('{"drop_unreviewed_filters": ["empty"]}')
    made = json.loads(screened("release", "sample", "--name", "r1", "--policy", policy, "--out", tmp_path / "out", "--json"))
    assert made["manifest"]["counts"]["rows"]["dropped"] == 5
    assert len((tmp_path / "out" / "dropped.jsonl").read_text().splitlines()) == 5
    assert [one["name"] for one in json.loads(screened("releases", "--json"))] == ["r1"]


def test_backup_and_restore(screened, tmp_path):
    screened("backup", tmp_path / "copy")
    assert "a backup overwrites nothing" in screened("backup", tmp_path / "copy", expect=2)
    other = Elephant(tmp_path / "other")
    other("restore", tmp_path / "copy")
    assert [one["dataset"] for one in json.loads(other("datasets", "--json"))] == ["sample"]
    assert "give --force" in other("restore", tmp_path / "copy", expect=2)


# ---- verdicts in and out


def test_verdicts_go_out_and_come_back_whole(workspace, tmp_path):
    first, second = import_rows(workspace, SMALL[:2])
    board, everything = workspace.board, review.View(pool="all")
    for choice in ("A", "toxic"):
        card = review.next_card(workspace, "ana", "small", everything)
        review.decide(workspace, card.claim.claim_id, "ana", choice, note="so, “so”", tags=("refusal",))
    review.undo(workspace, "ana", "small")
    assert board.done("ana", "small") == 1
    for ending in ("jsonl", "csv", "parquet"):
        file = tmp_path / f"verdicts.{ending}"
        assert exchange.export_verdicts(workspace, file) == 2
        other = Workspace(tmp_path / ending)
        import_rows(other, SMALL[:2])
        assert exchange.import_verdicts(other, file) == exchange.Taken(2, 0, [])
        assert exchange.import_verdicts(other, file) == exchange.Taken(0, 2, [])
        assert other.verdicts.standing() == workspace.verdicts.standing()
        assert other.verdicts.events() == workspace.verdicts.events()
        assert other.board.done("ana", "small") == 1
        other.close()
    assert {one.pair_id for one in workspace.verdicts.standing()} <= {first, second}


def test_verdicts_of_others_come_in_by_row_and_bad_ones_are_named(workspace, tmp_path):
    pairs = import_rows(workspace, SMALL[:2])
    file = tmp_path / "verdicts.csv"
    file.write_text("row,person,verdict\n1,eve,opposite\n0,eve,nice\n7,eve,same\n0,,same\n0,eve,same\n")
    taken = exchange.import_verdicts(workspace, file, dataset="small")
    assert taken.new == 2
    assert taken.rejected == [
        (2, "verdict is 'nice': expected one of same, opposite, vague, toxic, repetitive, empty"),
        (3, "row is 7: expected 0 to 1"),
        (4, "person is '': expected a name"),
    ]
    standing = {one.pair_id: one.verdict for one in workspace.verdicts.standing()}
    assert standing == {pairs[1]: "opposite", pairs[0]: "same"}


# ---- the documents keep up


def test_a_filter_that_fails_is_told_and_what_the_others_found_is_there(elephant, tmp_path, at_once):
    file = tmp_path / "small.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in SMALL))
    elephant("import", file)
    (tmp_path / "no model").mkdir()
    chosen = ("--filter", "empty", "--filter", "vague", "--set", f"vague.model={tmp_path / 'no model'}")
    said = elephant("screen", "small", *chosen, expect=2)
    assert "FiltersFailed: vague: ValueError: no sentence-transformers model" in said
    assert [line.split() for line in elephant("flags", "small").splitlines()] == [
        ["filter", "subset", "pairs", "of"],
        ["empty", "1", "4"],
    ]


def test_every_command_filter_and_page_is_in_the_readme():
    from curation.filters.registry import FILTERS
    from curation.runs import KINDS
    from training.rewards.registry import FAMILIES

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    names = [one.name or one.callback.__name__ for one in app.registered_commands]
    names += ["verdicts import", "verdicts export", "ratings import", "ratings export", "study create", "reward-models add"]
    assert [name for name in names if f"elephant {name}" not in readme] == []
    assert [name for name in FILTERS if f"| `{name}` |" not in readme] == []
    assert [name for name in FAMILIES if f"`{name}`" not in readme] == []
    assert [name for name in KINDS if f"`{name}`" not in readme and f"run {name}" not in readme] == []
    pages = {file.stem for file in (ROOT / "pages").glob("*.py")}
    known = {"overview", "datasets", "filters", "review", "adjudicate", "studies", "rate", "agreement", "rewards", "runs"}
    assert pages == known | {"alignment"}
