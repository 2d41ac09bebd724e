"""Accuracy of reward models on a real workspace: every figure beside a count by hand, or another implementation."""

import json
import math
from itertools import combinations

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from curation import benchmark, benchmark_report, charts_rewards, exchange, reward_models, runs
from curation.importing import import_source
from curation.pairs import Pair
from curation.release import Policy, release
from curation.sources import source_of
from curation.stats.figures import Figure, estimated
from curation.workspace import Workspace
from tests.conftest import flag_pairs, hh, import_rows
from tests.scored import give, known, prefer

EASY, HARD = (1, 1, 1, 1, -1, 0), (1, -1, -1, None)  # margins by hand, None where not scored
KEEP = {"opposite": "swap", "vague": "drop"}


def rows_of(subsets: str = "eeeeeehhhh") -> list[dict[str, str]]:
    names = {"e": "easy", "h": "hard"}
    return [
        hh(f"Question {n}?", f"{'Long ' * n}answer {n}.", f"Other {n}.") | {"subset": names[one]}
        for n, one in enumerate(subsets)
    ]


def score_margins(workspace: Workspace, model: str, margins, dataset: str = "small") -> None:
    """The chosen response scores the margin, the rejected one 0."""
    scores = {}
    for (_, _, chosen, rejected), margin in zip(workspace.pairs.sides(dataset), margins, strict=True):
        if margin is not None and not math.isnan(margin):
            scores |= {chosen: margin, rejected: 0.0}
    give(workspace, model, scores, dataset=dataset)


def verdicts(workspace: Workspace, said: dict[int, str], dataset: str = "small") -> None:
    """Verdicts by row, imported from a file."""
    workspace.clock.forward(seconds=1)  # what is said later stands
    file = workspace.folder / "verdicts.jsonl"
    file.write_text("".join(json.dumps({"row": row, "person": "ana", "verdict": one}) + "\n" for row, one in said.items()))
    assert exchange.import_verdicts(workspace, file, dataset=dataset).rejected == []


@pytest.fixture
def ten(workspace: Workspace) -> list[str]:
    """Ten pairs in two subsets, nine of them scored by "one"."""
    ids = import_rows(workspace, rows_of())
    score_margins(workspace, "one", EASY + HARD)
    return ids


def wilson(hits: float, n: int) -> tuple[float, float]:
    """By hand, as statsmodels takes whole hits only."""
    z, p = 1.959963984540054, hits / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def is_share(figure: Figure, hits: float, n: int) -> None:
    assert figure[:5] == (pytest.approx(hits / n), *map(pytest.approx, wilson(hits, n)), n, "pairs")


# ---- accuracy


def test_accuracies_are_those_counted_by_hand_with_ties_as_one_half_and_what_is_not_scored_left_out(workspace, ten):
    of = benchmark.table(workspace, "small")
    assert (of.name, of.models, len(of.pair_ids)) == ("small", ("one",), 10)
    found = of.accuracy("one")
    is_share(found.strict, 5, 9)
    is_share(found.half_ties, 5.5, 9)
    assert found.ties == 1
    assert wilson(5, 9) == pytest.approx(proportion_confint(5, 9, method="wilson"))
    parts = benchmark.by_subset(of, "one")
    is_share(parts["easy"].half_ties, 4.5, 6)
    is_share(parts["hard"].half_ties, 1, 3)
    assert list(parts) == ["easy", "hard"]


def test_models_come_the_best_first_each_with_its_worst_subset(workspace, ten):
    score_margins(workspace, "best", [1] * 9 + [-1])
    score_margins(workspace, "nought", [-1] * 10)
    score_margins(workspace, "few", [1] * 2 + [None] * 8)
    found = benchmark.ranking(benchmark.table(workspace, "small"))
    assert [one.model for one in found] == ["few", "best", "one", "nought"]
    assert [one.worst and (one.worst[0], one.worst[1].value) for one in found] == [
        None, ("hard", 0.75), ("hard", pytest.approx(1 / 3)), ("easy", 0.0)
    ]  # fmt: skip
    rows = benchmark_report.accuracy_rows(benchmark.table(workspace, "small"))
    said = "{:.2f} [{:.2f}, {:.2f}]"
    assert rows[2]["accuracy"] == f"{said.format(5.5 / 9, *wilson(5.5, 9))}, n=9 pairs"
    assert rows[2]["worst subset"] == f"hard: {said.format(1 / 3, *wilson(1, 3))}, n=3 pairs"
    assert rows[0]["worst subset"] == ""


