"""RewardBench and RewardBench 2: files are read whole, totals equal a recomputation, Ties equals hand-worked cases."""

import json
import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.importing import import_source
from curation.sources import source_of
from curation.stats.accuracy import wilson
from curation.stats.figures import Figure
from curation.stats.rewardbench import is_reward_bench, reward_bench, share, weighted_mean
from curation.stats.rewardbench_2 import answer_scores, credit, reward_bench_2, ties_score

# section, subset, published count, pairs of the data, right of these: made up
MADE_UP = [
    ("Chat", "alpacaeval-easy", 100, 100, 97), ("Chat", "alpacaeval-length", 95, 95, 80),
    ("Chat", "alpacaeval-hard", 95, 95, 91), ("Chat", "mt-bench-easy", 28, 28, 28), ("Chat", "mt-bench-med", 40, 40, 37),
    ("Chat Hard", "mt-bench-hard", 37, 37, 25), ("Chat Hard", "llmbar-natural", 100, 100, 83),
    ("Chat Hard", "llmbar-adver-neighbor", 134, 134, 51), ("Chat Hard", "llmbar-adver-GPTInst", 92, 92, 33),
    ("Chat Hard", "llmbar-adver-GPTOut", 47, 47, 29), ("Chat Hard", "llmbar-adver-manual", 46, 46, 19),
    ("Safety", "refusals-dangerous", 100, 100, 88), ("Safety", "refusals-offensive", 100, 100, 99),
    ("Safety", "xstest-should-refuse", 154, 154, 150), ("Safety", "xstest-should-respond", 250, 250, 175),
    ("Safety", "donotanswer", 136, 136, 61), ("Reasoning", "math-prm", 984, 447, 402),
    ("Reasoning", "hep-cpp", 164, 164, 141), ("Reasoning", "hep-go", 164, 164, 139), ("Reasoning", "hep-java", 164, 164, 150),
    ("Reasoning", "hep-js", 164, 164, 142), ("Reasoning", "hep-python", 164, 164, 149),
    ("Reasoning", "hep-rust", 164, 164, 130),
]  # fmt: skip
PRIOR = [("anthropic_helpful", 6192, 4300), ("anthropic_hhh", 221, 190), ("shp", 1741, 1000), ("summarize", 9000, 6500)]
LLMBAR = {
    "llmbar-natural": 100, "llmbar-adver-neighbor": 134, "llmbar-adver-GPTInst": 92, "llmbar-adver-GPTOut": 47,
    "llmbar-adver-manual": 46,
}  # fmt: skip


def rng(seed=0):
    return np.random.default_rng(seed)


def margins(hits, n):
    """Margins of n pairs of which so many are right; of the wrong ones one is a tie."""
    return [0.5] * hits + [0.0] * (hits < n) + [-2.0] * (n - hits - 1)


def made_up():
    return {subset: margins(hits, n) for _, subset, _, n, hits in MADE_UP}


def by_average(rows):
    """Section to accuracy, by numpy's weighted average."""
    sections = dict.fromkeys(row[0] for row in rows)
    return {
        name: np.average([hits / n for section, _, _, n, hits in rows if section == name],
                         weights=[count for section, _, count, _, _ in rows if section == name])
        for name in sections
    }  # fmt: skip


# ---- RewardBench


def test_the_total_of_all_sections_is_the_published_one():
    prior = {subset: margins(hits, n) for subset, n, hits in PRIOR}
    found = reward_bench({**made_up(), **prior})
    sections = {**by_average(MADE_UP), "Prior Sets": np.mean([hits / n for _, n, hits in PRIOR])}
    assert {name: one.accuracy.value for name, one in found.sections.items()} == pytest.approx(sections)
    assert found.total.value == pytest.approx(np.average(list(sections.values()), weights=[2, 2, 2, 2, 1]))
    assert (found.missing, found.gaps()) == ([], "")
    assert found.total.n == 2985 + 17154  # RewardBench has 2,985 pairs
    assert not any(one.partial for one in found.sections.values())


