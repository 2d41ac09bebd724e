"""The filters on HH-RLHF's test set, where some counts are known from elsewhere; embeddings on a part of it."""

import gzip
import json
import os
import random
from collections import Counter
from pathlib import Path

import pytest

from curation.filters.registry import FILTERS, configured
from curation.pairs import Pair

DATA = Path(os.environ.get("ELEPHANT_DATA") or Path(__file__).parents[2] / "shared" / "data") / "hh-rlhf"
SUBSETS = ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled")


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    files = [DATA / subset / "test.jsonl.gz" for subset in SUBSETS]
    missing = [str(file) for file in files if not file.exists()]
    if missing:
        pytest.skip(f"HH-RLHF is not here: {missing[0]} is missing (set ELEPHANT_DATA to the folder that holds hh-rlhf)")
    lines = [line for file in files for line in gzip.decompress(file.read_bytes()).splitlines()]
    return [Pair.of_texts(**json.loads(line)) for line in lines]


def reasons(name: str, pairs: list[Pair], **parameters: object) -> Counter[str]:
    """How often each reason is given, up to its first colon."""
    return Counter(flag.reason.split(":")[0] for flag in configured(name, parameters).flags(pairs))


def test_eleven_pairs_have_an_empty_side(pairs):
    assert len(pairs) == 8552
    assert reasons("empty", pairs).total() == 11


def test_thirty_six_pairs_have_identical_sides(pairs):
    assert reasons("indistinct", pairs, meaning=False)["the two sides are identical"] == 36


def test_seventeen_pairs_have_two_contexts_and_two_more_go_on_into_a_human_turn(pairs):
    counts = reasons("transcript", pairs)
    assert counts["the two contexts differ"] == 17
    assert counts["the rejected response goes on with a further Human turn"] == 2


def test_no_pair_comes_twice_or_with_its_label_swapped(pairs):
    assert reasons("duplicate", pairs).total() == 0


@pytest.mark.parametrize("name", [name for name in FILTERS if name != "contested"])
def test_a_filter_flags_few_real_pairs_each_side_once_with_scores_in_range(pairs, name, read_once):
    some = random.Random(0).sample(pairs, 150) if name in ("vague", "indistinct") else pairs  # embedding all takes minutes
    judge = configured(name, {})
    findings = list(judge.flags(some))
    assert len({flag.pair_id for flag in findings if flag.score >= judge.threshold}) < 0.06 * len(some)
    assert len({(flag.pair_id, flag.side) for flag in findings}) == len(findings)
    assert all(0 < flag.score <= 1 and flag.reason for flag in findings)


def test_a_committee_gives_every_real_pair_a_strength_of_either_sign(pairs, read_once):
    some = random.Random(0).sample(pairs, 150)[:120]  # which were read before
    strengths = [json.loads(one.detail)["mean"] for one in configured("contested", {}).flags(some)]
    assert len(strengths) == 120
    assert -5 < min(strengths) < 0 < max(strengths) < 5