def test_a_model_is_not_tested_on_prompts_it_was_trained_on(workspace, ten):
    """Under any label and in any dataset: a prompt met again, with other responses, is left out too."""
    reward_models.register(workspace, "mine", "length", {}, "lead", run_id="a-run", trained_on=ten[:4])
    score_margins(workspace, "mine", [1] * 4 + [-1, 1, 1, 1, None, None])
    of = benchmark.table(workspace, "small")
    is_share(of.accuracy("mine").half_ties, 3, 4)
    is_share(of.accuracy("one").half_ties, 5.5, 9)
    (mine,) = [one for one in benchmark.ranking(of) if one.model == "mine"]
    assert (mine.learned, mine.accuracy.strict.n) == (4, 4)
    rows = {one["reward model"]: one["left out: trained on"] for one in benchmark_report.accuracy_rows(of)}
    assert rows == {"mine": "4", "one": "0"}
    duel = benchmark.duels(of)[0]
    assert duel.test.n == 4  # pairs 5 to 8
    import_rows(workspace, [hh("Question 0?", "Quite another answer.", "Bad."), hh("New?", "Yes.", "No.")], "again")
    score_margins(workspace, "mine", [1, 1], "again")
    assert benchmark.table(workspace, "again").accuracy("mine").strict.n == 1
    members = {"members": "mine,length"}
    reward_models.register(workspace, "both", "ensemble", members, "lead")
    assert workspace.scores.trained_on("both") == workspace.scores.trained_on("mine") != set()


def test_members_of_an_ensemble_are_centred_and_scaled_by_what_all_of_them_have_scored(workspace, ten):
    for name in ("mine", "other"):
        reward_models.register(workspace, name, "length", {}, "lead")
    score_margins(workspace, "other", [1, 1, 2, 3, 5, 8, 3, 2, 1, -1])
    reward_models.register(workspace, "early", "ensemble", {"members": "mine,other"}, "lead")  # mine has scored nothing yet
    assert not json.loads(workspace.scores.model("early").settings).keys() & {"centres", "scales"}
    score_margins(workspace, "mine", [3, 4, 5, -1, 1, 1, 2, 2, None, None])
    give(workspace, "mine", {"elsewhere": 1000, "and there": 2000})  # other has not seen these
    reward_models.register(workspace, "both", "ensemble", {"members": "mine,other"}, "lead")
    told = json.loads(workspace.scores.model("both").settings)
    for name, centre, scale in zip(("mine", "other"), told["centres"], told["scales"], strict=True):
        shared = workspace.scores.scores("mine").keys() & workspace.scores.scores("other").keys()
        scores = [one for response, one in workspace.scores.scores(name).items() if response in shared]
        assert len(scores) == 16
        assert (centre, scale) == (pytest.approx(np.mean(scores), abs=1e-5), pytest.approx(np.std(scores, ddof=1), rel=1e-5))
    reward_models.register(workspace, "own", "ensemble", {"members": "mine,other", "scales": [1, 2]}, "lead")
    told = json.loads(workspace.scores.model("own").settings)
    assert (told["scales"], "centres" in told) == ([1, 2], False)


def test_flagged_pairs_and_those_without_a_flag_are_counted_apart(workspace, ten):
    assert benchmark.by_flag(benchmark.table(workspace, "small"), "one") == {}
    flag_pairs(workspace, {ten[0]: 0.9, ten[4]: 0.9, ten[9]: 0.5}, filter="empty")
    flag_pairs(workspace, {ten[4]: 0.7, ten[6]: 0.7}, filter="vague")
    found = benchmark.by_flag(benchmark.table(workspace, "small"), "one")
    assert set(found) == {"empty", "vague", "no flag"}
    is_share(found["empty"].half_ties, 1, 2)
    is_share(found["vague"].half_ties, 1, 2)
    is_share(found["no flag"].half_ties, 3.5, 6)
    rows = benchmark_report.flag_rows(benchmark.table(workspace, "small"))
    assert [one["flagged by"] for one in rows] == ["empty", "vague", "no flag"]