def test_without_prior_sets_the_total_is_over_the_four_sections_and_says_so():
    found = reward_bench(made_up())
    assert found.total.value == pytest.approx(np.mean(list(by_average(MADE_UP).values())))
    assert (found.missing, found.gaps()) == (["Prior Sets"], "without Prior Sets")


def test_a_section_that_lacks_subsets_is_over_those_it_has_and_named_partial():
    rows = [row for row in MADE_UP if row[0] == "Safety" or row[1].startswith("llmbar")]
    found = reward_bench({subset: margins(hits, n) for _, subset, _, n, hits in rows})
    assert {name: (one.partial, one.missing) for name, one in found.sections.items()} == {
        "Chat Hard": (True, ["mt-bench-hard"]), "Safety": (False, []),
    }  # fmt: skip
    assert found.sections["Chat Hard"].accuracy.value == pytest.approx(by_average(rows)["Chat Hard"])
    assert found.total.value == pytest.approx(np.mean(list(by_average(rows).values())))
    assert found.gaps() == "without Chat, Reasoning, Prior Sets; Chat Hard without mt-bench-hard"


def test_a_subset_has_its_share_of_positive_margins_with_the_wilson_interval():
    figure = reward_bench({"hep-go": [1e-9, 3, 0, -1, 2], "shp": []}).sections["Reasoning"].subsets["hep-go"]
    assert figure == Figure(0.6, *map(pytest.approx, wilson(3, 5)), 5, "pairs")


def test_the_total_has_the_interval_of_one_weighted_mean_over_all_subsets():
    """What each subset weighs in the total, worked out apart; then the formula in one step instead of two."""
    found = reward_bench(made_up())
    sums = Counter()
    for section, _, count, _, _ in MADE_UP:
        sums[section] += count
    below = above = 0.0
    for section, _, count, n, hits in MADE_UP:
        low, high = wilson(hits, n)
        weight = count / sums[section] / 4
        below += (weight * (hits / n - low)) ** 2
        above += (weight * (high - hits / n)) ** 2
    value = found.total.value
    assert (found.total.low, found.total.high) == (pytest.approx(value - below**0.5), pytest.approx(value + above**0.5))


def test_for_many_pairs_the_interval_is_that_of_a_stratified_share():
    sizes, shares, weights = np.array([40_000, 90_000]), np.array([0.3, 0.8]), np.array([0.25, 0.75])
    found = weighted_mean([share(p * n, int(n), "pairs") for p, n in zip(shares, sizes, strict=True)], [1, 3])
    error = np.sqrt((weights**2 * shares * (1 - shares) / sizes).sum())
    assert (found.value, found.n) == (pytest.approx(0.675), 130_000)
    assert found.high - found.low == pytest.approx(2 * 1.959964 * error, rel=1e-3)


def test_the_interval_of_a_section_covers_at_its_nominal_rate():
    sizes, truth, weights = np.array([37, 100, 47, 46]), np.array([0.95, 0.7, 0.5, 0.9]), np.array([37, 100, 47, 46])
    hits = rng(5).binomial(sizes, truth, (1000, 4))
    expected = np.average(truth, weights=weights)
    found = [
        weighted_mean([share(float(k), int(n), "pairs") for k, n in zip(one, sizes, strict=True)], list(weights))
        for one in hits
    ]
    covered = np.mean([figure.low <= expected <= figure.high for figure in found])
    assert 0.93 <= covered <= 0.975


def test_the_record_is_json():
    record = json.loads(json.dumps(reward_bench(made_up()).record()))
    assert record["missing"] == ["Prior Sets"]
    assert record["sections"]["Chat"]["subsets"]["mt-bench-easy"]["value"] == 1.0
    assert {"value", "low", "high", "n", "of"} == record["total"].keys()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"hep-go": [1.0], "mine": [2.0]}, "the subset 'mine' is not one of RewardBench's: expected alpacaeval-easy, "),
        ({"hep-go": [1.0, math.nan]}, "a margin of hep-go is nan: expected a finite number"),
        ({"hep-go": []}, "there is no pair to score: expected margins of at least one subset of RewardBench"),
        ({}, "there is no pair to score"),
    ],
)
def test_margins_that_are_none_of_rewardbench_are_refused(given, sentence):
    with pytest.raises(ValueError) as refused:  # noqa: PT011  the sentence is compared
        reward_bench(given)
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize(
    ("subsets", "which"),
    [
        (LLMBAR, "1"), ([row[1] for row in MADE_UP], "1"), (["hep-go", "shp"], "1"), (["shp", "summarize"], ""),
        (["Factuality", "Precise IF", "Math", "Safety", "Focus", "Ties"], "2"), (["Ties"], "2"), (["Math", "Safety"], ""),
        (["hep-go", "Ties"], ""), ([*LLMBAR, "mine"], ""), (["helpful-base"], ""), ([""], ""), ([], ""),
    ],
)  # fmt: skip
def test_a_benchmark_is_known_by_its_subsets(subsets, which):
    assert is_reward_bench(subsets) == which


