"""A dataset's benchmark as rows for people and as one record for machines: `elephant benchmark`, the rewards page."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from curation import benchmark, pitfalls, pitfalls_report, reward_models
from curation.benchmark import Behaviour, Table
from curation.review import share
from curation.stats import preference_accuracy
from curation.stats.accuracy import Numbers
from curation.stats.figures import Figure
from curation.stats.preference_accuracy import Accuracy
from curation.stats.rewardbench import TIES, RewardBench, is_reward_bench, reward_bench
from curation.stats.rewardbench_2 import RewardBench2, answer_scores, reward_bench_2
from curation.workspace import Workspace


def accuracy_rows(of: Table) -> list[dict[str, str]]:
    """Reward models, the best first: half-tie and strict accuracy, ties, worst subset, and how many scored pairs are left out
    since the model was trained on their prompts."""
    return [
        {
            "reward model": one.model, "accuracy": one.accuracy.half_ties.words(), "strict": short(one.accuracy.strict),
            "ties": f"{one.accuracy.ties:,}",
            "worst subset": "" if one.worst is None else f"{one.worst[0] or '(no subset)'}: {one.worst[1].words()}",
            "left out: trained on": f"{one.learned:,}",
        }
        for one in benchmark.ranking(of)
    ]  # fmt: skip


def by_model(of: Table, found: Mapping[str, Mapping[str, Accuracy]], head: str) -> list[dict[str, str]]:
    """A row a part (subset, flag), a column a model: half-tie accuracy with its interval and n."""
    parts = dict.fromkeys(name for one in found.values() for name in one)
    return [{head: name or "(no subset)", **{model: both_ways(found[model][name]) for model in of.models}} for name in parts]


def both_ways(one: Accuracy) -> str:
    """Accuracy with a tie as one half, and the strict one where there are ties."""
    return one.half_ties.words() + (f"; strict {short(one.strict)}" if one.ties else "")


def subset_rows(of: Table) -> list[dict[str, str]]:
    """Accuracy by subset."""
    return by_model(of, {model: benchmark.by_subset(of, model) for model in of.models}, "subset")


def flag_rows(of: Table) -> list[dict[str, str]]:
    """Accuracy on the pairs each filter flags, and on those that none does."""
    return by_model(of, {model: benchmark.by_flag(of, model) for model in of.models}, "flagged by")


def cleaning_rows(workspace: Workspace, of: Table, dataset: str, release: str) -> list[dict[str, str]]:
    """Original against cleaned, in parts: see `benchmark.Parts`."""
    rows = []
    for model in of.models:
        parts = benchmark.original_and_cleaned(workspace, dataset, release, model)
        rows.append(
            {
                "reward model": model, "original, all pairs": parts.original.words(), "cleaned": parts.cleaned.words(),
                "kept pairs, labels as they were": parts.kept_as_were.words(), "pairs dropped": parts.dropped.words(),
                "change from swapped labels": signed(parts.from_labels), "swapped and scored": f"{parts.swapped:,}",
                "change from dropping": signed(parts.from_dropping),
            }
        )  # fmt: skip
    return rows


def duel_rows(of: Table) -> list[dict[str, str]]:
    """Every two models: pairs that only one of them has right, exact McNemar, Holm."""
    return [
        {
            "": f"{one.one} against {one.other}", "only the first right": f"{one.test.only_first:,}",
            "only the second right": f"{one.test.only_second:,}", "n": f"{one.test.n:,} pairs",
            "p (McNemar)": p_value(one.test.p), "p (Holm)": p_value(one.adjusted),
        }
        for one in benchmark.duels(of)
    ]  # fmt: skip


def to_know_rows(workspace: Workspace, dataset: str, of: Table) -> list[dict[str, str]]:
    """What scorings of this dataset found, such as answers of a judge without a verdict."""
    return [
        {"reward model": model, "scored": what["in words"], "to know": words}
        for model in of.models
        for what, words in workspace.scores.to_know(model)
        if what.get("dataset") == dataset
    ]


def matrix_rows(of: Table) -> list[dict[str, str]]:
    """How often two models prefer the same side."""
    names, _, words = matrix(of)
    return [{"": one, **dict(zip(names, words[row], strict=True))} for row, one in enumerate(names)]


def matrix(of: Table) -> tuple[list[str], list[list[float | None]], list[list[str]]]:
    """Names, the shares of pairs on which two models prefer the same side (None where they share none), and words for each."""
    found = preference_accuracy.agreement_matrix(of.margins)
    values: list[list[float | None]] = []
    words: list[list[str]] = []
    for share_of, low, high, n in zip(*(one.tolist() for one in found), strict=True):
        values.append([one if count else None for one, count in zip(share_of, n, strict=True)])
        words.append(
            [
                f"{one:.2f} [{least:.2f}, {most:.2f}], n={count:,}" if count else ""
                for one, least, most, count in zip(share_of, low, high, n, strict=True)
            ]
        )
    return list(of.models), values, words


def vote_rows(of: Table) -> list[dict[str, str]]:
    """How many pairs have how many votes against their label, of all models that scored them."""
    votes = preference_accuracy.committee(of.margins)
    asked = votes.votes_for + votes.votes_against + votes.ties
    whole = asked == len(of.models)
    if not whole.any() or len(of.models) < 2:
        return []
    return [
        {"votes against the label": f"{count} of {len(of.models)}", "pairs": share(int(hits), int(whole.sum()))}
        for count in range(len(of.models) + 1)
        for hits in [(votes.votes_against[whole] == count).sum()]
    ]


def best_of_rows(workspace: Workspace, dataset: str, release: str, of: Table) -> list[dict[str, str]]:
    """Accuracy of picking the best of several responses; none where no prompt has more than two."""
    found = {model: benchmark.best_of(workspace, dataset, model, release=release) for model in of.models}
    return [
        {"reward model": model, "picks one of the best": one.figure.words(), "responses a prompt": f"{one.responses:.1f}"}
        for model, one in found.items()
        if one is not None
    ]


def behaviour_rows(found: Mapping[str, Behaviour]) -> list[dict[str, str]]:
    """Accuracy at equal length, and how far each model's confidence can be believed."""
    rows = []
    for model, one in found.items():
        rows.append(
            {
                "reward model": model, "accuracy at equal length": one.at_equal_length.words(), "Brier": one.brier.words(),
                "expected calibration error": one.error.words(),
                "where chosen is much shorter": one.by_length[0].accuracy.half_ties.words() if one.by_length else "none",
                "where chosen is much longer": one.by_length[-1].accuracy.half_ties.words() if one.by_length else "none",
            }
        )  # fmt: skip
    return rows