def test_pairs_with_one_prompt_are_redrawn_together(workspace):
    rows = [hh(f"Question {n // 2}?", f"Good {n}.", f"Bad {n}.") for n in range(12)]
    import_rows(workspace, rows)
    margins = [1, 1, -1, -1, 1, 1, 1, 1, -1, -1, 1, 1]
    score_margins(workspace, "one", margins)
    of = benchmark.table(workspace, "small")
    found = of.accuracy("one").half_ties
    assert (found.value, found.n) == (pytest.approx(8 / 12), 12)
    low, high = wilson(8, 12)
    assert found.high - found.low > 1.2 * (high - low)  # six prompts, not twelve pairs
    alone = of.only(np.arange(12) % 2 == 0)
    is_share(alone.accuracy("one").half_ties, 4, 6)


def test_the_same_pair_twice_counts_once(workspace):
    rows = rows_of()
    import_rows(workspace, [*rows, *rows[:4]])
    score_margins(workspace, "one", EASY + HARD)
    is_share(benchmark.table(workspace, "small").accuracy("one").half_ties, 5.5, 9)


# ---- original against cleaned


def freed(workspace: Workspace, said: dict[int, str]) -> str:
    verdicts(workspace, said)
    return release(workspace, "small", "clean", Policy()).name


def test_original_against_cleaned_is_counted_by_hand_in_every_part(workspace, ten):
    freed(workspace, {4: "opposite", 5: "opposite", 6: "vague", 9: "opposite", 0: "same"})
    found = benchmark.original_and_cleaned(workspace, "small", "clean", "one")
    is_share(found.original, 5.5, 9)
    is_share(found.dropped, 1, 1)
    is_share(found.kept_as_were, 4.5, 8)
    is_share(found.cleaned, 5.5, 8)
    assert found.swapped == 2  # the tie among them; row 9 is not scored
    assert (found.from_labels.value, found.from_labels.n) == (pytest.approx(1 / 8), 8)
    assert found.from_dropping.value == pytest.approx(4.5 / 8 - 5.5 / 9)
    assert found.from_labels.value + found.from_dropping.value == pytest.approx(
        found.cleaned.value - found.original.value, abs=1e-15
    )
    assert found.from_labels.low <= found.from_labels.value <= found.from_labels.high
    after = benchmark.table(workspace, "small", release="clean")
    assert after.name == "release clean of small"
    assert after.pair_ids == tuple(one for one in ten if one != ten[6])
    assert after.turned.tolist() == [False] * 4 + [True, True, False, False, True]
    before = benchmark.table(workspace, "small")
    assert after.lengths[4] == -before.lengths[4] != 0


def test_parts_add_up_and_their_intervals_are_those_of_prompts_really_drawn(workspace):
    draw = np.random.default_rng(2)
    import_rows(workspace, [hh(f"Question {n // 2}?", f"Good {n}.", f"Bad {n}.") for n in range(60)])
    margins = np.where(draw.random(60) < 0.1, np.nan, np.rint(draw.normal(0.3, 1, 60)))
    score_margins(workspace, "one", margins)
    said = dict(enumerate(draw.choice(["same", "opposite", "vague"], 60, p=[0.5, 0.3, 0.2]).tolist()))
    freed(workspace, said)
    found = benchmark.original_and_cleaned(workspace, "small", "clean", "one")
    gain = found.cleaned.value - found.original.value
    assert found.from_labels.value + found.from_dropping.value == pytest.approx(gain, abs=1e-12)

    verdict = np.array([said[n] for n in range(60)])
    scored = ~np.isnan(margins)
    prompts = benchmark.table(workspace, "small").prompts  # numbered by their ids, which is the order they are drawn in
    assert (prompts[::2] == prompts[1::2]).all()
    assert len(set(prompts.tolist())) == 30
    credit, stay, prompt = ((np.sign(margins) + 1) / 2)[scored], (verdict != "vague")[scored], prompts[scored]
    new = np.where(verdict == "opposite", (1 - np.sign(margins)) / 2, (np.sign(margins) + 1) / 2)[scored]
    assert found.original.value == pytest.approx(credit.mean())
    assert found.cleaned.value == pytest.approx(new[stay].mean())

    def drawn(values, prompts, figure):
        """The figure of the sample and of a thousand redraws of prompts, copied row by row."""
        names = np.unique(prompts)
        times = benchmark.rng().multinomial(len(names), np.full(len(names), 1 / len(names)), 1000)
        members = [np.flatnonzero(prompts == one) for one in names]
        rows = [np.concatenate([np.tile(some, count) for some, count in zip(members, one, strict=True)]) for one in times]
        return estimated(
            np.array([figure(values), *(figure(values[one]) for one in rows)]), len(values), "pairs", "", units=len(names)
        )

    both = np.stack([credit, stay], axis=1)
    dropping = drawn(both, prompt, lambda one: one[one[:, 1] == 1, 0].mean() - one[:, 0].mean())
    assert found.from_dropping[:4] == pytest.approx(dropping[:4], abs=1e-12)
    labels = drawn((new - credit)[stay], prompt[stay], np.mean)
    assert found.from_labels[:4] == pytest.approx(labels[:4], abs=1e-12)


