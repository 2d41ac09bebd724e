"""Ratings and preferences in and out of files: every form there and back, bad records named, nothing lost in silence."""

import csv
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from curation import ratings_files, tables
from curation.pairs import Turn, turn
from curation.ratings_rows import PreferenceRow, RatingRow, Row, chosen, prompt_of, prompt_text

ASKED = (turn("user", "Name a river."),)
TALK = (turn("system", "Be brief."), turn("user", "Hello."), turn("assistant", "Hi."), turn("user", "Which river is long?"))
AT = datetime(2026, 11, 2, 9, 0, 0, 123457, tzinfo=UTC)
HOSTILE = '<script>alert("x")</script> ![x](http://x)\r\n\r"quoted", \x00 nul, \u2028 line, \U0001f418 \n\nHuman: not a turn'
TABLES = ("csv", "csv.gz", "jsonl", "jsonl.gz", "json", "json.gz", "parquet")
NESTED = ("jsonl", "jsonl.gz", "json", "json.gz")

RATINGS: list[Row] = [
    RatingRow(0, "r1", ASKED, "The Danube.", "chosen", "ana", "helpfulness", "4", subset="easy"),
    RatingRow(0, "r1", ASKED, "The Danube.", "chosen", "ana", "harmlessness", "0", subset="easy"),
    RatingRow(0, "r1", ASKED, "The Danube.", "chosen", "7", "helpfulness", "2.5", subset="easy"),
    RatingRow(0, "", TALK, "", "rejected", "ana", "helpfulness", "No", kind="gold"),
    RatingRow(0, "r3", ASKED, HOSTILE, "chosen", "007", "overall", "0010"),
]
PREFERENCES: list[Row] = [
    PreferenceRow(0, "p1", ASKED, "The Danube.", "", "chosen", "rejected", "ana", "left"),
    PreferenceRow(0, "p1", ASKED, "The Danube.", "", "chosen", "rejected", "ben", "tie"),
    PreferenceRow(0, "p1", ASKED, "The Danube.", "", "chosen", "rejected", "ana", "both bad", "harmlessness"),
    PreferenceRow(0, "", TALK, HOSTILE, "Nile", "m-1", "", "7", "-2", subset="hard"),
    PreferenceRow(0, "p3", TALK, "Nile", "Nile!", "", "", "cy", "0", "helpfulness", kind="gold"),
]
FULL_RATINGS: list[Row] = [
    row._replace(seconds=3.25, at=AT, shown=2, claim="c-1", note="so-so\nreally", kind="item") for row in RATINGS
]
FULL_PREFERENCES: list[Row] = [row._replace(seconds=0.5, at=AT, claim="c-2", note="hm") for row in PREFERENCES]


def there_and_back(path: Path, rows: list[Row], form: str) -> list[Row]:
    """The rows as they are read after being written, in the order of the file, without their line."""
    assert ratings_files.write(path, rows, form=form) == len(rows)
    found = ratings_files.read(path)
    assert (found.form, found.unused) == (form, [])
    return [row._replace(line=0) for row in found.rows]


@pytest.mark.parametrize("ending", TABLES)
@pytest.mark.parametrize("rows", [RATINGS, FULL_RATINGS, PREFERENCES, FULL_PREFERENCES, PREFERENCES[:3], PREFERENCES[3:]])
def test_tidy_rows_come_back_from_every_kind_of_file(tmp_path, ending, rows):
    assert there_and_back(tmp_path / f"rows.{ending}", rows, "tidy") == rows


@pytest.mark.parametrize("ending", NESTED)
def test_what_argilla_holds_comes_back_from_its_records(tmp_path, ending):
    rows = RATINGS + PREFERENCES
    assert Counter(there_and_back(tmp_path / f"rows.{ending}", rows, "argilla")) == Counter(rows)


@pytest.mark.parametrize("ending", NESTED)
def test_what_label_studio_holds_comes_back_from_its_tasks(tmp_path, ending):
    rows = [row._replace(claim="", **({"shown": None} if isinstance(row, RatingRow) else {})) for row in FULL_RATINGS]
    rows += [row._replace(claim="") for row in FULL_PREFERENCES] + RATINGS + PREFERENCES
    assert Counter(there_and_back(tmp_path / f"rows.{ending}", rows, "label-studio")) == Counter(rows)
    decided = [PREFERENCES[0], PREFERENCES[0]._replace(rater="ben", choice="right")]
    assert there_and_back(tmp_path / f"decided.{ending}", decided, "label-studio") == decided
    assert '"selected": "right"' in ratings_text(tmp_path / f"decided.{ending}")