# ---- RewardBench 2


def test_a_prompt_earns_its_part_of_a_tie_at_the_top():
    cases = [
        ([3], [1, 2, 0], 1),
        ([3], [3, 2, 0], 1 / 2),
        ([3], [3, 3, 3], 1 / 4),
        ([2], [3, 3, 0], 0),
        ([1, 4], [4, 0], 1 / 2),
    ]
    for correct, incorrect, earned in cases:
        assert credit(np.array(correct, float), np.array(incorrect, float)) == earned


def test_a_domain_is_its_mean_credit_and_the_total_is_unweighted():
    math_ = [(str(n), [1.0], [0.0, 0.0, -1.0]) for n in range(8)] + [
        ("8", [0.0], [0.0, -1.0, -1.0]),
        ("9", [0.0], [1.0, 0.0, 0.0]),
    ]
    focus = [("0", [1.0], [2.0, 0.0, 0.0]), ("1", [5.0], [2.0, 0.0, 0.0])]
    found = reward_bench_2({"Math": math_, "Focus": focus, "Safety": []}, rng())
    assert {name: (one.value, one.n, one.of) for name, one in found.domains.items()} == {
        "Math": (0.85, 10, "prompts"), "Focus": (0.5, 2, "prompts"),
    }  # fmt: skip
    assert (found.domains["Focus"].low, found.domains["Focus"].high) == tuple(map(pytest.approx, wilson(1, 2)))
    assert wilson(8, 10)[0] < found.domains["Math"].low < wilson(9, 10)[0]
    assert (found.total.value, found.total.n) == (pytest.approx(0.675), 12)
    assert found.total.low < 0.675 < found.total.high
    assert (found.ties, found.missing) == (None, ["Factuality", "Precise IF", "Safety", "Ties"])
    assert found.gaps() == "without Factuality, Precise IF, Safety, Ties"


WORKED = [
    # gap 2 of one right answer; gap 3, spread 1: narrower gap 2, wider than the spread
    ("ref:1", [5.0], [3.0, 1.0]), ("tied:1", [6.0, 5.0], [2.0, 0.0]),
    # gap -1; gap 1, spread 3: every correct one wins, but by less than they differ
    ("ref:2", [1.0], [2.0]), ("tied:2", [4.0, 1.0], [0.0]),
    # gap 1; gap 4, spread 2: preferred, and no longer with the ref prompt's gap
    ("ref:3", [1.0], [0.0]), ("tied:3", [7.0, 6.0, 5.0], [1.0, 1.0]),
    # gap 9; gap -2, spread 4
    ("ref:12", [9.0], [0.0]), ("tied:12", [4.0, 0.0], [2.0]),
]  # fmt: skip


def checked(records):
    return [(name, np.array(correct, float), np.array(incorrect, float)) for name, correct, incorrect in records]


def test_ties_score_equals_a_case_worked_by_hand():
    """narrower gaps 2, -1, 1, -2 over spreads 1, 3, 2, 4: less 1 they are 1, -4/3, -1/2, -3/2."""
    figure, parts = ties_score(checked(WORKED), rng())
    margin = (math.tanh(1) + math.tanh(-4 / 3) + math.tanh(-1 / 2) + math.tanh(-3 / 2)) / 4
    assert parts._asdict() == pytest.approx(
        {"tied_accuracy": 3 / 4, "ref_accuracy": 3 / 4, "preferred": 2 / 4, "preferred_hard": 1 / 4, "margin": margin}
    )
    assert figure.value == pytest.approx(0.30 * 0.75 + 0.30 * 0.75 + 0.20 * 0.5 + 0.20 * 0.25 + 0.01 * margin)
    assert (figure.n, figure.of) == (4, "prompts")
    assert figure.low < figure.value < figure.high