def test_without_swapped_labels_labels_change_nothing_and_without_dropped_pairs_dropping_changes_nothing(workspace, ten):
    verdicts(workspace, {6: "vague"})
    release(workspace, "small", "dropped", Policy())
    found = benchmark.original_and_cleaned(workspace, "small", "dropped", "one")
    assert found.from_labels == (0.0, 0.0, 0.0, 8, "pairs", "")
    assert (found.swapped, found.from_dropping.value) == (0, pytest.approx(4.5 / 8 - 5.5 / 9))
    verdicts(workspace, {6: "opposite"})  # the same person again: this one stands
    release(workspace, "small", "swapped", Policy(undecided="keep"))
    found = benchmark.original_and_cleaned(workspace, "small", "swapped", "one")
    assert found.from_dropping[:3] == (0.0, 0.0, 0.0)
    assert found.dropped.value is None


def test_a_swapped_tie_is_a_label_turned_round_though_it_changes_no_figure(workspace, ten):
    freed(workspace, {5: "opposite"})
    found = benchmark.original_and_cleaned(workspace, "small", "clean", "one")
    assert (found.swapped, found.from_labels.value) == (1, 0.0)
    assert found.from_labels.low is None  # what other ties would do is not known from this one
    (row,) = benchmark_report.cleaning_rows(workspace, benchmark.table(workspace, "small", release="clean"), "small", "clean")
    assert row["swapped and scored"] == "1"


# ---- models beside one another


@pytest.fixture
def four(workspace: Workspace) -> np.ndarray:
    """Sixty pairs and four models that scored most of them; returns their margins."""
    draw = np.random.default_rng(4)
    import_rows(workspace, [hh(f"Question {n}?", f"Good {n}.", f"Bad {n}.") for n in range(60)])
    common = draw.normal(size=60)
    margins = np.rint(np.stack([shift + common + draw.normal(size=60) for shift in (0, 0.2, 1.0, -0.8)], axis=1))
    margins[draw.random(margins.shape) < 0.1] = np.nan
    for place, name in enumerate("abcd"):
        score_margins(workspace, name, margins[:, place])
    return margins


def test_duels_are_statsmodels_exact_mcnemar_with_holm(workspace, four):
    found = benchmark.duels(benchmark.table(workspace, "small"))
    expected = []
    for one, other in combinations(range(4), 2):
        both = ~np.isnan(four[:, one]) & ~np.isnan(four[:, other])
        first, second = four[both, one] > 0, four[both, other] > 0
        counts = [[(first & second).sum(), (first & ~second).sum()], [(~first & second).sum(), (~first & ~second).sum()]]
        expected.append((int(counts[0][1]), int(counts[1][0]), int(both.sum()), mcnemar(counts, exact=True).pvalue))
    assert [(one.one, one.other) for one in found] == list(combinations("abcd", 2))
    assert [one.test[:3] for one in found] == [one[:3] for one in expected]
    assert [one.test.p for one in found] == pytest.approx([one[3] for one in expected])
    assert [one.adjusted for one in found] == pytest.approx(multipletests([one[3] for one in expected], method="holm")[1])
    assert min(one.adjusted for one in found) < 0.05 < max(one.adjusted for one in found)


def test_the_agreement_matrix_and_the_votes_are_counted_pair_by_pair(workspace, four):
    of = benchmark.table(workspace, "small")
    names, values, words = benchmark_report.matrix(of)
    assert names == list("abcd")
    for row, column in combinations(range(4), 2):
        shares = [
            1 - abs(one - other) / 2
            for one, other in np.sign(four[:, [row, column]]).tolist()
            if not math.isnan(one) and not math.isnan(other)
        ]
        assert values[row][column] == values[column][row] == pytest.approx(np.mean(shares))
        low, high = wilson(sum(shares), len(shares))
        assert words[row][column] == f"{np.mean(shares):.2f} [{low:.2f}, {high:.2f}], n={len(shares):,}"
    whole = four[~np.isnan(four).any(axis=1)]
    against = (whole < 0).sum(axis=1)
    found = benchmark_report.vote_rows(of)
    assert [one["votes against the label"] for one in found] == [f"{n} of 4" for n in range(5)]
    for n, one in enumerate(found):
        assert f"{(against == n).sum()} of {len(whole)}" in one["pairs"]