def published_rows(workspace: Workspace, dataset: str, of: Table) -> list[dict[str, str]]:
    """RewardBench's own scores, sections or domains across; none where the dataset is no such benchmark."""
    told = published(workspace, dataset, of)
    if told is None:
        return []
    parts = {model: _parts(one) for model, one in told.by_model.items()}
    names = list(dict.fromkeys(name for one in parts.values() for name in one))
    return [
        {
            "reward model": model, "total": one.total.words(),
            **{name: parts[model][name].words() if name in parts[model] else "none" for name in names},
            "note": told.note(model),
        }
        for model, one in told.by_model.items()
    ]  # fmt: skip


def _parts(one: RewardBench | RewardBench2) -> dict[str, Figure]:
    return one.domains if isinstance(one, RewardBench2) else {name: part.accuracy for name, part in one.sections.items()}


def short(figure: Figure) -> str:
    """Value and interval, without n."""
    if figure.value is None or figure.low is None or figure.high is None:
        return figure.words()
    return f"{figure.value:z.2f} [{figure.low:z.2f}, {figure.high:z.2f}]"


def signed(figure: Figure) -> str:
    """A change with its sign: "+0.02 [+0.01, +0.03]"."""
    if figure.value is None or figure.low is None or figure.high is None:
        return figure.words()
    return f"{figure.value:+.3f} [{figure.low:+.3f}, {figure.high:+.3f}], n={figure.n:,}"


def p_value(p: float | None) -> str:
    """ "0.031", "<0.001", "none" where there was no test."""
    return "none" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


# ---- published benchmarks


