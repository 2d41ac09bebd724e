"""The filters on the sample: what they find of what was planted, and what they flag besides."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curation.filters.base import Flag
from curation.filters.registry import FILTERS, configured
from curation.pairs import Pair

DATA = Path(__file__).parents[1] / "data"


# `toxic` finds what its model knows, and the word list knows little; `contested` learns from the dataset, and this one is small
NO_MATTER_WHICH_MODEL = [name for name in FILTERS if name not in ("toxic", "contested")]


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


KEY = read("sample_key.jsonl")
TEXTS = read("sample.jsonl")


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    """The sample's pairs as a dataset holds them: each once, with all its rows."""
    rows: dict[str, list[int]] = {}
    by_id: dict[str, Pair] = {}
    for row, texts in enumerate(TEXTS):
        pair = Pair.of_texts(**texts)
        rows.setdefault(pair.pair_id, []).append(row)
        by_id[pair.pair_id] = pair
    return [replace(pair, rows=tuple(rows[pair_id])) for pair_id, pair in by_id.items()]


@pytest.fixture(scope="module")
def sample_was_read(sample_workspace, readings_of_all) -> None:
    """The screened sample's texts are not read again."""
    shutil.copytree(sample_workspace / "cache" / "readings", readings_of_all, dirs_exist_ok=True)


@pytest.fixture
def flagged(pairs, sample_was_read, read_once) -> Callable[[str], list[Flag]]:
    """What a filter flags: findings below the threshold are left out."""

    def by(name: str) -> list[Flag]:
        judge = configured(name, {})
        return [one for one in judge.flags(pairs) if one.score >= judge.threshold]

    return by


def rows_of(flags: list[Flag], pairs: list[Pair]) -> set[int]:
    flagged = {flag.pair_id for flag in flags}
    return {row for pair in pairs if pair.pair_id in flagged for row in pair.rows}


def test_the_key_names_every_row_in_order_and_only_filters_there_are():
    assert [entry["row"] for entry in KEY] == list(range(len(TEXTS))) == list(range(239))
    assert {entry["filter"] for entry in KEY} == {None, *NO_MATTER_WHICH_MODEL}
    assert sum(entry["noise"] == "none" for entry in KEY) == 130


def test_every_type_of_verdict_was_planted():
    assert {entry["verdict"] for entry in KEY} == {"same", "opposite", "vague", "toxic", "repetitive", "empty"}


def test_copies_and_contradictions_name_the_row_they_belong_to():
    for entry in KEY:
        if "of" in entry:
            mine, other = TEXTS[entry["row"]], TEXTS[entry["of"]]
            swapped = {"chosen": other["rejected"], "rejected": other["chosen"]}
            assert mine == (other if entry["noise"] == "duplicate" else swapped)


def test_every_transcript_round_trips():
    for texts in TEXTS:
        assert Pair.of_texts(**texts).transcripts() == (texts["chosen"], texts["rejected"])


@pytest.mark.parametrize("name", NO_MATTER_WHICH_MODEL)
def test_a_filter_finds_what_was_planted_for_it_and_little_else(pairs, flagged, name):
    found = rows_of(flagged(name), pairs)
    planted = {entry["row"] for entry in KEY if entry["filter"] == name}
    assert len(found & planted) / len(planted) >= 0.95, f"missed rows {sorted(planted - found)}"
    assert len(found & planted) / len(found) >= 0.95, f"false alarms in rows {sorted(found - planted)}"


@pytest.mark.parametrize("name", [*NO_MATTER_WHICH_MODEL, "toxic"])
def test_clean_pairs_are_let_go(pairs, flagged, name):
    found = rows_of(flagged(name), pairs)
    assert not [row for row in found if KEY[row]["noise"] == "none"]


@pytest.mark.parametrize("name", [name for name in NO_MATTER_WHICH_MODEL if name not in ("transcript", "duplicate")])
def test_a_flag_names_the_side_that_was_planted(pairs, flagged, name):
    # `transcript` says "pair" where one side merely runs on: by its rule the contexts differ
    sides: dict[int, set[str]] = {}
    by_id = {pair.pair_id: pair for pair in pairs}
    for flag in flagged(name):
        for row in by_id[flag.pair_id].rows:
            sides.setdefault(row, set()).add(flag.side)
    for entry in KEY:
        if entry["filter"] == name:
            both = {"both"} if name == "vague" else {"chosen", "rejected"}
            assert sides[entry["row"]] == (both if entry["side"] == "both" else {entry["side"]})


def batched(pairs: list[Pair], size: int) -> Iterator[list[Pair]]:
    return (pairs[start : start + size] for start in range(0, len(pairs), size))


@pytest.mark.parametrize("size", [1, 7, 100])
@pytest.mark.parametrize("name", [name for name, kind in FILTERS.items() if kind.alone])
def test_what_a_filter_says_does_not_depend_on_where_batches_end(pairs, name, size):
    judge = configured(name, {})
    assert [flag for batch in batched(pairs, size) for flag in judge.flags(batch)] == list(judge.flags(pairs))


def test_only_filters_that_compare_or_read_want_the_whole_dataset_at_once():
    assert [name for name, kind in FILTERS.items() if kind.alone] == ["empty", "transcript", "repetitive"]