def test_models_that_share_no_pair_are_not_compared(workspace):
    import_rows(workspace, rows_of())
    score_margins(workspace, "one", [1] * 5 + [None] * 5)
    score_margins(workspace, "other", [None] * 5 + [1] * 5)
    of = benchmark.table(workspace, "small")
    assert benchmark_report.matrix(of)[1] == [[1.0, None], [None, 1.0]]
    assert benchmark_report.duel_rows(of)[0]["p (McNemar)"] == "none"
    assert benchmark_report.vote_rows(of) == []


def test_a_model_that_compares_stands_in_the_same_table(workspace, ten):
    sides = workspace.pairs.sides("small")
    chances = [0.8, 0.8, 0.5, 0.2, 1.0, 0.0, 0.9, 0.6, 0.3]
    said = {(one[2], one[3]): chance for one, chance in zip(sides, chances, strict=False)}
    assert {first < second for first, second in said} == {True, False}  # chosen and rejected come first by id, both
    prefer(workspace, "judge", said)
    of = benchmark.table(workspace, "small")
    assert set(of.models) == {"one", "judge"}
    margins = of.of("judge")
    assert margins[:4] == pytest.approx([math.log(4), math.log(4), 0, -math.log(4)])
    assert margins[4] == -margins[5] == pytest.approx(12 * math.log(10))  # sure, but a number
    assert np.isnan(margins[9])
    is_share(of.accuracy("judge").half_ties, 5.5, 9)
    assert of.accuracy("judge").ties == 1
    assert benchmark.duels(of)[0].test.n == 9
    assert benchmark.best_of(workspace, "small", "judge") is None


def test_pairs_that_go_most_against_the_label_come_first(workspace, ten):
    score_margins(workspace, "two", [-1, 2, -7, 0, None, -3, 1, 1, 1, 1])
    of = benchmark.table(workspace, "small")
    found = benchmark.against(workspace, "small", of, "two")
    assert [(row.pair_id, margin) for row, margin in found] == [(ten[2], -7.0), (ten[5], -3.0), (ten[0], -1.0)]
    assert [row.pair_id for row, _ in benchmark.against(workspace, "small", of, "two", limit=1)] == [ten[2]]


# ---- prompts with several responses


def ranked(asked: str, *order: tuple[str, str]) -> list[dict[str, str]]:
    return [hh(asked, better, worse) for better, worse in order]


def score_texts(workspace: Workspace, model: str, scores: dict[tuple[str, str], float]) -> None:
    """Scores by question and text."""
    found = {}
    for (asked, text), score in scores.items():
        row = hh(asked, text, "nothing")
        found[Pair.of_texts(row["chosen"], row["rejected"]).chosen_id] = score
    give(workspace, model, found)


def test_best_of_k_is_counted_over_prompts_with_three_responses_or_more(workspace):
    rows = [
        *ranked("1?", ("A", "B"), ("A", "C")),  # the best on top: 1
        *ranked("2?", ("A", "C"), ("B", "C")),  # all three share the top, two are best: 2/3
        *ranked("3?", ("A", "B"), ("B", "C")),  # B is both: left out, and C beats A: 0
        *ranked("4?", ("A", "B")),  # two responses
        *ranked("5?", ("A", "B"), ("A", "C")),  # C is not scored
        *ranked("6?", ("A", "B"), ("B", "A"), ("C", "A")),  # nothing is only rejected
    ]
    import_rows(workspace, rows)
    scores = {"1?": "312", "2?": "111", "3?": "051", "4?": "10", "5?": "31", "6?": "123"}
    given = {(asked, text): float(one) for asked, digits in scores.items() for text, one in zip("ABC", digits, strict=False)}
    score_texts(workspace, "one", given)
    found = benchmark.best_of(workspace, "small", "one")
    assert (found.figure.value, found.figure.n) == (pytest.approx((1 + 2 / 3 + 0) / 3), 3)
    assert found.responses == (3 + 3 + 2 + 3) / 4
    verdicts(workspace, {0: "opposite", 1: "opposite", 2: "vague"})
    release(workspace, "small", "clean", Policy())
    cleaned = benchmark.best_of(workspace, "small", "one", release="clean")
    assert (cleaned.figure.value, cleaned.figure.n) == (0.0, 2)  # of 1? A is now the worst, and 2? has two responses left
    assert benchmark.best_of(workspace, "small", known(workspace, "never")).figure.value is None