def ratings_text(path: Path) -> str:
    return (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8").read()


@pytest.mark.parametrize("ending", NESTED)
def test_judgments_of_either_turn_come_back_from_mt_benchs_form(tmp_path, ending):
    later = "Nile\n\nHuman: Shorter?\n\nAssistant: "
    rows: list[Row] = [
        PreferenceRow(0, "81", ASKED, "A\r\n<b>", "", "m-1", "m-2", "expert_1", "right", "turn 1"),
        PreferenceRow(0, "81", ASKED, later + "N.", later + "No.", "m-1", "m-2", "expert_1", "both bad", "turn 2", at=AT),
        PreferenceRow(0, "q", None, None, None, "m-1", "m-2", "gpt-4 pair-v2", "tie", "turn 2", note="tie (inconsistent)"),
    ]
    assert there_and_back(tmp_path / f"rows.{ending}", rows, "mt-bench") == rows


@pytest.mark.parametrize(
    ("rows", "form", "ending", "words"),
    [
        (FULL_RATINGS, "argilla", "json", "row 1 has seconds, at, shown, claim, note, for which the argilla form has no place"),
        (FULL_PREFERENCES, "label-studio", "json", "row 1 has claim, for which"),
        (RATINGS, "mt-bench", "json", "row 1 has response, generator, value, "),
        (PREFERENCES[3:4], "mt-bench", "json", "row 1 has subset"),
        (PREFERENCES[4:], "mt-bench", "json", "row 1 has kind"),
        ([PREFERENCES[0]._replace(prompt=TALK)], "mt-bench", "json", "begin after the first question"),
        ([PREFERENCES[0]._replace(choice="2")], "mt-bench", "json", "no strengths"),
        ([PREFERENCES[0]._replace(aspect="style")], "mt-bench", "json", "the aspect is 'style'"),
        ([PREFERENCES[0]._replace(aspect="turn 2")], "mt-bench", "json", "have [1] questions and the aspect is turn 2"),
        ([PREFERENCES[0]._replace(aspect="my_strength")], "argilla", "json", "an aspect is 'my_strength'"),
        ([PREFERENCES[0]._replace(aspect="strength")], "label-studio", "json", "an aspect is 'strength'"),
        (RATINGS, "fastchat", "jsonl", "the fastchat form is only read"),
        (RATINGS, "argilla", "csv", "expected .json or .jsonl"),
        (RATINGS, "excel", "csv", "the form is 'excel'"),
        (RATINGS, "tidy", "xlsx", "ends in '.xlsx'"),
        (RATINGS + PREFERENCES, "tidy", "jsonl", "they are two tables"),
        ([RATINGS[0], RATINGS[1]._replace(response=None)], "tidy", "csv", "a .csv cannot tell from empty"),
        ([RATINGS[0]._replace(rater="")], "tidy", "csv", "row 1 cannot be written: no rater"),
        ([RATINGS[0]._replace(rater=" ana")], "tidy", "csv", "rater is ' ana': expected a name without spaces around it"),
        ([RATINGS[0]._replace(aspect="")], "tidy", "csv", "aspect is ''"),
        ([RATINGS[0]._replace(at=datetime(2026, 11, 2))], "tidy", "csv", "expected one with a zone"),
        ([RATINGS[0]._replace(response="half \ud83d")], "tidy", "jsonl", "half a character"),
        ([PREFERENCES[0]._replace(choice="maybe")], "tidy", "jsonl", "the choice is 'maybe'"),
    ],
)
def test_what_a_form_cannot_hold_is_refused_in_a_sentence_and_nothing_is_written(tmp_path, rows, form, ending, words):
    with pytest.raises(ValueError, match=r"\w") as refused:
        ratings_files.write(tmp_path / f"rows.{ending}", rows, form=form)
    assert words in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_fields_can_be_left_out_by_name(tmp_path):
    path = tmp_path / "rows.json"
    ratings_files.write(path, FULL_RATINGS, form="argilla", without=("seconds", "at", "shown", "claim", "note", "kind"))
    bare = [row._replace(kind="", line=0) for row in RATINGS]
    assert Counter(row._replace(line=0) for row in ratings_files.read(path).rows) == Counter(bare)
    with pytest.raises(ValueError, match="cannot leave out colour"):
        ratings_files.write(path, RATINGS, without=("colour",))


# ---- public files


def test_every_rating_of_squality_is_read_as_it_stands(data):
    path = data / "ratings" / "squality.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        known = list(csv.DictReader(file))
    found = ratings_files.read(path)
    assert (found.form, found.unused, len(found.rows)) == ("tidy", [], 2700)
    same = ("response", "generator", "rater", "aspect", "value")
    assert found.columns == {"item": "item_id", **{name: name for name in same}}
    assert [tuple(row)[:8] for row in found.rows] == [
        (line, one["item_id"], None, one["response"], one["generator"], one["rater"], one["aspect"], one["value"])
        for line, one in enumerate(known, start=1)
    ]


def test_ratings_in_words_without_texts_are_read_from_dices(data):
    found = ratings_files.read(data / "ratings" / "dices350.csv.gz")
    assert (found.unused, len(found.rows)) == ([], 43_050)
    assert Counter(row.value for row in found.rows) == {"No": 26_292, "Yes": 14_064, "Unsure": 2_694}
    assert found.rows[0] == RatingRow(1, "173", None, None, "", "rater000", "safe", "No")


# ---- tidy: columns, choices, bad records


@pytest.mark.parametrize("ending", TABLES)
def test_records_come_back_from_every_ending_and_a_strict_reader_stops_at_a_bad_one(tmp_path, ending):
    records = [{"a": "x\r\ny", "b": "\u2028"}, {"a": "", "b": "\x00"}]
    tables.write(tmp_path / f"t.{ending}", records, ("a", "b"))
    assert tables.read(tmp_path / f"t.{ending}") == records
    assert list(tables.numbered(tmp_path / f"t.{ending}")) == list(enumerate(records, start=1))
    assert [path.name for path in tmp_path.iterdir()] == [f"t.{ending}"]
    if "json" in ending:
        text = '{"a": "1"}\n[2]\n'
        (tmp_path / f"t.{ending}").write_bytes(gzip.compress(text.encode()) if ending.endswith("gz") else text.encode())
        with pytest.raises(ValueError, match="cannot be read: record 2 is list: expected an object"):
            tables.read(tmp_path / f"t.{ending}")


def lines(path: Path, *records: object) -> Path:
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in records), encoding="utf-8")
    return path