@dataclass(frozen=True)
class Published:
    """A dataset whose subsets are those of RewardBench or RewardBench 2, scored by their own formulas.

    A model has no score there when nothing that counts of the benchmark is scored whole.
    """

    which: str  # "RewardBench" or "RewardBench 2"
    by_model: Mapping[str, RewardBench | RewardBench2]
    incomplete: Mapping[str, int]  # by model, records of RewardBench 2 left out: not scored whole, or not whole in the release

    def note(self, model: str) -> str:
        """What a model's total lacks, in words: "without Math; 3 records left out". Empty when nothing."""
        lost = self.incomplete.get(model, 0)
        return "; ".join(filter(None, [self.by_model[model].gaps(), f"{lost:,} records left out" if lost else ""]))


def published(workspace: Workspace, dataset: str, of: Table) -> Published | None:
    """The benchmark's own scores, None where the dataset is none of them."""
    which = is_reward_bench(set(of.subsets))
    if which == "1":
        margins = {model: _by_subset(of.of(model), of.subsets) for model in of.models}
        return Published("RewardBench", {model: reward_bench(some) for model, some in margins.items() if some}, {})
    records, strange = _records(workspace, dataset) if which == "2" else ([], 0)
    if not records:  # other data may have such subsets too
        return None
    there = _pairs_as_they_were(workspace, dataset, of)
    whole = [one for one in records if there.issuperset(one.sides)]
    found: dict[str, RewardBench | RewardBench2] = {}
    incomplete = {}
    for model in of.models:
        if not reward_models.model_named(workspace, model).compares:
            answers, lost = _answers(whole, _unlearned(workspace, dataset, model))
            incomplete[model] = strange + len(records) - len(whole) + lost
            if answers:
                found[model] = reward_bench_2(answers, benchmark.rng())
    return Published("RewardBench 2", found, incomplete)


def _by_subset(margins: Numbers, subsets: Sequence[str]) -> dict[str, Numbers]:
    """The margins there are, of each subset with any."""
    known, names = ~np.isnan(margins), np.array(subsets, dtype=object)
    return {name: margins[known & (names == name)] for name in dict.fromkeys(names[known].tolist())}


def _unlearned(workspace: Workspace, dataset: str, model: str) -> dict[str, float]:
    """A model's scores, without those of responses to prompts it was trained on."""
    scores, learned = workspace.scores.scores(model), workspace.scores.trained_on(model)
    for _, prompt, *sides in workspace.pairs.sides(dataset) if learned else ():
        if prompt in learned:
            for one in sides:
                scores.pop(one, None)
    return scores


_TIES_ID = re.compile(r"(ref|tied):\d+")


class _Record(NamedTuple):
    """A record of RewardBench 2."""

    domain: str
    name: str
    correct: int  # answers
    sides: list[tuple[str, str]]  # the chosen and the rejected response of each row, in order


def _records(workspace: Workspace, dataset: str) -> tuple[list[_Record], int]:
    """The records that a dataset was imported from, and how many others have no id of their own, or of Ties a wrong one, or
    do not say how many answers are correct."""
    rows: dict[tuple[str, int], list[Any]] = defaultdict(list)
    for row in workspace.pairs.records_in_order(dataset):
        rows[row[0], row[1]].append(row)
    found: dict[tuple[str, str], _Record] = {}
    for some in rows.values():
        domain, extra = some[0][2], json.loads(some[0][3] or "{}")
        name, correct = str(extra.get("id", "")), extra.get("num_correct")
        if name and isinstance(correct, int) and (domain != TIES or _TIES_ID.fullmatch(name)):
            sides = [(chosen, rejected) for *_, chosen, rejected in some]
            found.setdefault((domain, name), _Record(domain, name, correct, sides))
    return list(found.values()), len(rows) - len(found)


def _pairs_as_they_were(workspace: Workspace, dataset: str, of: Table) -> set[tuple[str, str]]:
    """The chosen and rejected response of every pair that is in the table under its own label."""
    standing = {pair_id for pair_id, turned in zip(of.pair_ids, of.turned.tolist(), strict=True) if not turned}
    return {(chosen, rejected) for pair_id, _, chosen, rejected in workspace.pairs.sides(dataset) if pair_id in standing}