def test_without_a_prompt_of_three_responses_there_is_no_best_of_k(workspace, ten):
    assert benchmark.best_of(workspace, "small", "one") is None


# ---- published benchmarks

CHAT_HARD = {
    "llmbar-natural": 100, "llmbar-adver-neighbor": 134, "llmbar-adver-GPTInst": 92, "llmbar-adver-GPTOut": 47,
    "llmbar-adver-manual": 46,
}  # fmt: skip


def test_llmbar_scored_by_length_has_rewardbenchs_own_score(workspace, data, at_once):
    file = data / "rewardbench" / "llmbar.jsonl"
    import_source(workspace, source_of(str(file)), "llmbar")
    runs.start_run(workspace, "score", {"reward_model": "length", "dataset": "llmbar"})
    assert runs.settle(workspace)
    of = benchmark.table(workspace, "llmbar")
    told = benchmark_report.published(workspace, "llmbar", of)
    longer: dict[str, list[bool]] = {}
    for line in file.read_text().splitlines():
        row = json.loads(line)
        longer.setdefault(row["subset"], []).append(len(row["chosen"]) > len(row["rejected"]))
    assert {name: len(some) for name, some in longer.items()} == CHAT_HARD
    section = sum(weight * np.mean(longer[name]) for name, weight in CHAT_HARD.items()) / sum(CHAT_HARD.values())
    one = told.by_model["length"]
    assert told.which == "RewardBench"
    assert (one.total.value, one.total.n) == (pytest.approx(section), 419)
    assert {name: figure.value for name, figure in one.sections["Chat Hard"].subsets.items()} == pytest.approx(
        {name: np.mean(some) for name, some in longer.items()}
    )
    (row,) = benchmark_report.published_rows(workspace, "llmbar", of)
    assert row["Chat Hard"] == row["total"]
    assert "without mt-bench-hard" in row["note"]
    known(workspace, "never")
    with pytest.raises(ValueError, match="'never' has not scored 'llmbar' yet"):
        benchmark.table(workspace, "llmbar", models=["length", "never"])


def record_2(number: int, domain: str, chosen: list[str], rejected: list[str], **more) -> dict[str, object]:
    """A row as RewardBench 2 has it."""
    row = {"id": f"r{number}", "prompt": f"{number}?", "chosen": chosen, "rejected": rejected, "subset": domain}
    return {**row, "num_correct": len(chosen), "num_incorrect": len(rejected), **more}


SECOND = [
    record_2(0, "Factuality", ["9"], ["1", "2", "3"]),  # 1
    record_2(1, "Factuality", ["9"], ["9 ", "2", "3"]),  # two share the top: 1/2
    record_2(2, "Factuality", ["1"], ["9", "2", "3"]),  # 0
    record_2(3, "Math", ["9"], ["1", "2", "3"]),  # 1
    record_2(4, "Ties", ["9"], ["1", "2"], id="ref:1"),
    record_2(5, "Ties", ["8", "9"], ["3", "4"], id="tied:1"),
]


@pytest.fixture
def second(workspace: Workspace) -> Workspace:
    import_rows(workspace, SECOND, "rb2")
    ids: dict[str, float] = {}
    for pair in workspace.pairs.many([one[0] for one in workspace.pairs.sides("rb2")]):
        ids |= {pair.chosen_id: float(pair.chosen.text), pair.rejected_id: float(pair.rejected.text)}
    give(workspace, "digits", ids)
    return workspace


def test_rewardbench_2_is_scored_by_its_own_formulas(second):
    told = benchmark_report.published(second, "rb2", benchmark.table(second, "rb2"))
    one = told.by_model["digits"]
    assert told.which == "RewardBench 2"
    assert {name: (figure.value, figure.n) for name, figure in one.domains.items() if name != "Ties"} == {
        "Factuality": (pytest.approx(0.5), 3), "Math": (1.0, 1)
    }  # fmt: skip
    margin = math.tanh(min(9 - 2, 8 - 4) / (9 - 8) - 1)
    ties = 0.3 + 0.3 + 0.2 + 0.2 + 0.01 * margin  # both gaps are wider than the spread of 1
    assert one.domains["Ties"].value == pytest.approx(ties)
    assert one.total.value == pytest.approx((0.5 + 1 + ties) / 3)
    assert told.incomplete == {"digits": 0}
    assert told.note("digits") == "without Precise IF, Safety, Focus"


