"""Importing: all of a source or nothing of it, and nothing of it twice."""

import json

import pytest

from curation.importing import import_source
from curation.pairs import Pair
from curation.sources import source_of
from tests.conftest import SMALL, import_rows, numbered

TABLES = ("datasets", "dataset_rows", "rejects", "prompts", "responses", "pairs")


def counts(workspace):
    return {table: workspace.database.rows(f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}


def source_with(tmp_path, rows, *, bad=()):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"".join([json.dumps(row).encode() + b"\n" for row in rows] + list(bad)))
    return source_of(str(file))


def left_in_cache(workspace):
    return list(workspace.cache.rglob("*")) if workspace.cache.exists() else []


def test_an_import_holds_every_row_in_order_with_its_content(workspace, tmp_path):
    done = import_source(workspace, source_with(tmp_path, SMALL, bad=[b"oops\n"]), "small")
    assert done._replace(seconds=0) == ("small", 4, 1, 4, True, 0)
    pairs = [Pair.of_texts(**row) for row in SMALL]
    rows = workspace.pairs.rows_in_order("small")
    assert rows == [(number, pair.pair_id, "", "") for number, pair in enumerate(pairs)]
    assert [workspace.pairs.pair(pair_id).transcripts() for _, pair_id, _, _ in rows] == [
        (r["chosen"], r["rejected"]) for r in SMALL
    ]
    assert workspace.pairs.rejects("small") == [
        {"file": "rows.jsonl", "line": 5, "reason": "not JSON: Expecting value: line 1 column 1 (char 0)", "text": "oops\n"}
    ]
    assert left_in_cache(workspace) == []


def test_a_pair_comes_back_as_it_went_in_whatever_its_text(workspace, tmp_path):
    texts = [
        "",
        "\0",
        "a\0b",
        "🐘\u200d",
        "\r\n\r\nHuman: x",
        "\n\n\n\nAssistant: ",
        "\n\nHuman:\n\nHuman: ",
        "'; DROP TABLE pairs; --",
        "\ufeff",
    ]
    context = "\n\nHuman: q{0}\n\nAssistant:"
    rows = [{"chosen": context.format(text) + text, "rejected": context.format(text) + " x" + text} for text in texts]
    for number, (row, pair_id) in enumerate(zip(rows, import_rows(workspace, rows), strict=True)):
        pair = workspace.pairs.pair(pair_id)
        assert (pair.pair_id, pair.transcripts()) == (pair_id, (row["chosen"], row["rejected"]))
        assert [place[0] for place in workspace.pairs.positions("small", pair_id)] == [number]


def test_importing_again_changes_nothing(workspace, tmp_path):
    source = source_with(tmp_path, SMALL, bad=[b"oops\n"])
    assert import_source(workspace, source, "small").new is True
    before = counts(workspace)
    again = import_source(workspace, source_with(tmp_path, SMALL, bad=[b"oops\n"]), "small")
    assert (again.new, again.rows, counts(workspace)) == (False, 4, before)


def test_the_same_content_under_another_name_is_stored_once(workspace, tmp_path):
    import_rows(workspace, SMALL, "one")
    before = counts(workspace)
    import_rows(workspace, SMALL, "two")
    assert counts(workspace) == {**before, "datasets": 2, "dataset_rows": 8}
    assert workspace.pairs.rows_in_order("one") == workspace.pairs.rows_in_order("two")


@pytest.mark.parametrize(
    "other", [SMALL[:3], SMALL[::-1], [*SMALL[:3], {**SMALL[3], "subset": "x"}], [*SMALL[:3], {**SMALL[3], "split": "x"}]]
)
def test_other_content_under_the_same_name_is_refused_and_changes_nothing(workspace, tmp_path, other):
    import_rows(workspace, SMALL, "small")
    before, rows = counts(workspace), workspace.pairs.rows_in_order("small")
    with pytest.raises(ValueError, match=r"there is a dataset 'small' with other content \(4 rows of small.jsonl\)"):
        import_source(workspace, source_with(tmp_path, other), "small")
    assert (counts(workspace), workspace.pairs.rows_in_order("small"), left_in_cache(workspace)) == (before, rows, [])