def test_columns_are_known_by_other_names_and_can_be_mapped(tmp_path):
    record = {"Example ID": 3.0, "Worker": 12, "Score": 4, "grade_of": "tone", "Instruction": "Sing.", "Completion": "La."}
    found = ratings_files.read(lines(tmp_path / "r.jsonl", record), mapping={"aspect": "grade_of"})
    assert found.rows == [RatingRow(1, "3", (turn("user", "Sing."),), "La.", "", "12", "tone", "4")]
    assert found.columns == {
        "item": "Example ID", "prompt": "Instruction", "response": "Completion", "rater": "Worker", "aspect": "grade_of",
        "value": "Score",
    }  # fmt: skip


def test_a_mapped_column_goes_before_the_one_with_the_name(tmp_path):
    record = {"item": "1", "rater": "ana", "value": "2", "z_score": "0.5"}
    (row,) = ratings_files.read(lines(tmp_path / "r.jsonl", record), mapping={"value": "z_score"}).rows
    assert isinstance(row, RatingRow)
    assert row.value == "0.5"


@pytest.mark.parametrize(
    ("record", "mapping", "words"),
    [
        ({"item": 1, "value": 2}, {}, "the columns are 'item', 'value': expected also rater for ratings"),
        ({"item": 1, "rater": 2}, {}, "expected also value for ratings (or a choice or strength for preferences)"),
        ({"rater": 1, "value": 2}, {}, "one of item, prompt, response"),
        ({"rater": 1, "choice": "A", "item": 2}, {}, "left and right, or left_generator and right_generator for preferences"),
        ({"rater": 1, "choice": "A", "model_a": 2, "model_b": 3}, {}, "item or prompt"),
        ({"item": 1, "rater": 2, "value": 3}, {"colour": "item"}, "cannot map 'colour'"),
        ({"item": 1, "rater": 2, "value": 3}, {"aspect": "tone"}, "no column 'tone' for aspect"),
    ],
)
def test_columns_that_say_too_little_are_refused_in_one_sentence(tmp_path, record, mapping, words):
    with pytest.raises(ValueError, match=r"\w") as refused:
        ratings_files.read(lines(tmp_path / "r.jsonl", record), mapping=mapping)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_record_that_cannot_be_used_is_named_and_loses_no_other(tmp_path):
    good = {"item": "1", "response": "Yes.", "rater": "ana", "value": 3}
    path = lines(
        tmp_path / "r.jsonl", good, {**good, "rater": " "}, {**good, "value": None}, "{broken", "[1]", {**good, "value": [1]},
        {**good, "item": None, "response": None}, '{"item": "1", "rater": "ana", "value": 1, "response": "\\ud800"}',
        {**good, "at": "yesterday"}, {**good, "seconds": -1}, "", {**good, "prompt": 7}, good,
    )  # fmt: skip
    path.write_bytes(path.read_bytes() + b'{"item": "1", "rater": "\xff", "value": 1, "response": "r"}\n')
    found = ratings_files.read(path, mapping={"seconds": "seconds"})
    assert [(row.line, row.item) for row in found.rows] == [(1, "1"), (12, "1")]
    reasons = {one.line: one.reason for one in found.unused}
    assert list(reasons) == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13]
    assert reasons[2].startswith("no rater")
    assert reasons[3].startswith("no value for overall")
    assert reasons[4].startswith("not JSON")
    assert reasons[5] == "list: expected an object"
    assert reasons[6].startswith("[1] is a list")
    assert reasons[7].startswith("no item, no prompt and no response")
    assert r"(\ud800)" in reasons[8]
    assert reasons[9].startswith("the time is 'yesterday'")
    assert reasons[10].startswith("seconds is -1")
    assert reasons[11].startswith("the prompt is 7")
    assert r"(\udcff)" in reasons[13]