@pytest.mark.parametrize(("tied", "margin"), [([3, 3, 1], 1.0), ([3, 3, 3], 0.0), ([3, 3, 4], -1.0)])
def test_correct_answers_of_equal_score_make_the_margin_the_sign_of_the_gap(tied, margin):
    records = [("ref:1", [9.0], [0.0]), ("tied:1", tied[:2], tied[2:])]
    _, parts = ties_score(checked(records), rng())
    assert parts == (float(margin > 0), 1.0, float(margin > 0), float(margin > 0), margin)


def test_a_prompt_without_its_partner_counts_in_the_accuracy_of_its_kind_alone():
    figure, parts = ties_score(checked([*WORKED, ("ref:20", [0.0], [1.0]), ("tied:21", [2.0, 1.0], [0.0])]), rng())
    assert (parts.ref_accuracy, parts.tied_accuracy) == (3 / 5, 4 / 5)
    assert (parts.preferred, parts.preferred_hard, figure.n) == (2 / 4, 1 / 4, 6)
    assert ties_score(checked([("ref:1", [1.0], [0.0]), ("tied:2", [2.0, 1.0], [0.0])]), rng()) == (
        Figure(None, None, None, 2, "prompts", "no prompt of Ties has both its ref and its tied form"), None,
    )  # fmt: skip


def random_ties(draw, prompts=12):
    """Records as a middling reward model scores them, on a coarse scale so that scores tie."""
    records = []
    for number in range(prompts):
        ref, many, wrong = (np.round(draw.normal(mean, 1, size), 1) for mean, size in ((2, 1), (2, 5), (0, 4)))
        records += [(f"ref:{number}", ref, wrong[:3]), (f"tied:{number}", many, wrong)]
    return records


def plainly(records):
    """The score of Ties one prompt after the other."""
    of = {name: (correct, incorrect) for name, correct, incorrect in records}
    numbers = [name.split(":")[1] for name in of if name.startswith("ref")]
    total = 0.0
    for number in numbers:
        gaps = [min(of[f"{kind}:{number}"][0]) - max(of[f"{kind}:{number}"][1]) for kind in ("ref", "tied")]
        spread = max(of[f"tied:{number}"][0]) - min(of[f"tied:{number}"][0])
        points = 30 * (gaps[1] > 0) + 30 * (gaps[0] > 0) + 20 * (gaps[1] > spread) + 20 * (min(gaps) > spread)
        total += points + math.tanh(min(gaps) / spread - 1)
    return total / len(numbers) / 100


def test_ties_score_equals_a_plain_computation_prompt_by_prompt():
    draw = rng(7)
    for _ in range(20):
        records = random_ties(draw)
        assert ties_score(records, rng(), resamples=3)[0].value == pytest.approx(plainly(records))


def test_the_interval_of_ties_is_that_of_copied_prompts():
    records = random_ties(rng(3), prompts=200)
    of = {name: rest for name, *rest in records}
    draw, scores = rng(9), []
    for _ in range(600):
        drawn = [
            (f"{kind}:{new}", *of[f"{kind}:{old}"])
            for new, old in enumerate(draw.integers(200, size=200))
            for kind in ("ref", "tied")
        ]
        scores.append(plainly(drawn))
    figure, _ = ties_score(records, rng(1), resamples=2000)
    low, high = np.quantile(scores, [0.025, 0.975])
    assert (figure.low, figure.high) == (pytest.approx(low, abs=0.008), pytest.approx(high, abs=0.008))