def test_a_source_of_which_no_row_can_be_read_is_refused(workspace, tmp_path):
    with pytest.raises(ValueError, match=r"none of the 2 rows could be read; rows\.jsonl line 1: not JSON"):
        import_source(workspace, source_with(tmp_path, [], bad=[b"oops\n", b"{}\n"]), "small")
    with pytest.raises(ValueError, match=r"'rows.jsonl' holds no rows"):
        import_source(workspace, source_with(tmp_path, []), "small")
    assert (set(counts(workspace).values()), left_in_cache(workspace)) == ({0}, [])


@pytest.mark.parametrize("name", ["", "  ", "a/b", "a\nb", "x" * 101, "\ud83d"])
def test_a_name_that_cannot_be_used_is_refused(workspace, tmp_path, name):
    with pytest.raises(ValueError, match="cannot be used: expected up to 100 characters without '/'"):
        import_source(workspace, source_with(tmp_path, SMALL), name)
    assert set(counts(workspace).values()) == {0}


class Stopped(BaseException):
    """The user pressed Ctrl+C."""


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_an_import_that_is_interrupted_leaves_nothing(workspace, tmp_path, call):
    said = []

    def progress(share, words):
        said.append((share, words))
        if len(said) == call:
            raise Stopped

    with pytest.raises(Stopped):
        import_source(workspace, source_with(tmp_path, numbered(1700)), "small", progress=progress)
    assert said[-1][1] == ["500 rows read", "1,000 rows read", "1,500 rows read", "storing 1,700 rows"][call - 1]
    assert (set(counts(workspace).values()), left_in_cache(workspace)) == ({0}, [])
    done = import_source(workspace, source_with(tmp_path, numbered(1700)), "small")
    assert (done.rows, done.new) == (1700, True)


def test_progress_rises_to_one(workspace, tmp_path):
    shares = []
    import_source(workspace, source_with(tmp_path, numbered(1700)), "small", progress=lambda share, words: shares.append(share))
    assert shares == sorted(shares)
    assert (shares[0] > 0, shares[-2:]) == (True, [0.9, 1.0])


def test_duplicates_keep_their_rows(workspace, tmp_path):
    rows = [SMALL[0], SMALL[1], SMALL[0], SMALL[0]]
    done = import_source(workspace, source_with(tmp_path, rows), "small")
    twin = Pair.of_texts(**SMALL[0]).pair_id
    assert (done.rows, done.distinct) == (4, 2)
    assert [row for row, pair_id, _, _ in workspace.pairs.rows_in_order("small") if pair_id == twin] == [0, 2, 3]
    assert [place[0] for place in workspace.pairs.positions("small", twin)] == [0, 2, 3]
    assert counts(workspace) == {"datasets": 1, "dataset_rows": 4, "rejects": 0, "prompts": 2, "responses": 4, "pairs": 2}


def test_a_reject_that_cannot_be_stored_as_it_is_is_stored_readably(workspace, tmp_path):
    bad = [b'{"chosen": "\\ud83d", "rejected": "x"}\n', b'{"chosen": "\xff\n']
    done = import_source(workspace, source_with(tmp_path, SMALL, bad=bad), "small")
    assert (done.rows, done.rejected) == (4, 2)
    assert [(one["line"], one["text"]) for one in workspace.pairs.rejects("small")] == [
        (5, '{"chosen": "\\ud83d", "rejected": "x"}'), (6, '{"chosen": "\ufffd\n'),
    ]  # fmt: skip


def test_hh_rlhf_is_imported_whole(workspace, data):
    done = import_source(workspace, source_of(str(data / "hh-rlhf")), "hh")
    assert (done.rows, done.rejected) == (8552, 0)
    assert workspace.pairs.subsets("hh") == {
        "harmless-base": 2312, "helpful-base": 2354, "helpful-online": 1137, "helpful-rejection-sampled": 2749,
    }  # fmt: skip
    texts = source_of(str(data / "hh-rlhf")).rows()
    stored = workspace.pairs.rows_in_order("hh")
    assert [pair_id for _, pair_id, _, _ in stored] == [row.pair.pair_id for row in texts]
    assert len({pair_id for _, pair_id, _, _ in stored}) == done.distinct
    assert left_in_cache(workspace) == []