def test_a_bad_row_of_a_table_and_a_file_cut_short_lose_no_other(tmp_path):
    (tmp_path / "r.csv").write_text('item,rater,value\n1,ana,3\n2,ben\n3,cy,"a "quoted" word"\n4,di,5\n', encoding="utf-8")
    found = ratings_files.read(tmp_path / "r.csv")
    assert [row.item for row in found.rows] == ["1", "4"]
    assert [one.line for one in found.unused] == [2, 3]
    whole = "item,rater,value\n" + "".join(f"{number},ana,{number * 7919 % 1000}\n" for number in range(9000))
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(whole.encode())[:-2000])
    cut = ratings_files.read(tmp_path / "cut.csv.gz")
    assert 0 < len(cut.rows) < 9000
    assert [one.line for one in cut.unused][-1] == len(cut.rows) + len(cut.unused)
    assert cut.unused[-1].reason.startswith("the file cannot be read from here on")


def test_very_long_texts_and_what_a_person_said_twice_are_passed_on(tmp_path):
    long = RatingRow(0, "1", ASKED, "x" * 3_000_000, "m", "ana", "overall", "1")
    rows: list[Row] = [long, long]
    assert there_and_back(tmp_path / "r.csv", rows, "tidy") == rows


@pytest.mark.parametrize(
    ("choice", "strength", "decided"),
    [
        ("left", None, "left"), ("A", None, "left"), ("model_b", None, "right"), (1, None, "left"), ("2", "", "right"),
        ("Tie", None, "tie"), ("tie (bothbad)", None, "both bad"), ("both_bad", None, "both bad"),
        (None, -3, "-3"), ("", "+2", "2"), (None, 1.0, "1"), (None, 0, "0"), ("A", -1, "-1"), ("tie", "0", "0"),
    ],
)  # fmt: skip
def test_a_choice_is_read_in_the_words_in_use(choice, strength, decided):
    assert chosen(choice, strength) == decided


@pytest.mark.parametrize(
    ("choice", "strength"),
    [("C", None), ("3", None), ("0", None), (-1, None), ("model a", None), (None, None), (None, 4), (None, "1.5"), ("A", 2),
     ("both bad", 0)],
)  # fmt: skip
def test_any_other_choice_is_refused(choice, strength):
    with pytest.raises(ValueError, match=r"choice|strength"):
        chosen(choice, strength)


