"""Releases: what a policy decides, that the counts add up, and the files of the folder, byte for byte."""

import gzip
import hashlib
import json
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from statsmodels.stats.proportion import proportion_confint

from curation import release_card, release_files
from curation.importing import import_source
from curation.pairs import Pair
from curation.release import Policy, in_words, plan, policy_from, release, rule
from curation.review import Verdict
from curation.sources import source_of
from curation.stats.accuracy import wilson
from curation.store.flags import Screening
from curation.store.verdicts import Decision, Settlement
from curation.workspace import Workspace
from tests.conftest import ROOT, SMALL, Clock, flag_pairs, hh, import_rows, numbered


@pytest.fixture
def small(workspace: Workspace) -> list[str]:
    """The pairs of the dataset "small"."""
    return import_rows(workspace, SMALL)


def say(workspace: Workspace, pair_id: str, **verdicts: str) -> None:
    """Record people's verdicts, a second apart."""
    for person, verdict in verdicts.items():
        workspace.clock.forward(seconds=1)  # type: ignore[attr-defined]
        at, claim = workspace.clock(), f"{pair_id}-{person}-{workspace.clock()}"
        row = Decision(claim, "small", pair_id, person, verdict, "flagged", "A", 4.0, "a private note", ["refusal"], at)
        workspace.verdicts.add([row])


def settle(workspace: Workspace, pair_id: str, verdict: str, person: str = "judith") -> None:
    workspace.clock.forward(seconds=1)  # type: ignore[attr-defined]
    row = Settlement(f"a-{pair_id}", "small", pair_id, person, verdict, "", 9.0, workspace.clock())
    assert workspace.verdicts.settle(row, instead_of=None)


def reasons(workspace: Workspace, policy: Policy, dataset: str = "small") -> list[str]:
    return [one.ruling.reason for one in plan(workspace, dataset, policy).rows]


def lines(path: Path) -> list[dict[str, Any]]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in data.decode().splitlines()] if data else []


def made(workspace: Workspace, policy: Policy | None = None, *, name: str = "one", dataset: str = "small") -> Path:
    """The folder of a new release."""
    return workspace.folder / release(workspace, dataset, name, policy or Policy()).folder