def _answers(records: list[_Record], scores: Mapping[str, float]) -> tuple[dict[str, list[Any]], int]:
    """The scores of the records' answers, by domain, and how many records are not scored whole."""
    found: dict[str, list[Any]] = defaultdict(list)
    for one in records:
        chosen, rejected = (np.array([scores.get(id, np.nan) for id in column]) for column in zip(*one.sides, strict=True))
        with suppress(ValueError):  # not all of it is scored
            found[one.domain].append((one.name, *answer_scores(chosen, rejected, one.correct)))
    return found, len(records) - sum(map(len, found.values()))


# ---- all of it, for a file or the command line


def record(workspace: Workspace, dataset: str, release: str, models: list[str]) -> dict[str, Any]:
    """Every figure of the rewards page as plain values: see `elephant benchmark DATASET --json`."""
    of = benchmark.table(workspace, dataset, release=release, models=models)
    told = published(workspace, dataset, of)
    return {
        "dataset": dataset, "release": release, "pairs": len(of.pair_ids),
        "models": {model: _model_record(workspace, dataset, release, of, model) for model in of.models},
        "duels": [
            {
                "one": one.one, "other": one.other, "only_first": one.test.only_first, "only_second": one.test.only_second,
                "n": one.test.n, "p": one.test.p, "p_holm": one.adjusted,
            }
            for one in benchmark.duels(of)
        ],
        "same_side": _same_side(of), "votes": vote_rows(of), "to_know": to_know_rows(workspace, dataset, of),
        "published": None if told is None else {
            "benchmark": told.which, "incomplete": dict(told.incomplete),
            "models": {model: one.record() for model, one in told.by_model.items()},
        },
    }  # fmt: skip


def _model_record(workspace: Workspace, dataset: str, release: str, of: Table, model: str) -> dict[str, Any]:
    behaviour = benchmark.behaviour(workspace, of, model)
    best = benchmark.best_of(workspace, dataset, model, release=release)
    probed = pitfalls.probed(workspace, dataset, model)
    parts = benchmark.original_and_cleaned(workspace, dataset, release, model) if release else None
    return {
        "what": reward_models.described(reward_models.model_named(workspace, model)),
        **_accuracy_record(of.accuracy(model)), "left_out_trained_on": int(of.learned[:, of.models.index(model)].sum()),
        "subsets": {name: _accuracy_record(one) for name, one in benchmark.by_subset(of, model).items()},
        "flags": {name: _accuracy_record(one) for name, one in benchmark.by_flag(of, model).items()},
        "cleaning": None if parts is None else {
            name: one.record() if isinstance(one, Figure) else one for name, one in parts._asdict().items()
        },
        "brier": behaviour.brier.record(), "expected_calibration_error": behaviour.error.record(),
        "calibration": [{"confidence": one.confidence, "right": one.right.record()} for one in behaviour.curve],
        "by_length_difference": [
            {"low": one.low, "high": one.high, **_accuracy_record(one.accuracy)} for one in behaviour.by_length
        ],
        "at_equal_length": behaviour.at_equal_length.record(),
        "best_of_k": None if best is None else {**best.figure.record(), "responses": best.responses},
        "pitfalls": None if probed is None else {
            "of": probed.what, "phrases": list(probed.phrases),
            "probes": {
                name: {"preferred": one.share.record(), "ties": one.ties, "shift": one.shift.record()}
                for name, one in pitfalls_report.found(workspace, dataset, [model])[model].items()
            },
        },
    }  # fmt: skip


def _same_side(of: Table) -> list[dict[str, Any]]:
    """How often each two models prefer the same side."""
    found = preference_accuracy.agreement_matrix(of.margins)
    records = []
    for row, column in combinations(range(len(of.models)), 2):
        value, low, high, n = (one[row, column].item() for one in found)
        figure = Figure(value, low, high, n, "pairs") if n else Figure(None, None, None, 0, "pairs")
        records.append({"one": of.models[row], "other": of.models[column], **figure.record()})
    return records


def _accuracy_record(one: Accuracy) -> dict[str, Any]:
    return {"half_ties": one.half_ties.record(), "strict": one.strict.record(), "ties": one.ties}