@pytest.mark.parametrize(
    "prompt",
    [
        ASKED, TALK, None, (turn("user", ""),), (turn("user", "\n\nHuman: quoted"),), (turn("user", '[{"role": "a"}]'),),
        (turn("user", '[{"role": "user", "content": "x"}]'),), (turn("user", HOSTILE),), (turn("tool", "3"), turn("user", "?")),
        (Turn("", "before", ""), Turn("user", "no gap", "\n\nHuman:")), (*ASKED, turn("assistant", "")),
    ],
)  # fmt: skip
def test_a_prompt_comes_back_from_its_text(prompt):
    assert prompt_of(prompt_text(prompt)) == prompt


def test_a_prompt_is_plain_text_a_transcript_or_messages():
    said = [{"role": one.role, "content": one.content} for one in TALK]
    transcript = "\n\nSystem: Be brief.\n\nHuman: Hello.\n\nAssistant: Hi.\n\nHuman: Which river is long?"
    assert prompt_of("Name a river.") == ASKED
    assert prompt_of(said) == prompt_of(json.dumps(said)) == prompt_of(transcript) == TALK
    assert prompt_of(transcript + "\n\nAssistant:") == TALK


# ---- other tools' forms, as their documentation shows them


def test_argilla_records_are_read_nested_flat_and_by_column(tmp_path):
    answers = {
        "helpful": [{"value": 4, "user_id": "u1"}, {"value": 2, "user_id": "u2"}],
        "tags": [{"value": ["a", "b"], "user_id": "u1"}],
        "tone": [{"value": "warm", "user_id": "None"}],
    }
    record = {
        "id": "rec-1", "fields": {"prompt": "Name a river.", "response": "Rhine"}, "metadata": {"model": "m-1"},
        "suggestions": {}, "responses": answers, "vectors": {}, "_server_id": None,
    }  # fmt: skip
    flat = {
        "id": "rec-1", "prompt": "Name a river.", "response": "Rhine", "model": "m-1", "helpful.responses": [4, 2],
        "helpful.responses.users": ["u1", "u2"], "helpful.responses.status": ["submitted", "discarded"], "_server_id": None,
    }  # fmt: skip
    rows = [RatingRow(1, "rec-1", ASKED, "Rhine", "m-1", user, "helpful", value) for user, value in (("u1", "4"), ("u2", "2"))]
    (tmp_path / "list.json").write_text(json.dumps([record]))
    found = ratings_files.read(tmp_path / "list.json")
    assert (found.form, found.rows) == ("argilla", rows)
    assert [one.reason for one in found.unused] == [
        "['a', 'b'] is a list: expected one number or word", "no rater: expected who gave it",
    ]  # fmt: skip
    (tmp_path / "columns.json").write_text(json.dumps({name: [value] for name, value in record.items()}))
    (tmp_path / "by_id.json").write_text(json.dumps({"rec-1": record}))
    assert ratings_files.read(tmp_path / "columns.json").rows == ratings_files.read(tmp_path / "by_id.json").rows == rows
    told = ratings_files.read(lines(tmp_path / "flat.jsonl", flat))
    assert (told.form, told.rows) == ("argilla", rows[:1])
    assert [one.reason for one in told.unused] == ["the answer to 'helpful' is discarded: only submitted ones count"]


def test_an_argilla_record_with_two_responses_holds_preferences(tmp_path):
    record = {
        "id": "rec-2", "fields": {"question": "Name a river.", "response_a": "Rhine", "response_b": "Rock"},
        "responses": {"better": [{"value": "response_a", "user_id": "u1"}, {"value": "C", "user_id": "u2"}]},
    }  # fmt: skip
    found = ratings_files.read(lines(tmp_path / "r.jsonl", record))
    assert found.rows == [PreferenceRow(1, "rec-2", ASKED, "Rhine", "Rock", "", "", "u1", "left", "better")]
    assert "the choice is 'C'" in found.unused[0].reason


def result(kind: str, name: str, to: str, **value: object) -> dict[str, object]:
    return {"id": "x", "type": kind, "from_name": name, "to_name": to, "value": value}


