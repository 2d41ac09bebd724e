"""Readers and row forms: every format gives the same pairs, and what cannot be read is said with its place and reason."""

import csv
import gzip
import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.pairs import Pair, Response, turn
from curation.sources import Reject, Row, source_of
from tests.conftest import ROOT, SMALL, hh, numbered

ROWS = [
    {"prompt": 'He said "a,\nb".', "chosen": "one\r\ntwo", "rejected": "", "subset": "quotes", "id": "1"},
    {"prompt": "Why? 🐘", "chosen": "é", "rejected": "e\u0301", "subset": "", "id": "2"},
]
PAIRS = [Pair((turn("user", row["prompt"]),), Response(row["chosen"]), Response(row["rejected"])) for row in ROWS]


def lines_of(rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def csv_of(rows, path):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path.read_bytes()


def read(path, **how):
    return list(source_of(str(path), **how).rows())


def places(rows):
    return [(row.file, row.line) for row in rows]


def rejects(path, content, **how):
    """Line and reason of every reject of a file with this content, and how many rows were read."""
    path.write_bytes(content)
    rows = read(path, **how)
    assert {row.file for row in rows} <= {path.name}
    return [(row.line, row.reason) for row in rows if isinstance(row, Reject)], sum(isinstance(row, Row) for row in rows)


# ---- readers


def written(path):
    """The two rows in the format the file's name asks for."""
    name = path.name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif name.endswith((".csv", ".csv.gz")):
        content = csv_of(ROWS, path)
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    else:
        content = {
            "rows.jsonl": lines_of(ROWS), "bom.jsonl": b"\xef\xbb\xbf" + lines_of(ROWS),
            "rows.jsonl.gz": gzip.compress(lines_of(ROWS)),
            "blank.jsonl": b"\n" + lines_of(ROWS).replace(b"}\n", b"}\n \n\n"), "no_end.jsonl": lines_of(ROWS).rstrip(),
            "lines.json": lines_of(ROWS), "list.json": json.dumps(ROWS).encode(),
            "list.json.gz": gzip.compress(json.dumps(ROWS).encode()),
            "pretty.json": json.dumps(ROWS, indent=2).encode(), "led.json": b"\n\n" + json.dumps(ROWS, indent=1).encode(),
            "object.json": json.dumps({"name": "x", "data": ROWS}).encode(),
            "pretty_object.json": json.dumps({"name": "x", "data": ROWS}, indent=4).encode(),
            "list_of_lines.json": b"[\n" + b",\n".join(lines_of(ROWS).splitlines()) + b"\n]\n",
        }[name]  # fmt: skip
        path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "name",
    ["rows.jsonl", "bom.jsonl", "rows.jsonl.gz", "blank.jsonl", "no_end.jsonl", "lines.json", "list.json", "list.json.gz",
     "pretty.json", "led.json", "object.json", "pretty_object.json", "list_of_lines.json", "rows.csv", "rows.csv.gz",
     "rows.parquet"],
)  # fmt: skip
def test_every_format_gives_the_same_rows(tmp_path, name):
    rows = read(written(tmp_path / name))
    assert [row.pair for row in rows] == PAIRS
    assert [(row.subset, row.split, row.file, json.loads(row.extra)) for row in rows] == [
        ("quotes", "", name, {"id": "1"}), ("", "", name, {"id": "2"}),
    ]  # fmt: skip


def test_a_row_is_named_by_the_line_it_begins_on(tmp_path):
    assert places(read(written(tmp_path / "rows.csv"))) == [("rows.csv", 2), ("rows.csv", 5)]
    assert places(read(written(tmp_path / "blank.jsonl"))) == [("blank.jsonl", 2), ("blank.jsonl", 5)]
    assert places(read(written(tmp_path / "list.json"))) == [("list.json", 1), ("list.json", 2)]


@pytest.mark.parametrize("row", [SMALL[0], {"data": "x", **ROWS[1]}])
def test_a_json_file_of_one_row_is_a_row(tmp_path, row):
    (tmp_path / "one.json").write_text(json.dumps(row, indent=1))
    assert [one.pair.chosen.text for one in read(tmp_path / "one.json")] == ["The Danube." if row is SMALL[0] else "é"]