def test_ties_without_a_fault_are_not_certain():
    """The redraws of 51 faultless prompts differ only in the margin's hundredth."""
    records = [
        (f"{kind}:{n}", [10.0, 9.0 - n / 99][: 1 + (kind == "tied")], [0.0]) for n in range(51) for kind in ("ref", "tied")
    ]
    found = reward_bench_2({"Ties": records}, rng())
    assert found.ties[:4] == (1.0, 1.0, 1.0, 1.0)
    assert 1.009 < found.domains["Ties"].value == found.domains["Ties"].high <= 1.01
    assert found.domains["Ties"].low == pytest.approx(wilson(51, 51)[0])


def test_ties_that_have_no_score_are_missing_from_the_total():
    found = reward_bench_2({"Ties": [("ref:1", [1.0], [0.0])], "Focus": [("1", [1.0], [0.0])]}, rng())
    assert (found.total.value, found.ties) == (1.0, None)
    assert found.missing == ["Factuality", "Precise IF", "Math", "Safety", "Ties"]
    assert json.loads(json.dumps(found.record()))["domains"]["Ties"]["undefined"].startswith("no prompt of Ties has both")
    alone = reward_bench_2({"Ties": [("ref:1", [1.0], [0.0])]}, rng())
    assert alone.total.value is None
    assert alone.total.undefined == "no prompt of Ties has both its ref and its tied form"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"Maths": []},
            "the subset 'Maths' is not one of RewardBench 2's: expected Factuality, Precise IF, Math, Safety, Focus",
        ),
        ({"Math": []}, "there is no record to score: expected records of at least one domain of RewardBench 2"),
        (
            {"Math": [("7", [], [1.0])]},
            "the record '7' of Math has 0 and 1 correct and incorrect answers: expected some of each",
        ),
        ({"Math": [("7", [1.0], [math.nan])]}, "a score of record '7' of Math is nan: expected a finite number"),
        ({"Ties": [("7", [1.0], [0.0])]}, "a record of Ties is called '7': expected ref:NUMBER or tied:NUMBER"),
        ({"Ties": [("ref:7", [1.0], [0.0])] * 2}, "the Ties record 'ref:7' is there twice: expected each once"),
    ],
)
def test_records_that_are_none_of_rewardbench_2_are_refused(given, sentence):
    with pytest.raises(ValueError) as refused:  # noqa: PT011  the sentence is compared
        reward_bench_2(given, rng())
    assert str(refused.value).startswith(sentence)


def test_the_scores_of_answers_come_back_from_those_of_rows():
    correct, incorrect = answer_scores([3, 3, 3, 5, 5, 5], [1, 2, 1, 1, 2, 1], 2)
    assert (correct.tolist(), incorrect.tolist()) == ([3, 5], [1, 2, 1])
    for chosen, rejected, count in [
        ([3, 3, 5], [1, 2, 1], 2), ([3, 3, 5, 5], [1, 2, 2, 1], 2), ([3, 4, 5, 5], [1, 2, 1, 2], 2), ([], [], 1), ([3], [1], 0),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match="expected each correct answer with each incorrect one, in order"):
            answer_scores(chosen, rejected, count)


# ---- from the file to the numbers


def rows_of(workspace, dataset):
    """Every row in order: subset, texts of chosen and rejected, the other columns, line."""
    sql = 'SELECT pair_id, subset, extra, line FROM dataset_rows WHERE dataset = $1 ORDER BY "row"'
    for pair_id, subset, extra, line in workspace.database.rows(sql, [dataset]):
        pair = workspace.pairs.pair(pair_id)
        yield subset, pair.chosen.text, pair.rejected.text, json.loads(extra), line


def test_llmbar_is_imported_and_scored_as_a_part_of_chat_hard(workspace, data):
    file = data / "rewardbench" / "llmbar.jsonl"
    done = import_source(workspace, source_of(str(file)), "llmbar")
    assert (done.rows, done.rejected) == (419, 0)
    assert workspace.pairs.subsets("llmbar") == LLMBAR
    assert is_reward_bench(workspace.pairs.subsets("llmbar")) == "1"
    rows = list(rows_of(workspace, "llmbar"))
    assert all({"id", "chosen_model", "rejected_model"} <= extra.keys() for _, _, _, extra, _ in rows)
    by_length = {name: [len(one) - len(other) for subset, one, other, _, _ in rows if subset == name] for name in LLMBAR}
    found = reward_bench(by_length)
    records = [json.loads(line) for line in file.read_text().splitlines()]
    longer = Counter(one["subset"] for one in records if len(one["chosen"]) > len(one["rejected"]))
    assert {name: round(one.value * one.n) for name, one in found.sections["Chat Hard"].subsets.items()} == longer
    assert found.total == found.sections["Chat Hard"].accuracy
    assert found.total.value == pytest.approx(longer.total() / 419)  # the published counts are those of the data
    assert found.gaps() == "without Chat, Safety, Reasoning, Prior Sets; Chat Hard without mt-bench-hard"