def contents(folder: Path) -> dict[str, str]:
    """Every file of a folder with the hash of its bytes."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


# ---- what becomes of a pair


@pytest.mark.parametrize(
    ("votes", "policy", "outcome", "verdict"),
    [
        ({"same": 1}, Policy(), "kept", "same"),
        ({"opposite": 1}, Policy(), "swapped", "opposite"),
        ({"vague": 1}, Policy(), "dropped", "vague"),
        ({"toxic": 1}, Policy(), "dropped", "toxic"),
        ({"repetitive": 1}, Policy(), "dropped", "repetitive"),
        ({"empty": 1}, Policy(), "dropped", "empty"),
        ({"empty": 1}, Policy(verdicts={"empty": "keep"}), "kept", "empty"),
        ({"opposite": 1}, Policy(verdicts={"empty": "keep"}), "swapped", "opposite"),
        ({"opposite": 1}, Policy.keep_everything(), "kept", "opposite"),
        ({"vague": 2, "same": 1}, Policy(), "dropped", "vague"),
        ({"opposite": 2, "same": 1}, Policy(), "swapped", "opposite"),
        ({"opposite": 1, "same": 1}, Policy(), "dropped", ""),
        ({"opposite": 1, "same": 1}, Policy(undecided="keep"), "kept", ""),
        ({"opposite": 2, "same": 1, "toxic": 1}, Policy(), "dropped", ""),  # the most, but not more than half
        ({"opposite": 2, "same": 1}, Policy(decision="unanimous"), "dropped", ""),
        ({"opposite": 3}, Policy(decision="unanimous"), "swapped", "opposite"),
        ({"opposite": 1}, Policy(votes_needed=2), "kept", ""),
        ({"opposite": 2}, Policy(votes_needed=2), "swapped", "opposite"),
        ({}, Policy(), "kept", ""),
    ],
)
def test_votes_decide_as_the_policy_says(votes, policy, outcome, verdict):
    ruling = rule(policy, Counter(votes))
    assert (ruling.outcome, ruling.verdict) == (outcome, verdict)


def test_an_adjudication_wins_over_any_number_of_verdicts(workspace, small):
    say(workspace, small[0], ana="same", ben="same", cleo="same")
    settle(workspace, small[0], "opposite")
    assert reasons(workspace, Policy(votes_needed=3))[0] == "swapped: adjudicated opposite"


def test_reasons_say_what_decided(workspace, small):
    say(workspace, small[0], ana="vague", ben="vague", cleo="same")
    say(workspace, small[1], ana="empty")
    say(workspace, small[2], ana="same", ben="vague")
    assert reasons(workspace, Policy()) == [
        "dropped: majority says vague (2 of 3)",
        "dropped: every reviewer says empty (1 of 1)",
        "dropped: 2 reviewers do not agree and nobody settled it",
        "kept: nobody reviewed it",
    ]


def test_flagged_pairs_nobody_reviewed_go_where_the_policy_says(workspace, small):
    flag_pairs(workspace, {small[0]: 0.9, small[1]: 0.8}, filter="empty")
    flag_pairs(workspace, {small[1]: 0.7, small[2]: 0.7}, filter="vague")
    say(workspace, small[0], ana="same")
    outcomes = {
        policy: [one.ruling.outcome for one in plan(workspace, "small", Policy.model_validate(json.loads(policy))).rows]
        for policy in ("{}", '{"flagged_unreviewed": "drop"}', '{"drop_unreviewed_filters": ["empty"]}')
    }
    assert list(outcomes.values()) == [
        ["kept", "kept", "kept", "kept"],
        ["kept", "dropped", "dropped", "kept"],
        ["kept", "dropped", "kept", "kept"],
    ]
    assert reasons(workspace, Policy(flagged_unreviewed="drop"))[1] == "dropped: flagged by empty, vague, nobody reviewed it"


def test_too_few_verdicts_count_as_not_reviewed(workspace, small):
    flag_pairs(workspace, {small[0]: 0.9})
    say(workspace, small[0], ana="same")
    policy = Policy(votes_needed=2, flagged_unreviewed="drop")
    assert reasons(workspace, policy)[0] == "dropped: flagged by empty, too few verdicts (1)"


def test_a_filter_that_never_looked_cannot_drop_anything(workspace, small):
    flag_pairs(workspace, {small[0]: 0.9})
    with pytest.raises(ValueError, match="filter 'vague' flags, but 'small' was screened by: empty"):
        plan(workspace, "small", Policy(drop_unreviewed_filters=("vague",)))


def test_a_pair_in_several_rows_is_decided_once_for_all_of_them(workspace):
    pairs = import_rows(workspace, [SMALL[0], SMALL[1], SMALL[0]])
    say(workspace, pairs[0], ana="opposite")
    counts = plan(workspace, "small", Policy()).counts
    assert (counts["rows"]["swapped"], counts["pairs"]["swapped"]) == (2, 1)
    assert (counts["rows"]["total"], counts["pairs"]["total"]) == (3, 2)


def test_a_verdict_on_a_gold_pair_that_is_no_row_counts_nowhere(workspace, small):
    turned = workspace.pairs.pair(small[0]).swapped()
    workspace.pairs.put(turned)
    say(workspace, turned.pair_id, ana="opposite")
    planned = plan(workspace, "small", Policy())
    assert (planned.decisions, planned.as_of, planned.counts["rows"]["kept"]) == ([], None, 4)


def test_an_undone_verdict_decides_nothing(workspace, small):
    say(workspace, small[0], ana="toxic")
    workspace.verdicts.undo(workspace.verdicts.of_pair(small[0])[0].claim_id, workspace.clock())
    assert reasons(workspace, Policy())[0] == "kept: nobody reviewed it"


# ---- the policy file


def test_a_policy_survives_its_own_json():
    policy = Policy(verdicts={Verdict.VAGUE: "keep"}, votes_needed=3, drop_unreviewed_filters=("empty",))
    assert policy_from(policy.model_dump_json()) == policy
    assert policy_from("{}") == Policy()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"votes": 2}', "the policy has no field 'votes': expected one of verdicts, "),
        ('{"votes_needed": 0}', "the policy's votes_needed is 0: input should be greater than or equal to 1"),
        ('{"verdicts": {"same": "burn"}}', "the policy's verdicts.same is 'burn': input should be 'keep', 'swap' or 'drop'"),
        ('{"verdicts": {"nice": "keep"}}', "the policy's verdicts.nice is 'nice': input should be 'same', 'opposite'"),
        ("{", "the policy is not what was expected: invalid JSON"),
        ("[]", "the policy is not what was expected: "),
    ],
)
def test_a_bad_policy_is_refused_in_one_sentence(text, said):
    with pytest.raises(ValueError, match="the policy") as refused:
        policy_from(text)
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)


def test_every_setting_of_the_policy_is_explained():
    assert [name for name, field in Policy.model_fields.items() if not field.description] == []


# ---- counts


def test_counts_add_up_in_all_by_subset_by_basis_and_by_type(workspace):
    rows = [{**row, "subset": f"s{n % 3}", "split": ("train", "test")[n % 2]} for n, row in enumerate(numbered(60))]
    pairs = import_rows(workspace, rows + rows[:10])
    flag_pairs(workspace, dict.fromkeys(pairs[:30], 0.5))
    for n, pair_id in enumerate(pairs[:40]):
        say(workspace, pair_id, ana=list(Verdict)[n % 6])
        if n % 4 == 0:
            say(workspace, pair_id, ben="same")
    settle(workspace, pairs[4], "toxic")
    counts = plan(workspace, "small", Policy(drop_unreviewed_filters=("empty",))).counts
    outcomes = ("kept", "swapped", "dropped")
    everywhere = [counts, *counts["by_subset"], *counts["by_basis"]]
    assert all(
        one[over]["total"] == sum(one[over][name] for name in outcomes) for one in everywhere for over in ("rows", "pairs")
    )
    for name in ("total", *outcomes):
        assert sum(one["rows"][name] for one in counts["by_subset"]) == counts["rows"][name]
        assert sum(one["rows"][name] for one in counts["by_basis"]) == counts["rows"][name]
        assert sum(one["pairs"][name] for one in counts["by_basis"]) == counts["pairs"][name]
    assert (counts["rows"]["total"], counts["pairs"]["total"]) == (70, 60)
    types = counts["types"]
    assert sum(one["pairs"] for one in types["all"]) == types["all"][0]["n"] == 40
    assert [one["n"] for one in (types["flagged"][0], types["not_flagged"][0])] == [30, 10]
    assert sum(one["share"] for one in types["all"]) == pytest.approx(1)


def test_shares_of_nothing_are_missing(workspace, small):
    folder = made(workspace)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {one["share"] for one in manifest["counts"]["types"]["all"]} == {None}
    assert manifest["as_of"] is None
    assert "All reviewed pairs: none yet." in (folder / "README.md").read_text()
    assert "nan" not in (folder / "README.md").read_text().lower()


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 40), (3, 10), (50, 100), (8551, 8552)])
def test_wilson_is_what_statsmodels_says(successes, n):
    assert wilson(successes, n) == pytest.approx(proportion_confint(successes, n, method="wilson"), abs=1e-12)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (2, 1), (-1, 5)])
def test_wilson_of_nothing_is_refused(successes, n):
    with pytest.raises(ValueError, match=f"{successes} of {n}"):
        wilson(successes, n)


# ---- the folder


def test_keeping_everything_gives_the_imported_files_byte_for_byte(workspace, data):
    import_source(workspace, source_of(str(data / "hh-rlhf")), "hh")
    folder = made(workspace, Policy.keep_everything(), dataset="hh")
    given = sorted((data / "hh-rlhf").rglob("*.jsonl.gz"))
    assert [str(file.relative_to(folder / "hh")) for file in sorted((folder / "hh").rglob("*.jsonl.gz"))] == [
        str(file.relative_to(data / "hh-rlhf")) for file in given
    ]
    assert len(given) == 4
    for file in given:
        released = folder / "hh" / file.relative_to(data / "hh-rlhf")
        assert gzip.decompress(released.read_bytes()) == gzip.decompress(file.read_bytes())
        assert pq.read_table(released.with_name("test.parquet")).to_pylist() == lines(file)


def test_rows_are_kept_swapped_and_dropped_in_order_in_every_file(workspace, small):
    say(workspace, small[0], ana="opposite")
    say(workspace, small[1], ana="empty")
    folder = made(workspace)
    turned = {"chosen": SMALL[0]["rejected"], "rejected": SMALL[0]["chosen"]}
    expected = [turned, SMALL[2], SMALL[3]]
    assert lines(folder / "hh" / "data.jsonl.gz") == expected
    assert pq.read_table(folder / "hh" / "data.parquet").to_pylist() == expected
    (swapped,), (dropped,) = lines(folder / "swapped.jsonl"), lines(folder / "dropped.jsonl")
    assert swapped == {
        "row": 0, "pair_id": small[0], "subset": "", "split": "", "reason": "swapped: every reviewer says opposite (1 of 1)",
        "basis": "voted", "verdict": "opposite", "filters": [],
    }  # fmt: skip
    assert (dropped["row"], dropped["verdict"]) == (1, "empty")
    assert {side: dropped[side] for side in ("chosen", "rejected")} == SMALL[1]


def test_trl_rows_have_an_explicit_prompt_and_one_answer_a_side(workspace, small):
    folder = made(workspace)
    rows = lines(folder / "trl" / "data.jsonl.gz")
    assert rows == pq.read_table(folder / "trl" / "data.parquet").to_pylist()
    assert rows[2] == {
        "prompt": [
            {"role": "user", "content": "Tell me a joke."},
            {"role": "assistant", "content": "No."},
            {"role": "user", "content": "Please."},
        ],
        "chosen": [{"role": "assistant", "content": "Knock knock."}],
        "rejected": [{"role": "assistant", "content": "No. No. No. No."}],
    }


def test_trl_rows_of_unusual_pairs(workspace):
    opening = "\n\nHuman: a\n\nAssistant: "
    odd = [
        {"chosen": "no marker", "rejected": "none here"},
        {"chosen": opening + "b", "rejected": opening + "c\n\nHuman: d\n\nAssistant: e"},
    ]
    import_rows(workspace, odd)
    folder = made(workspace)
    assert lines(folder / "hh" / "data.jsonl.gz") == odd
    (only,) = lines(folder / "trl" / "data.jsonl.gz")  # a trainer cannot take a row without a prompt
    assert only["rejected"] == [{"role": "assistant", "content": "c\n\nHuman: d\n\nAssistant: e"}]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["trl"] == {
        "rows_whose_responses_hold_further_turns": 1, "rows_left_out_without_a_shared_prompt": 1,
    }  # fmt: skip


def test_text_before_the_first_marker_is_a_system_message_for_trl():
    pair = Pair.of_texts("so\n\nHuman: a\n\nAssistant: b", "so\n\nHuman: a\n\nAssistant: c")
    assert release_files.trl_row(pair)["prompt"] == [{"role": "system", "content": "so"}, {"role": "user", "content": "a"}]


def test_load_from_disk_and_load_dataset_open_the_folder(workspace, tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = [{**row, "subset": f"s{n % 2}", "split": ("train", "test")[n % 3 == 0]} for n, row in enumerate(numbered(12))]
    pairs = import_rows(workspace, rows)
    say(workspace, pairs[1], ana="opposite")
    folder = made(workspace)
    opened = datasets.load_from_disk(str(folder / "dataset"))
    assert {name: len(one) for name, one in opened.items()} == {"train": 8, "test": 4}
    assert opened["train"].column_names == ["prompt", "chosen", "rejected", "subset", "pair_id"]
    answers = [[{"role": "assistant", "content": text}] for _, text in workspace.pairs.pair(pairs[1]).sides()]
    assert opened["train"][0] == {
        "prompt": [{"role": "user", "content": "Question 1?"}], "chosen": answers[1], "rejected": answers[0],
        "subset": "s1", "pair_id": pairs[1],
    }  # fmt: skip
    assert opened["train"]["pair_id"] == [pairs[n] for n in range(12) if n % 3]
    hub = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {name: (one.column_names, len(one)) for name, one in hub.items()} == {
        "train": (["chosen", "rejected"], 8), "test": (["chosen", "rejected"], 4),
    }  # fmt: skip
    trl = datasets.load_dataset(str(folder), "trl", cache_dir=str(tmp_path / "cache"))
    assert trl["test"].column_names == ["prompt", "chosen", "rejected"]


def test_a_release_of_nothing_still_opens(workspace, small):
    datasets = pytest.importorskip("datasets")
    for pair_id in small:
        say(workspace, pair_id, ana="toxic")
    folder = made(workspace)
    assert lines(folder / "hh" / "data.jsonl.gz") == []
    assert pq.read_table(folder / "trl" / "data.parquet").num_rows == 0
    assert len(datasets.load_from_disk(str(folder / "dataset"))["data"]) == 0
    assert [one["row"] for one in lines(folder / "dropped.jsonl")] == [0, 1, 2, 3]


def test_interleaved_subsets_and_splits_keep_the_order_of_rows(workspace):
    datasets = pytest.importorskip("datasets")
    rows = [{**row, "subset": "ba"[n % 2], "split": ("test", "train")[n % 3 == 0]} for n, row in enumerate(numbered(30))]
    import_rows(workspace, rows)
    folder = made(workspace)
    sides = [{side: row[side] for side in ("chosen", "rejected")} for row in rows]
    for subset in "ab":
        for split in ("test", "train"):
            wanted = [one for one, row in zip(sides, rows, strict=True) if (row["subset"], row["split"]) == (subset, split)]
            assert lines(folder / "hh" / subset / f"{split}.jsonl.gz") == wanted
    opened = datasets.load_from_disk(str(folder / "dataset"))
    chosen = [Pair.of_texts(row["chosen"], row["rejected"]).chosen.text for row in rows if row["split"] == "train"]
    assert [one[0]["content"] for one in opened["train"]["chosen"]] == chosen


def test_the_same_inputs_give_the_same_bytes(workspace, small, clock: Clock):
    flag_pairs(workspace, {small[0]: 0.9})
    say(workspace, small[0], ana="opposite", ben="opposite")
    say(workspace, small[1], ana="empty")
    settle(workspace, small[2], "vague")
    first = made(workspace, name="one")
    clock.forward(days=3)
    second = made(workspace, name="two")
    assert contents(first) == contents(second)
    listed = json.loads((first / "manifest.json").read_text())["files"]
    assert {one["path"]: one["sha256"] for one in listed} == {
        path: digest for path, digest in contents(first).items() if path != "manifest.json"
    }
    assert {path.split("/")[0] for path in contents(first)} == {
        "hh", "trl", "dataset", "labels.jsonl", "dropped.jsonl", "swapped.jsonl", "manifest.json", "README.md",
    }  # fmt: skip


def test_the_manifest_is_the_one_on_record_and_names_its_sources(workspace, small):
    flag_pairs(workspace, {small[0]: 0.9})
    say(workspace, small[0], ana="same")
    recorded = release(workspace, "small", "one", Policy())
    manifest = json.loads(recorded.manifest)
    folder = workspace.folder / recorded.folder
    assert (folder / "manifest.json").read_text() == recorded.manifest
    assert workspace.releases.all("small") == [recorded]
    assert recorded.folder == "releases/one"
    assert manifest["as_of"] == workspace.clock().isoformat()
    assert manifest["dataset"]["content_hash"] == workspace.pairs.dataset("small").content_hash
    screening = {"filter": "empty", "version": 1, "parameters": {}, "threshold": 0.0, "read_by": ""}
    assert manifest["screenings"] == [{**screening, "screened": 1, "flagged": 1}]
    assert manifest["policy"] == Policy().model_dump(mode="json")
    assert in_words(manifest) == "4 of 4 rows kept, 0 swapped, 0 dropped"
    assert workspace.releases.pairs_in(recorded) == 4


# ---- labels and people


def test_labels_hold_every_verdict_under_a_pseudonym(workspace, small):
    say(workspace, small[1], zoe="empty")
    say(workspace, small[0], ana="same")
    settle(workspace, small[1], "vague")
    folder = made(workspace)
    labels = lines(folder / "labels.jsonl")
    assert [(one["rows"], one["event"], one["reviewer"], one["verdict"]) for one in labels] == [
        ([0], "verdict", "reviewer-2", "same"),
        ([1], "verdict", "reviewer-1", "empty"),
        ([1], "adjudication", "reviewer-3", "vague"),
    ]
    assert labels[0] == {
        "pair_id": small[0], "rows": [0], "event": "verdict", "reviewer": "reviewer-2", "verdict": "same", "kind": "flagged",
        "seconds": 4.0, "chosen_shown": "A", "tags": ["refusal"], "decided_at": "2026-11-02T09:00:02+00:00",
    }  # fmt: skip
    everything = b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())
    assert not any(name in everything for name in (b"zoe", b'"ana', b"judith", b"a private note"))


def test_notes_come_along_only_when_the_policy_says_so(workspace, small):
    say(workspace, small[0], ana="same")
    folder = made(workspace, Policy(include_notes=True))
    assert [one["note"] for one in lines(folder / "labels.jsonl")] == ["a private note"]


def test_a_pseudonym_is_kept_for_ever(workspace, small):
    say(workspace, small[0], zoe="same")
    made(workspace, name="one")
    workspace.clock.forward(days=-1)
    say(workspace, small[1], ana="same")  # earlier than zoe's, but released later
    folder = made(workspace, name="two")
    assert workspace.releases.pseudonyms() == {"ana": "reviewer-2", "zoe": "reviewer-1"}
    assert [one["reviewer"] for one in lines(folder / "labels.jsonl")] == ["reviewer-1", "reviewer-2"]


# ---- hostile data


HOSTILE = [
    "../x",
    "",
    "a/b",
    "a-b",
    "/etc/passwd",
    "x" * 300,
    "Same",
    "same",
    "..",
    "data.jsonl.gz",
    "data",
    "<b>|`*\n[x](y)",
    "é",
]


def test_hostile_subsets_and_splits_stay_inside_and_apart(workspace):
    rows = [
        {**row, "subset": subset, "split": split}
        for row, (subset, split) in zip(numbered(169), ((a, b) for a in HOSTILE for b in HOSTILE), strict=True)
    ]
    import_rows(workspace, rows)
    before = {path for path in workspace.folder.parent.rglob("*") if "releases" not in path.parts}
    folder = made(workspace)
    assert {path for path in workspace.folder.parent.rglob("*") if "releases" not in path.parts} == before
    files = sorted((folder / "hh").rglob("*.jsonl.gz"))
    assert len({str(file).lower() for file in files}) == len({(row["subset"], row["split"]) for row in rows}) == 169
    assert sum(len(lines(file)) for file in files) == 169
    names = json.loads((folder / "manifest.json").read_text())["names"]
    for row in rows:
        stem = folder / "hh" / names["subsets"][row["subset"]] / names["splits"][row["split"]]
        assert {side: row[side] for side in ("chosen", "rejected")} in lines(Path(f"{stem}.jsonl.gz"))
    opened = pytest.importorskip("datasets").load_from_disk(str(folder / "dataset"))
    assert sum(len(one) for one in opened.values()) == 169


@pytest.mark.parametrize(
    "names", [["Same", "same", "SAME"], ["a/b", "a-b", "a b"], ["data", ""], ["", "data"], ["é", "è", "/"]]
)
def test_safe_names_never_collide(names):
    made = release_files.names_of(names, names)
    for safe in made:
        assert set(names) <= safe.keys()
        assert len({one.lower() for one in safe.values()}) == len(safe)
    assert release_files.names_of(["helpful-base", ""], ["test", ""]) == (
        {"": "", "helpful-base": "helpful-base"},
        {"test": "test", "": "data"},
    )


def test_text_from_data_stands_in_the_card_only_as_code(workspace):
    evil = "`<script>alert(1)</script>`\n# [x](javascript:1) | y"
    import_rows(workspace, [{**hh("a", "b", "c"), "subset": evil}])
    text = (made(workspace) / "README.md").read_text()
    (line,) = [line for line in text.splitlines() if "<script>" in line]
    assert line.startswith("| `'<script>alert(1)</script>' # [x](javascript:1) ¦ y` | ")
    assert release_card.code("") == "(none)"


# ---- refusals and interruptions


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a" * 101, "a\nb", "a b"])
def test_a_name_that_cannot_be_a_folder_is_refused(workspace, small, name):
    with pytest.raises(ValueError, match="cannot be used"):
        release(workspace, "small", name, Policy())


def test_what_is_there_already_is_refused(workspace, small, tmp_path):
    made(workspace)
    with pytest.raises(ValueError, match="there is a release 'one' already"):
        release(workspace, "small", "one", Policy(), out=tmp_path / "else")
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match=r"mine' is there already"):
        release(workspace, "small", "two", Policy(), out=tmp_path / "mine")
    with pytest.raises(ValueError, match="no dataset 'other'"):
        release(workspace, "other", "two", Policy())
    assert [one.name for one in workspace.releases.all()] == ["one"]


def test_a_release_to_a_folder_of_ones_own(workspace, small, tmp_path):
    recorded = release(workspace, "small", "one", Policy(), out=tmp_path / "deep" / "mine")
    assert Path(recorded.folder) == workspace.folder / recorded.folder == tmp_path / "deep" / "mine"
    assert (tmp_path / "deep" / "mine" / "manifest.json").exists()


@pytest.mark.parametrize("step", range(7))
def test_a_full_disk_leaves_nothing_behind(workspace, small, step):
    say(workspace, small[0], ana="empty")
    told: list[float] = []

    def progress(share: float, words: str) -> None:
        told.append(share)
        if len(told) > step:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        release(workspace, "small", "one", Policy(), progress=progress)
    assert list(workspace.releases_folder.glob("*")) == [] if workspace.releases_folder.exists() else True
    assert (workspace.releases.all(), workspace.releases.pseudonyms()) == ([], {})
    made(workspace)
    assert all(earlier <= later for earlier, later in pairwise(told))


def test_a_killed_release_leaves_no_release_and_can_be_made_again(tmp_path):
    code = """