def test_a_folder_gives_its_files_in_order_with_the_subset_and_split_their_places_name(tmp_path):
    for name in (
        "helpful/test.jsonl",
        "helpful/train.jsonl",
        "harmless/data/test-00000-of-00002.jsonl",
        ".git/x.jsonl",
        "notes.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(lines_of(SMALL[:1]))
    assert [(row.file, row.subset, row.split) for row in read(tmp_path)] == [
        ("harmless/data/test-00000-of-00002.jsonl", "harmless", "test"),
        ("helpful/test.jsonl", "helpful", "test"),
        ("helpful/train.jsonl", "helpful", "train"),
    ]
    assert [row.file for row in read(tmp_path, split="train")] == ["helpful/train.jsonl"]
    with pytest.raises(ValueError, match=r"no split 'validation' in .*: it has test, train"):
        source_of(str(tmp_path), split="validation")


def test_the_hh_folder_is_read_whole(data):
    rows = read(data / "hh-rlhf")
    assert {type(row) for row in rows} == {Row}
    counts = {subset: sum(row.subset == subset for row in rows) for subset in {row.subset for row in rows}}
    assert counts == {
        "harmless-base": 2312, "helpful-base": 2354, "helpful-online": 1137, "helpful-rejection-sampled": 2749,
    }  # fmt: skip
    assert {row.split for row in rows} == {"test"}


def test_saved_datasets_are_read(tmp_path):
    from datasets import Dataset, DatasetDict

    whole = Dataset.from_list(ROWS)
    whole.save_to_disk(tmp_path / "one")
    DatasetDict(train=whole, test=whole.select([1])).save_to_disk(tmp_path / "several")
    rows = read(tmp_path / "one")
    assert ([row.pair for row in rows], places(rows)) == (PAIRS, [("one", 1), ("one", 2)])
    rows = read(tmp_path / "several")
    assert [row.pair for row in rows] == [*PAIRS, PAIRS[1]]
    assert [(row.file, row.split) for row in rows] == [("train", "train"), ("train", "train"), ("test", "test")]
    assert [row.pair for row in read(tmp_path / "several", split="test")] == [PAIRS[1]]


FILES_ON_HUB = {
    "harmless/test.jsonl.gz": gzip.compress(lines_of(SMALL), mtime=0),
    "README.md": b"# not data",
    "load.py": b"1/0",
}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as a download of a dataset asks for."""

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body):
        path = self.path.split("?")[0]
        if path.startswith("/api/datasets/some/data/revision/"):
            files = [{"rfilename": name} for name in FILES_ON_HUB]
            self.reply(json.dumps({"id": "some/data", "sha": COMMIT, "siblings": files}).encode(), body, "application/json")
        elif path.startswith("/api/datasets/some/data/tree/"):
            files = [{"type": "file", "path": name, "size": len(c), "oid": git_id(c)} for name, c in FILES_ON_HUB.items()]
            self.reply(json.dumps(files).encode(), body, "application/json")
        elif path.startswith(f"/datasets/some/data/resolve/{COMMIT}/") and path.split(COMMIT + "/")[1] in FILES_ON_HUB:
            self.reply(FILES_ON_HUB[path.split(COMMIT + "/")[1]], body, "application/octet-stream")
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def reply(self, content, body, kind):
        self.send_response(200)
        headers = {
            "Content-Type": kind,
            "Content-Length": len(content),
            "ETag": f'"{git_id(content)}"',
            "X-Repo-Commit": COMMIT,
        }
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *words):
        pass


def git_id(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def test_a_hub_id_is_downloaded_and_read(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    code = """if True:
        import json, sys
        from curation.sources import source_of
        source = source_of("some/data", split="test")
        print(json.dumps([source.name, [(row.file, row.line, row.subset, row.pair.pair_id) for row in source.rows()]]))
        try:
            source_of("some/nothing")
        except ValueError as error:
            print(error)
    """
    environment = {
        **os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path),
        "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    environment.pop("HF_HUB_OFFLINE", None)
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
        )
    finally:
        server.shutdown()
        server.server_close()
    assert done.returncode == 0, done.stderr
    read_there, refused = done.stdout.splitlines()
    expected = [["harmless/test.jsonl.gz", n, "harmless", Pair.of_texts(**row).pair_id] for n, row in enumerate(SMALL, start=1)]
    assert json.loads(read_there) == ["some/data", expected]
    assert refused.startswith("no file or folder 'some/nothing' here, and the hub did not give it: ")


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("no/such/place", "no file or folder 'no/such/place': expected one, or a hub id such as Anthropic/hh-rlhf"),
        ("missing.jsonl", "no file or folder 'missing.jsonl': expected one, or a hub id such as Anthropic/hh-rlhf"),
    ],
)
def test_a_place_that_is_not_there_is_named(place, sentence):
    with pytest.raises(ValueError) as refused:  # noqa: PT011  the whole sentence is compared
        source_of(place)
    assert str(refused.value) == sentence


def test_a_source_without_data_or_with_a_wrong_request_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no data")
    for place in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ValueError, match=r"holds no data: expected files ending in \.jsonl"):
            source_of(str(place))
    with pytest.raises(ValueError, match="limit is 0: expected a number of rows, at least 1"):
        source_of(str(tmp_path), limit=0)
    with pytest.raises(ValueError, match="cannot map 'better': expected one of prompt, chosen, rejected, subset, split"):
        source_of(str(tmp_path), mapping={"better": "a"})


# ---- row forms


def test_rows_with_a_conversation_keep_every_turn(tmp_path):
    asked = [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"},
    ]  # fmt: skip
    good, bad = ([{"role": "assistant", "content": text}] for text in ("good", "bad"))
    explicit = {"prompt": asked, "chosen": good, "rejected": bad}
    implicit = {"chosen": asked + good, "rejected": asked + bad, "score_chosen": 4.5}
    ultrafeedback = {"prompt": "c", "prompt_id": "x", "chosen": asked + good, "rejected": asked + bad}
    (tmp_path / "rows.jsonl").write_bytes(lines_of([explicit, implicit, ultrafeedback]))
    turns = (turn("system", "Be brief."), turn("user", "a"), turn("assistant", "b"), turn("user", "c"))
    rows = read(tmp_path / "rows.jsonl")
    assert [row.pair for row in rows] == [Pair(turns, Response("good"), Response("bad"))] * 3
    assert [row.extra for row in rows] == [None, '{"score_chosen": 4.5}', '{"prompt_id": "x"}']
    assert rows[0].pair.transcripts()[0] == "\n\nSystem: Be brief.\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: good"


def test_an_empty_list_of_messages_is_an_empty_response_to_the_prompt(tmp_path):
    row = {"prompt": "q", "chosen": [{"role": "assistant", "content": "good"}], "rejected": []}
    (tmp_path / "rows.jsonl").write_bytes(lines_of([row]))
    (one,) = read(tmp_path / "rows.jsonl")
    assert (one.pair.prompt, one.pair.chosen.text, one.pair.rejected.text) == ((turn("user", "q"),), "good", "")


def test_a_response_that_begins_with_a_marker_does_not_push_out_the_prompt(tmp_path):
    row = {"prompt": "Write a dialogue.", "chosen": "\n\nHuman: hi\n\nAssistant: ho", "rejected": "\n\nHuman: x"}
    (tmp_path / "rows.jsonl").write_bytes(lines_of([row]))
    (one,) = read(tmp_path / "rows.jsonl")
    assert one.pair.prompt == (turn("user", "Write a dialogue."),)
    assert (one.pair.chosen.text, one.pair.rejected.text) == (row["chosen"], row["rejected"])


def test_rewardbench_rows_are_read(tmp_path):
    row = {
        "id": 30, "prompt": "How do I steam milk?", "chosen": "Slowly.", "chosen_model": "GPT4", "rejected": "Coffee.",
        "rejected_model": "bard", "subset": "alpacaeval-easy",
    }  # fmt: skip
    (tmp_path / "rows.jsonl").write_bytes(lines_of([row]))
    (one,) = read(tmp_path / "rows.jsonl")
    assert one.pair == Pair((turn("user", "How do I steam milk?"),), Response("Slowly."), Response("Coffee."))
    assert one.subset == "alpacaeval-easy"
    assert json.loads(one.extra) == {"id": 30, "chosen_model": "GPT4", "rejected_model": "bard"}


def test_the_real_rewardbench_file_is_read_whole(data):
    path = data / "rewardbench" / "llmbar.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    rows = read(path)
    assert [(row.pair.prompt, row.pair.chosen.text, row.pair.rejected.text, row.subset) for row in rows] == [
        ((turn("user", one["prompt"]),), one["chosen"], one["rejected"], one["subset"]) for one in records
    ]
    counts = {subset: sum(row.subset == subset for row in rows) for subset in sorted({row.subset for row in rows})}
    assert counts == {
        "llmbar-adver-GPTInst": 92, "llmbar-adver-GPTOut": 47, "llmbar-adver-manual": 46, "llmbar-adver-neighbor": 134,
        "llmbar-natural": 100,
    }  # fmt: skip


def test_lists_of_strings_give_every_chosen_with_every_rejected_in_order(tmp_path):
    row = {
        "id": "tied:3", "prompt": "Name a primary colour.", "chosen": ["Red.", "Blue."], "rejected": ["Pink.", "Red.", ""],
        "num_correct": 2, "models": ["a", "b"], "additional_metadata": {"method": "x"}, "subset": "Ties",
    }  # fmt: skip
    (tmp_path / "rows.jsonl").write_bytes(b"\n" + lines_of([row]) + GOOD)
    *rows, after = read(tmp_path / "rows.jsonl")
    assert [(one.pair.chosen.text, one.pair.rejected.text) for one in rows] == [
        ("Red.", "Pink."), ("Red.", "Red."), ("Red.", ""), ("Blue.", "Pink."), ("Blue.", "Red."), ("Blue.", ""),
    ]  # fmt: skip
    assert {one.pair.prompt for one in rows} == {(turn("user", "Name a primary colour."),)}
    others = {"id": "tied:3", "num_correct": 2, "models": ["a", "b"], "additional_metadata": {"method": "x"}}
    assert {(one.subset, one.line, one.extra) for one in rows} == {("Ties", 2, json.dumps(others))}
    assert (after.line, after.pair.chosen.text) == (3, "The Danube.")


def test_lists_of_strings_take_mapped_columns_and_hh_prompts(tmp_path):
    context = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c"
    row = {"asked": context, "better": ["good"], "worse": ["bad", "worse"], "kind": "Math"}
    (tmp_path / "rows.jsonl").write_bytes(lines_of([row]))
    mapping = {"prompt": "asked", "chosen": "better", "rejected": "worse", "subset": "kind"}
    rows = read(tmp_path / "rows.jsonl", mapping=mapping)
    turns = (turn("user", "a"), turn("assistant", "b"), turn("user", "c"))
    assert [one.pair for one in rows] == [Pair(turns, Response("good"), Response(text)) for text in ("bad", "worse")]
    assert {(one.subset, one.extra) for one in rows} == {("Math", None)}


def test_columns_that_are_called_otherwise_are_mapped(tmp_path):
    row = {"question": "q", "better": "good", "worse": "bad", "kind": "easy", "part": "test", "chosen": "not this"}
    (tmp_path / "rows.jsonl").write_bytes(lines_of([row]))
    mapping = {"prompt": "question", "chosen": "better", "rejected": "worse", "subset": "kind", "split": "part"}
    (one,) = read(tmp_path / "rows.jsonl", mapping=mapping)
    assert one.pair == Pair((turn("user", "q"),), Response("good"), Response("bad"))
    assert (one.subset, one.split, one.extra) == ("easy", "test", '{"chosen": "not this"}')


# ---- what cannot be read

GOOD = lines_of(SMALL[:1])


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'{"chosen": \n', "not JSON: Expecting value: line 2 column 1 (char 12)"),
        (b'{"chosen": "\xff"}\n', "not UTF-8 at byte 12"),
        (b"[1]\n", "the row is list: expected an object with named columns"),
        (b'{"text": "x"}\n', "no chosen and rejected: the columns are 'text'; map one with --map"),
        (b'{"chosen": "x", "rejected": null}\n', "no rejected: the columns are 'chosen', 'rejected'; map one with --map"),
        (
            b'{"chosen": 1, "rejected": "x"}\n',
            "chosen and rejected are int and str: expected two strings or two lists of messages or strings",
        ),
        (
            b'{"chosen": [], "rejected": "x"}\n',
            "chosen and rejected are list and str: expected two strings or two lists of messages or strings",
        ),
        (b'{"prompt": 3, "chosen": "x", "rejected": "y"}\n', "prompt is int: expected a string or a list of messages"),
        (
            b'{"chosen": ["x"], "rejected": []}\n',
            "rejected is an empty list: expected one string or more, as on the other side",
        ),
        (
            b'{"chosen": [], "rejected": ["x"]}\n',
            "chosen is an empty list: expected one string or more, as on the other side",
        ),
        (
            b'{"chosen": ["x", 3], "rejected": ["y"]}\n',
            "an answer in chosen is '3': expected a string, as the other answers are",
        ),
        (
            b'{"chosen": ["x"], "rejected": ["y", null, "z"]}\n',
            "an answer in rejected is 'None': expected a string, as the other answers are",
        ),
        (
            b'{"chosen": [{"role": "assistant", "content": "x"}], "rejected": ["y"]}\n',
            "an answer in chosen is \"{'role': 'assistant', 'content': 'x'}\": expected a string, as the other answers are",
        ),
        (
            b'{"chosen": ["x", "\\ud83d"], "rejected": ["y", "z"]}\n',
            "the text holds half a character (\\ud83d): expected valid Unicode",
        ),
        (
            b'{"chosen": [{"role": "user"}], "rejected": []}\n',
            "a message of chosen is \"{'role': 'user'}\": expected a role and a text content",
        ),
        (b'{"chosen": "\\ud83d", "rejected": "y"}\n', "the text holds half a character (\\ud83d): expected valid Unicode"),
        (
            b'{"chosen": [{"role": "\\ud83d", "content": ""}], "rejected": []}\n',
            "the text holds half a character (\\ud83d): expected valid Unicode",
        ),
        (b"[" * 100_000 + b"\n", "not JSON: "),
    ],
)
def test_a_bad_line_is_rejected_with_its_number_and_reason_and_the_others_are_read(tmp_path, bad, reason):
    (found,), read_well = rejects(tmp_path / "rows.jsonl", GOOD + bad + GOOD)
    assert (found[0], read_well) == (2, 2)
    assert found[1].replace("\\\\", "\\").startswith(reason)


def test_a_reject_shows_the_beginning_of_the_row(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b'{"text": "' + b"x" * 5000 + b'"}\n')
    (one,) = read(tmp_path / "rows.jsonl")
    assert one.text == '{"text": "' + "x" * 1990


def test_a_bad_line_in_a_json_file_of_lines_costs_only_itself(tmp_path):
    bad = b'{"chosen": oops}\n'
    reason = "not JSON: Expecting value: line 1 column 12 (char 11)"
    assert rejects(tmp_path / "rows.json", bad + GOOD + GOOD) == ([(1, reason)], 2)
    found, read_well = rejects(tmp_path / "rows.json", GOOD + bad + GOOD)
    assert ([line for line, _ in found], read_well) == ([2], 2)


def test_a_json_document_that_breaks_off_is_one_reject(tmp_path):
    found, read_well = rejects(tmp_path / "rows.json", json.dumps(SMALL, indent=1).encode()[:-20])
    assert ([line for line, _ in found], read_well) == ([1], 0)
    assert found[0][1].startswith("not JSON: ")


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.csv.gz"])
def test_a_truncated_gzip_gives_its_beginning_and_says_where_it_ends(tmp_path, name):
    rows = numbered(3000)
    whole = gzip.compress(lines_of(rows) if "json" in name else csv_of(rows, tmp_path / "plain.csv"))
    found, read_well = rejects(tmp_path / name, whole[: len(whole) // 2])
    assert 0 < read_well < 3000
    assert [reason.split(":")[0] for _, reason in found][-1] == "the file cannot be read from here on"


def test_a_damaged_gzip_is_a_reject(tmp_path):
    whole = gzip.compress(lines_of(numbered(3000)))
    middle = len(whole) // 2
    found, _ = rejects(tmp_path / "rows.jsonl.gz", whole[:middle] + b"\xff" * 50 + whole[middle + 50 :])
    assert found[-1][1].startswith("the file cannot be read from here on: ")
    assert rejects(tmp_path / "not.jsonl.gz", b"plain text\n")[0] == [
        (1, "the file cannot be read from here on: Not a gzipped file (b'pl')")
    ]


def test_csv_rows_that_are_not_like_the_header_are_rejected(tmp_path):
    content = b'prompt,chosen,rejected\nq,a,b\nq,a\nq,a,b,c\n"q",\xff,b\n"q"x,a,b\n"q\nr",a,b\nq,a,"open\n'
    found, read_well = rejects(tmp_path / "rows.csv", content)
    assert found == [
        (3, "the row does not have the header's 3 columns"),
        (4, "the row does not have the header's 3 columns"),
        (5, "not UTF-8 at byte 4 of line 5"),
        (6, "not CSV: ',' expected after '\"'"),
        (9, "not CSV: unexpected end of data"),
    ]
    assert read_well == 2


def test_parquet_that_is_none_or_holds_a_bad_text_is_rejected(tmp_path):
    ((line, reason),), read_well = rejects(tmp_path / "rows.parquet", b"PAR1 not parquet")
    assert (line, read_well) == (1, 0)
    assert reason.startswith("not Parquet from here on: ")
    texts = _unchecked([b"good", b"\xff", b"good"])
    pq.write_table(pa.table({"chosen": texts, "rejected": ["a", "b", "c"]}), tmp_path / "text.parquet")
    rows = read(tmp_path / "text.parquet")
    assert [type(row) for row in rows] == [Row, Reject, Row]
    assert (rows[1].line, rows[1].reason) == (2, "not UTF-8 at byte 0 of a text")


def _unchecked(texts):
    """A column that says it holds text without anybody having looked."""
    binary = pa.array(texts, pa.binary())
    return pa.StringArray.from_buffers(len(texts), binary.buffers()[1], binary.buffers()[2])


def test_a_damaged_saved_dataset_is_a_reject(tmp_path):
    from datasets import Dataset

    Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    next((tmp_path / "saved").glob("*.arrow")).write_bytes(b"nothing")
    (one,) = read(tmp_path / "saved")
    assert (one.file, one.line, one.reason.split(":")[0]) == ("saved", 1, "not a saved dataset from here on")


# ---- limit and progress


def test_limit_counts_rows_over_all_files(tmp_path):
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_bytes(lines_of(numbered(3)) + b"bad\n")
    assert places(read(tmp_path, limit=5)) == [("a.jsonl", 1), ("a.jsonl", 2), ("a.jsonl", 3), ("a.jsonl", 4), ("b.jsonl", 1)]
    assert len(read(tmp_path, limit=100)) == 8


def test_limit_counts_a_record_of_several_rows_once(tmp_path):
    several = {"prompt": "q", "chosen": ["a", "b"], "rejected": ["c", "d"]}
    (tmp_path / "rows.jsonl").write_bytes(lines_of([several, several, *numbered(3)]))
    assert [line for _, line in places(read(tmp_path / "rows.jsonl", limit=3))] == [1, 1, 1, 1, 2, 2, 2, 2, 3]


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "csv", "parquet", "json", "saved", "folder"])
def test_progress_rises_to_one(tmp_path, kind):
    rows = numbered(3000)
    path = tmp_path / f"rows.{kind}"
    if kind == "saved":
        from datasets import Dataset

        Dataset.from_list(rows).save_to_disk(path)
    elif kind == "folder":
        path.mkdir()
        for name in "abcde":
            (path / f"{name}.jsonl").write_bytes(lines_of(rows[:600]))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "csv":
        csv_of(rows, path)
    else:
        content = json.dumps(rows, indent=0).encode() if kind == "json" else lines_of(rows)
        path.write_bytes(gzip.compress(content) if kind.endswith("gz") else content)
    source = source_of(str(path))
    for _ in range(2):  # read twice, it begins again
        shares = [source.share for _ in source.rows()] + [source.share]
        assert shares == sorted(shares)
        assert (len(shares), shares[-1]) == (3001, 1.0)
        assert 0 <= shares[0] < 1 or kind == "json"
        assert len(set(shares)) > 3 or kind in ("json", "jsonl.gz")


def test_progress_of_a_limited_read_ends_at_one_too(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(lines_of(numbered(100)))
    source = source_of(str(tmp_path / "rows.jsonl"), limit=10)
    assert (len(list(source.rows())), source.share) == (10, 1.0)


def test_an_hh_row_needs_no_other_column(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(lines_of([hh("q", "good", "bad")]))
    (one,) = read(tmp_path / "rows.jsonl")
    assert (one.pair, one.extra) == (Pair((turn("user", "q"),), Response("good"), Response("bad")), None)