def test_label_studio_annotations_are_read_by_type(tmp_path):
    task = {
        "id": 5, "data": {"prompt": "Name a river.", "response": "Rhine", "model": "m-1"}, "predictions": [],
        "annotations": [
            {
                "id": 1, "completed_by": {"id": 3, "email": "ana@example.org"}, "lead_time": 4.5, "was_cancelled": False,
                "created_at": "2026-11-02T09:00:00.123457Z",
                "result": [
                    result("rating", "helpful", "response", rating=4), result("number", "length", "response", number=2.5),
                    result("choices", "safe", "response", choices=["Yes"]),
                    result("choices", "tags", "response", choices=["a", "b"]),
                    result("textarea", "why", "response", text=["Short.", "True."]),
                    result("ranker", "rank", "response", ranker=[]),
                    result("rating", "part", "response", rating=1, start=0, end=3),
                ],
            },
            {"id": 2, "completed_by": 8, "was_cancelled": True, "result": []},
        ],
    }  # fmt: skip
    (tmp_path / "export.json").write_text(json.dumps([task]))
    found = ratings_files.read(tmp_path / "export.json")
    said = [("helpful", "4"), ("length", "2.5"), ("safe", "Yes")]
    assert found.rows == [
        RatingRow(1, "5", ASKED, "Rhine", "m-1", "ana@example.org", aspect, value, seconds=4.5, at=AT, note="Short.\nTrue.")
        for aspect, value in said
    ]
    assert [one.reason.split(":")[0] for one in found.unused] == [
        "'tags' is ['a', 'b']", "a result is of type 'ranker'", "'part' is about a part of the text",
        "an annotation was cancelled",
    ]  # fmt: skip


def test_label_studio_comparisons_and_ratings_of_one_side_are_told_apart(tmp_path):
    given = [
        result("pairwise", "comparison", "answer1,answer2", selected="right"),
        result("pairwise", "turned", "answer2,answer1", selected="left"),
        result("choices", "verdict", "prompt", choices=["tie"]),
        result("rating", "helpful", "answer2", rating=2),
        result("rating", "helpful", "prompt", rating=2),
        result("number", "strength", "prompt", number=-2),
    ]
    data = {"prompt": "Name a river.", "answer1": "Rhine", "answer2": "Rock", "model_a": "m-1", "model_b": "m-2"}
    task = {"id": 6, "data": data, "annotations": [{"completed_by": 8, "result": given}]}
    found = ratings_files.read(lines(tmp_path / "r.jsonl", task))
    sides = (ASKED, "Rhine", "Rock", "m-1", "m-2", "8")
    assert found.rows == [
        PreferenceRow(1, "6", *sides, "right", "comparison"),
        PreferenceRow(1, "6", ASKED, "Rock", "Rhine", "m-2", "m-1", "8", "left", "turned"),
        PreferenceRow(1, "6", *sides, "tie", "verdict"),
        RatingRow(1, "6", ASKED, "Rock", "m-2", "8", "helpful", "2"),
        PreferenceRow(1, "6", *sides, "-2"),
    ]
    assert [one.reason for one in found.unused] == ["'helpful' rates prompt: expected one of the two responses"]


def test_mt_bench_judgments_are_about_the_conversation_up_to_their_turn(tmp_path):
    def talk(first: str, second: str) -> list[dict[str, str]]:
        said = [("user", "Name a river."), ("assistant", first), ("user", "Shorter?"), ("assistant", second)]
        return [{"role": role, "content": text} for role, text in said]

    record = {
        "question_id": 81, "model_a": "m-1", "model_b": "m-2", "winner": "model_b", "judge": "expert_0", "turn": 1,
        "conversation_a": talk("Rhine", "R."), "conversation_b": talk("Rock", "No."),
    }  # fmt: skip
    second = {**record, "turn": 2, "winner": "tie (inconsistent)", "judge": ["gpt-4", "pair-v2-multi-turn"]}
    path = lines(tmp_path / "r.jsonl", record, second, {**record, "turn": 3}, {**record, "winner": "error"})
    found = ratings_files.read(path)
    later = "\n\nHuman: Shorter?\n\nAssistant: "
    assert found.form == "mt-bench"
    assert found.rows == [
        PreferenceRow(1, "81", ASKED, "Rhine", "Rock", "m-1", "m-2", "expert_0", "right", "turn 1"),
        PreferenceRow(2, "81", ASKED, f"Rhine{later}R.", f"Rock{later}No.", "m-1", "m-2", "gpt-4 pair-v2-multi-turn", "tie",
                      "turn 2", note="tie (inconsistent)"),
    ]  # fmt: skip
    assert [(one.line, one.reason.split(":")[0]) for one in found.unused] == [
        (3, "conversation_a has 2 questions and an end at assistant"), (4, "the choice is 'error'"),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="expected no mapping of rater"):
        ratings_files.read(path, mapping={"rater": "judge"})