import os, signal, sys
from pathlib import Path
from curation.pairs import Pair
from curation.release import Policy, release
from curation.workspace import Workspace
from tests.conftest import SMALL, import_rows
workspace = Workspace(Path(sys.argv[1]))
import_rows(workspace, SMALL)
release(workspace, "small", "one", Policy(), progress=lambda share, words: share > 0.8 and os.kill(os.getpid(), signal.SIGKILL))
"""
    folder = tmp_path / "workspace"
    done = subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, timeout=300, check=False)
    assert done.returncode == -9
    assert [path.name for path in (folder / "releases").iterdir()] == [".one.part"]
    workspace = Workspace(folder)
    assert workspace.releases.all() == []
    made(workspace)
    assert [path.name for path in (folder / "releases").iterdir()] == ["one"]
    workspace.close()


def test_a_release_that_cannot_be_recorded_is_taken_away_again(workspace, small):
    say(workspace, small[0], ana="same")
    workspace.database.append("pseudonyms", "somebody else", "reviewer-2")  # numbering goes on from one: this collides
    say(workspace, small[1], ben="same")
    workspace.database.append("pseudonyms", "a third", "reviewer-3")
    with pytest.raises(Exception, match="reviewer-3"):
        release(workspace, "small", "one", Policy())
    assert list(workspace.releases_folder.iterdir()) == []
    assert workspace.releases.all() == []


def test_importing_release_brings_in_nothing_heavy():
    code = "import sys, curation.release; print({'torch', 'datasets', 'scipy', 'streamlit'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.slow
def test_a_plan_of_160800_rows_takes_seconds(workspace):
    import time

    pairs = import_rows(workspace, numbered(160_800))
    at = workspace.clock()
    workspace.verdicts.add(
        Decision(f"c{n}", "small", one, "ana", "vague", "flagged", "A", 4.0, "", [], at + timedelta(seconds=n))
        for n, one in enumerate(pairs[:2000])
    )
    began = time.perf_counter()
    counts = plan(workspace, "small", Policy()).counts
    assert time.perf_counter() - began < 5
    assert (counts["rows"]["kept"], counts["rows"]["dropped"]) == (158_800, 2000)


def test_manifest_and_card_say_which_model_read_and_name_no_folder_of_this_machine(workspace, small):
    read_by = "alt-profanity-check 1.9.1 (knows words, not meaning), because Detoxify's weights are not on this machine | <b>"
    parameters = json.dumps({"threshold": 0.5, "model": "/home/ana/models/detoxify"})
    at = workspace.clock()
    workspace.flags.add([Screening("run", "small", "toxic", 1, parameters, 4, 0, at, 0.5, read_by)], None)
    recorded = release(workspace, "small", "one", Policy())
    (screening,) = json.loads(recorded.manifest)["screenings"]
    assert (screening["read_by"], screening["threshold"]) == (read_by, 0.5)
    assert screening["parameters"] == {"threshold": 0.5, "model": "detoxify"}
    card = (workspace.folder / recorded.folder / "README.md").read_text()
    assert "alt-profanity-check 1.9.1" in card
    assert "/home/ana" not in card + recorded.manifest
    line = next(line for line in card.splitlines() if "alt-profanity-check" in line)
    assert "`" in line.split("alt-profanity-check")[0][-3:]