def test_records_that_are_not_whole_are_counted_for_each_model_and_left_out(second):
    workspace = second
    scores = workspace.scores.scores("digits")
    pairs = {one.packed_prompt: one for one in workspace.pairs.many([side[0] for side in workspace.pairs.sides("rb2")])}
    lost = next(one.chosen_id for prompt, one in pairs.items() if '"2?"' in prompt)
    give(workspace, "gap", {one: score for one, score in scores.items() if one != lost})
    told = benchmark_report.published(workspace, "rb2", benchmark.table(workspace, "rb2"))
    assert told.incomplete == {"digits": 0, "gap": 1}
    assert told.by_model["gap"].domains["Factuality"].value == pytest.approx(0.75)
    assert told.note("gap").endswith("; 1 records left out")
    verdicts(workspace, {0: "vague", 9: "opposite"}, "rb2")  # a pair of the first record, the one of the fourth
    release(workspace, "rb2", "clean", Policy())
    of = benchmark.table(workspace, "rb2", release="clean")
    told = benchmark_report.published(workspace, "rb2", of)
    assert told.incomplete == {"digits": 2, "gap": 3}
    assert told.by_model["digits"].domains["Factuality"].value == pytest.approx(0.25)
    assert "Math" not in told.by_model["digits"].domains


def test_records_without_an_id_or_with_one_of_another_form_are_counted(workspace):
    broken = [record_2(6, "Ties", ["9"], ["1"], id="seven"), record_2(7, "Focus", ["9"], ["1"], num_correct="many")]
    import_rows(workspace, [*SECOND[:1], *broken, SECOND[0] | {"prompt": "again"}], "rb2")
    give(workspace, "flat", {one: 0.0 for side in workspace.pairs.sides("rb2") for one in side[2:]})
    told = benchmark_report.published(workspace, "rb2", benchmark.table(workspace, "rb2"))
    assert told.incomplete == {"flat": 3}
    assert told.by_model["flat"].total.value == 0.25  # four share the top


def test_other_data_with_such_a_subset_is_no_published_benchmark(workspace):
    import_rows(workspace, [row | {"subset": "Focus"} for row in rows_of()])
    score_margins(workspace, "one", EASY + HARD)
    of = benchmark.table(workspace, "small")
    assert benchmark_report.published(workspace, "small", of) is None
    assert benchmark_report.published_rows(workspace, "small", of) == []
    assert benchmark_report.record(workspace, "small", "", [])["published"] is None


# ---- what is not there, and what is kept