def test_fastchat_judgments_that_change_with_the_order_are_ties(tmp_path):
    games = [("model_1", "model_1"), ("model_1", "model_2"), ("tie", "tie"), ("error", "model_1")]
    records = [
        {"question_id": 81, "model_1": "m-1", "model_2": "m-2", "g1_winner": one, "g2_winner": two, "turn": 1}
        | {"judge": ["gpt-4", "pair-v2"], "tstamp": 1793610000.5}
        for one, two in games
    ]
    single = {"question_id": 81, "model": "m-1", "judge": ["gpt-4", "single-v1"], "judgment": "...", "score": 7, "turn": 2}
    found = ratings_files.read(lines(tmp_path / "r.jsonl", *records, single, {**single, "score": -1}))
    at = datetime.fromtimestamp(1793610000.5, UTC)
    head = (None, None, None, "m-1", "m-2", "gpt-4 pair-v2")
    assert found.form == "fastchat"
    assert found.rows == [
        PreferenceRow(1, "81", *head, "left", "turn 1", at=at),
        PreferenceRow(2, "81", *head, "tie", "turn 1", at=at, note="tie (inconsistent)"),
        PreferenceRow(3, "81", *head, "tie", "turn 1", at=at),
        RatingRow(5, "81", None, None, "m-1", "gpt-4 single-v1", "turn 2", "7"),
    ]
    assert [one.reason for one in found.unused] == [
        "a winner is 'error': expected model_1, model_2 or tie", "the score is -1: the judge gave none",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "[]", "\x00", "[["])
def test_a_file_that_is_none_of_the_forms_is_refused(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ValueError, match=r"r\.json' (cannot be read|holds no record)"):
        ratings_files.read(tmp_path / "r.json")


@pytest.mark.parametrize(("text", "reason"), [("{}x", "not JSON"), ('"word"', "str: expected an object")])
def test_a_file_of_nothing_but_bad_records_names_them(tmp_path, text, reason):
    (tmp_path / "r.json").write_text(text)
    found = ratings_files.read(tmp_path / "r.json")
    assert (found.rows, [one.reason[: len(reason)] for one in found.unused]) == ([], [reason])


SOUND = [
    {"item": 1, "rater": "a", "value": 3, "prompt": "p", "response": "r", "at": "2026-01-01", "seconds": 3, "shown": 1},
    {"item": 1, "rater": "a", "choice": "A", "left": "l", "right": "r", "strength": -1},
    {"id": "r", "fields": {"prompt": "p"}, "metadata": {}, "responses": {"q": [{"value": 4, "user_id": "u"}]}},
    {"id": "r", "q.responses": [1], "q.responses.users": ["a"], "q.responses.status": ["submitted"]},
    {"id": 5, "data": {"left": "a", "right": "b"}, "annotations": [
        {"completed_by": 3, "lead_time": 1, "result": [result("pairwise", "x", "left,right", selected="left")]},
    ]},
    {"question_id": 1, "model_a": "a", "model_b": "b", "winner": "model_a", "judge": "j", "turn": 1,
     "conversation_a": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "x"}], "conversation_b": None},
    {"question_id": 1, "model_1": "a", "model_2": "b", "g1_winner": "model_1", "g2_winner": "tie", "judge": ["j"], "turn": 1},
]  # fmt: skip
JUNK = [
    None,
    "",
    -1,
    1e308,
    float("inf"),
    float("nan"),
    True,
    [],
    {},
    [[]],
    [{}],
    [None],
    {"a": None},
    "\ud800",
    "\x00",
    10**30,
]


def spoilt(value: object) -> Iterator[object]:
    """The value with every part of it, one at a time, gone for something else."""
    yield from JUNK
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        for part in spoilt(value[key]):
            yield {**value, key: part} if isinstance(value, dict) else [*value[:key], part, *value[key + 1 :]]


@pytest.mark.parametrize("sound", SOUND)
def test_whatever_a_record_holds_the_one_before_it_is_read(tmp_path, sound):
    bad = list(spoilt(sound))
    found = ratings_files.read(lines(tmp_path / "r.jsonl", sound, *map(json.dumps, bad)))
    assert len(bad) > 50
    assert found.rows[0].line == 1
    assert {one.line for one in found.unused} > {2, 3, 4}
    assert all("\n" not in one.reason and "object" not in one.reason.split("expected")[0] for one in found.unused)