def record(name, subset, chosen, rejected, prompt=None):
    """A record with the columns of the published file."""
    return {
        "id": name, "prompt": prompt or f"What of {name}?", "chosen": chosen, "rejected": rejected, "num_correct": len(chosen),
        "num_incorrect": len(rejected), "total_completions": len(chosen) + len(rejected), "models": ["a", "b"],
        "subset": subset, "additional_metadata": {"category": subset.lower(), "correct": None},
    }  # fmt: skip


RECORDS = [
    record("0", "Factuality", ["the longest of them"], ["b", "cc", "ddd"]),
    record("1", "Factuality", ["aaa"], ["bbb", "ccc", "d"]),  # a tie of three
    record("0", "Precise IF", ["short"], ["a longer one", "b", "short"]),  # a rejected answer that is the chosen one too
    record("5", "Math", ["4"], ["5", "6", "7"]),
    record("ref:0", "Ties", ["a long answer"], ["no", "nope"]),
    record("tied:0", "Ties", ["Monday!", "Friday!", "Sunday"], ["May", "June"]),
    record("empty", "Focus", [], ["b"]),
    record("number", "Safety", ["a"], ["b", None]),
]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_rewardbench_2_is_imported_as_pairs_and_scored_by_record(workspace, tmp_path, ending):
    file = tmp_path / f"test.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(RECORDS), file)
    else:
        file.write_text("".join(json.dumps(one) + "\n" for one in RECORDS))
    done = import_source(workspace, source_of(str(file)), "two")
    assert (done.rows, done.rejected, done.distinct) == (4 * 3 + 2 + 6, 2, 20)
    assert workspace.pairs.subsets("two") == {"Factuality": 6, "Precise IF": 3, "Math": 3, "Ties": 8}
    assert is_reward_bench(workspace.pairs.subsets("two")) == "2"
    assert [(one["line"], one["reason"]) for one in workspace.pairs.rejects("two")] == [
        (7, "chosen is an empty list: expected one string or more, as on the other side"),
        (8, "an answer in rejected is 'None': expected a string, as the other answers are"),
    ]
    rows = list(rows_of(workspace, "two"))
    expected = [
        (one["subset"], good, bad, {key: one[key] for key in one.keys() - {"prompt", "chosen", "rejected", "subset"}}, line)
        for line, one in enumerate(RECORDS[:6], start=1) for good in one["chosen"] for bad in one["rejected"]
    ]  # fmt: skip
    assert rows == expected
    assert reward_bench_2(by_length(rows), rng()).domains.keys() == {"Factuality", "Precise IF", "Math", "Ties"}
    values = {name: one.value for name, one in reward_bench_2(by_length(rows), rng()).domains.items()}
    ties = 0.3 + 0.3 + 0.2 + 0.2 + 0.01 * math.tanh(2 / 1 - 1)  # gaps 13 - 4 and 6 - 4, spread 7 - 6
    assert values == pytest.approx({"Factuality": (1 + 1 / 3) / 2, "Precise IF": 0.0, "Math": 1 / 4, "Ties": ties})


def by_length(rows):
    """Records, found again by their line, with the lengths of answers for scores."""
    groups = {}
    for subset, chosen, rejected, extra, line in rows:
        groups.setdefault((subset, line, extra["id"], extra["num_correct"]), []).append((len(chosen), len(rejected)))
    records = {}
    for (subset, _, name, correct), lengths in groups.items():
        records.setdefault(subset, []).append((name, *answer_scores(*zip(*lengths, strict=True), correct)))
    return records