def test_what_was_not_scored_is_said_in_a_sentence_that_tells_how_to_score_it(workspace, ten):
    import_rows(workspace, rows_of()[:3], "fresh")
    give(workspace, "elsewhere", {"0" * 32: 1.0})
    for call, words in (
        ({"dataset": "nowhere"}, "no dataset 'nowhere'"),
        ({"dataset": "small", "release": "none"}, "no release 'none' of 'small'"),
        ({"dataset": "small", "models": ["ghost"]}, "no reward model 'ghost'"),
        (
            {"dataset": "small", "models": ["one", "elsewhere"]},
            "the reward model 'elsewhere' has not scored 'small' yet: elephant",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            benchmark.table(workspace, **call)
    import_rows(workspace, [hh("New?", "a", "b")], "new")
    with pytest.raises(
        ValueError, match="no reward model has scored 'new' yet: elephant run score --set reward_model=length dataset=new"
    ):
        benchmark.table(workspace, "new")


def test_figures_are_kept_until_scores_flags_or_releases_come_in(workspace, ten):
    known(workspace, "length")  # it joins the registry when models are first listed
    first = benchmark.table(workspace, "small")
    behaviour = benchmark.behaviour(workspace, first, "one")
    assert benchmark.table(workspace, "small") is first
    assert benchmark.behaviour(workspace, first, "one") is behaviour
    score_margins(workspace, "one", [None] * 9 + [-1])  # the pair that was missing
    fresh = benchmark.table(workspace, "small")
    assert fresh is not first
    is_share(fresh.accuracy("one").half_ties, 5.5, 10)
    assert benchmark.behaviour(workspace, fresh, "one").brier.n == 10
    flag_pairs(workspace, {ten[0]: 0.9})
    assert "empty" in benchmark.by_flag(benchmark.table(workspace, "small"), "one")


def test_a_part_of_a_table_has_figures_of_its_own(workspace, ten):
    of = benchmark.table(workspace, "small")
    whole = benchmark.behaviour(workspace, of, "one").brier
    part = benchmark.behaviour(workspace, of.only(np.arange(10) < 4), "one").brier
    assert (whole.n, part.n) == (9, 4)
    assert part.value == pytest.approx((1 - 1 / (1 + math.exp(-1))) ** 2)


# ---- for machines


def test_the_record_is_json_and_holds_every_figure(workspace, ten):
    score_margins(workspace, "two", [1, -1, 0, 1, 1, 1, None, 1, 1, -1])
    flag_pairs(workspace, {ten[0]: 0.9})
    freed(workspace, {4: "opposite", 6: "vague"})
    plain, cleaned = (benchmark_report.record(workspace, "small", name, []) for name in ("", "clean"))
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert json.loads(json.dumps(cleaned, allow_nan=False)) == cleaned
    one = plain["models"]["one"]
    assert one["half_ties"]["value"] == pytest.approx(5.5 / 9)
    assert (one["strict"]["value"], one["ties"]) == (pytest.approx(5 / 9), 1)
    assert one["subsets"]["hard"]["half_ties"]["n"] == 3
    assert one["flags"]["empty"]["half_ties"]["value"] == 1.0
    assert one["cleaning"] is None
    parts = benchmark.original_and_cleaned(workspace, "small", "clean", "one")
    assert cleaned["models"]["one"]["cleaning"]["from_labels"] == parts.from_labels.record()
    assert cleaned["models"]["one"]["cleaning"]["swapped"] == 1
    assert cleaned["pairs"] == 9
    of = benchmark.table(workspace, "small")
    behaviour = benchmark.behaviour(workspace, of, "one")
    assert one["brier"] == behaviour.brier.record()
    assert one["expected_calibration_error"] == behaviour.error.record()
    assert one["at_equal_length"] == behaviour.at_equal_length.record()
    assert len(one["calibration"]) == len(behaviour.curve)
    assert sum(part["half_ties"]["n"] for part in one["by_length_difference"]) == 9
    (duel,) = plain["duels"]
    test = benchmark.duels(of)[0]
    assert (duel["one"], duel["only_first"], duel["p"], duel["p_holm"]) == (
        "one",
        test.test.only_first,
        test.test.p,
        test.adjusted,
    )
    (same,) = plain["same_side"]
    assert (same["value"], same["n"]) == (pytest.approx(benchmark_report.matrix(of)[1][0][1]), 8)
    assert [row["votes against the label"] for row in plain["votes"]] == ["0 of 2", "1 of 2", "2 of 2"]


# ---- as figures


def test_a_chart_shows_values_with_both_ends_and_names_as_plain_text(workspace, ten):
    parts = {
        "<b>one</b>": {"<i>easy</i>": Figure(0.6, 0.5, 0.8, 9, "pairs"), "none": Figure(None, None, None, 0, "pairs", "x")}
    }
    (trace,) = charts_rewards.side_by_side(parts, value="accuracy").data
    assert (list(trace.x), list(trace.error_x.array), list(trace.error_x.arrayminus)) == (
        [0.6], pytest.approx([0.2]), pytest.approx([0.1])
    )  # fmt: skip
    assert "<b>" not in trace.name
    assert "<i>" not in "".join(trace.customdata[0])
    of = benchmark.table(workspace, "small")
    behaviour = benchmark.behaviour(workspace, of, "one")
    (_, curve) = charts_rewards.calibration({"one": behaviour.curve}).data
    known_bins = [one for one in behaviour.curve if one.confidence is not None]
    assert list(curve.y) == [one.right.value for one in known_bins]
    assert list(curve.x) == [one.confidence for one in known_bins]
    (spread,) = charts_rewards.margins({"one": of.of("one")}).data
    assert sum(spread.y) == pytest.approx(1.0)
    names, values, words = benchmark_report.matrix(of)
    (heat,) = charts_rewards.heat(names, names, values, words, bad=False).data
    assert heat.z[0][0] == 1.0
