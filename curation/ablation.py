"""Ablation of cleaning: what each part of a release policy does to a dataset: `python -m curation.ablation RUN_FOLDER`.

Policies are compared in two ways: cumulative, from keeping everything to the whole policy with every filter, and
leave-one-out, the whole without one of its parts.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from curation import interchange, toxicity
from curation.readings import Reader, Readings
from curation.release_policy import REVIEWED, Policy, rule
from curation.review import Verdict, share
from curation.screening import PAIRS, cache_of
from curation.stats.accuracy import wilson
from curation.workspace import Workspace
from training import engine
from training.embeddings import Embedder, asked
from training.run import Run, write_json

JUDGED, TABLE = "judged.parquet", "ablation.json"
_TOXIC = 0.5  # the score from which a response counts as toxic
_KEPT, _SWAPPED, _DROPPED = 0, 1, 2
_TURNED = {"opposite": "same", "same": "opposite"}
_OUTCOMES = {"kept": _KEPT, "swapped": _SWAPPED, "dropped": _DROPPED}


class Ablation(BaseModel):
    """What an ablation run is told. `filters` are those that have screened the dataset, in their order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    filters: tuple[str, ...]
    policy: Policy
    embeddings: str
    toxicity: str


class Step(NamedTuple):
    """One policy of the comparison."""

    kind: Literal["cumulative", "leave one out"]
    name: str
    policy: Policy


def steps(policy: Policy, filters: tuple[str, ...]) -> list[Step]:
    """The policies to compare. The last cumulative one, everything, is what each leave-one-out policy lacks a part of."""
    verdicts = policy.model_copy(update={"drop_unreviewed_filters": (), "flagged_unreviewed": "keep"})

    def dropping(some: tuple[str, ...], base: Policy = verdicts) -> Policy:
        return base.model_copy(update={"drop_unreviewed_filters": some})

    unheard = Policy.keep_everything()
    return [
        Step("cumulative", "nothing", unheard),
        Step("cumulative", "+ verdicts", verdicts),
        *(Step("cumulative", f"+ {name}", dropping(filters[: place + 1])) for place, name in enumerate(filters)),
        Step("leave one out", "without verdicts", dropping(filters, unheard)),
        *(Step("leave one out", f"without {one}", dropping(tuple(name for name in filters if name != one))) for one in filters),
    ]


def hand_over(workspace: Workspace, dataset: str, run: Run) -> None:
    """Write what the run reads: the pairs, and what was said of those that somebody judged or a filter flags."""
    workspace.pairs.export(dataset, run.input / PAIRS)
    pq.write_table(_judged(workspace, dataset), run.input / JUDGED)


def out_of_date(workspace: Workspace, dataset: str, run_id: str) -> bool:
    """Whether flags or verdicts have changed since this run was started."""
    return not pq.read_table(workspace.runs / run_id / "input" / JUDGED).equals(_judged(workspace, dataset))


def _judged(workspace: Workspace, dataset: str) -> pa.Table:
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for decision in workspace.verdicts.standing(dataset):
        votes[decision.pair_id][decision.verdict] += 1
    settled = {one.pair_id: one.verdict for one in workspace.verdicts.settlements(dataset)}
    flagged = workspace.releases.filters_of_pairs(dataset)
    rows = [
        (
            pair_id,
            json.dumps(votes[pair_id], sort_keys=True) if pair_id in votes else "{}",
            settled.get(pair_id),
            list(flagged.get(pair_id, ())),
        )
        for pair_id in sorted({*votes, *settled, *flagged})
    ]
    kinds = {"pair_id": pa.string(), "votes": pa.string(), "settled": pa.string(), "filters": pa.list_(pa.string())}
    columns = list(zip(*rows, strict=True)) or [()] * len(kinds)
    return pa.table([pa.array(column, kind) for column, kind in zip(columns, kinds.values(), strict=True)], names=list(kinds))


def latest(workspace: Workspace, dataset: str) -> dict[str, Any] | None:
    """The table of the dataset's latest finished ablation, with its `run`; None when there is none yet."""
    for file in sorted(workspace.runs.glob(f"*-ablation*/output/{TABLE}"), reverse=True):
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if found["dataset"] == dataset:
            return {**found, "run": file.parent.parent.name}
    return None


def in_words(found: Mapping[str, Any]) -> list[dict[str, str]]:
    """The table as people read it: one row a policy, each number with what it is over."""
    rows = []
    for step in found["steps"]:
        counts, shifts, left = step["rows"], step["shifts"], step["types_left"]
        reviewed = left["same"]["n"]
        noise = reviewed - left["same"]["count"]
        rows.append(
            {
                "policy": step["name"], "compared": step["kind"],
                "rows kept": f"{counts['kept']:,}", "swapped": f"{counts['swapped']:,}", "dropped": f"{counts['dropped']:,}",
                "noise left among the reviewed": share(noise, reviewed) if reviewed else "none yet",
                "words, chosen": _shifted(step["words"]["chosen"]["mean"], shifts["words_chosen"], "{:.1f}", "{:+.1f}"),
                "toxic, chosen": _in_percent(step["toxicity"]["share"]),
                "distinct prompts": f"{step['diversity']['prompts']:,}",
                "spread of prompts": _shifted(step["diversity"]["prompt_spread"], shifts["prompt_spread"], "{:.4f}", "{:+.4f}"),
                "spread of chosen": _shifted(step["diversity"]["chosen_spread"], shifts["chosen_spread"], "{:.4f}", "{:+.4f}"),
                "reward-model accuracy": "none yet",
            }
        )  # fmt: skip
    return rows


def _shifted(value: float | None, shift: float | None, plain: str, signed: str) -> str:
    if value is None or shift is None:
        return "undefined, because nothing is kept"
    return plain.format(value) + (f" ({signed.format(shift)})" if abs(shift) > 1e-9 else "")


def _in_percent(found: Mapping[str, Any]) -> str:
    if found["share"] is None:
        return "undefined, because nothing is kept"
    return f"{found['share']:.2%} [{found['low']:.2%}, {found['high']:.2%}]"


def ablate(run: Run) -> None:
    """The job: reads input/pairs.parquet and input/judged.parquet, writes output/ablation.json."""
    settings = Ablation.model_validate(run.config())
    facts = _facts(run, settings)
    judged = {one["pair_id"]: one for one in pq.read_table(run.input / JUDGED).to_pylist()}
    everything: dict[str, Any] | None = None
    rows = []
    for step in steps(settings.policy, settings.filters):
        found = {"kind": step.kind, "name": step.name, **_measure(facts, _outcomes(facts, judged, step.policy), judged)}
        everything = everything or found
        rows.append({**found, "shifts": _shifts(found, everything), "policy": step.policy.model_dump(mode="json")})
    read_by = {"toxicity": facts.toxicity_by, "embeddings": facts.embeddings_by}
    write_json(run.output / TABLE, {"dataset": settings.dataset, "read_by": read_by, "steps": rows})
    total = len(facts.ids)
    run.tell(total, total, "pairs", f"{len(rows)} policies compared")


class _Facts(NamedTuple):
    """What is measured of each distinct pair; sides are chosen, rejected."""

    ids: list[str]
    times: NDArray[np.int64]  # rows it stands in
    prompts: NDArray[np.int64]  # number of its prompt
    words: NDArray[np.int64]  # (pairs, 2)
    toxicity: NDArray[np.float32]  # (pairs, 2)
    asked: NDArray[np.float16]  # unit vectors
    sides: tuple[NDArray[np.float16], NDArray[np.float16]]
    toxicity_by: str
    embeddings_by: str


def _facts(run: Run, settings: Ablation) -> _Facts:
    pairs = run.input / PAIRS
    total = interchange.count(pairs)
    toxic_reader = toxicity.chosen(settings.toxicity)
    toxic = _filled(run, toxic_reader, _texts(pairs, prompts=False), total, "toxicity")
    meaning = _filled(run, Embedder(settings.embeddings), _texts(pairs, prompts=True), total, "embeddings")
    ids: list[str] = []
    times, prompts, words, toxicities, vectors = [], [], [], [], []
    numbers: dict[str, int] = {}
    for batch in interchange.batches(pairs):
        ids += [pair.pair_id for pair in batch]
        times += [len(pair.rows) for pair in batch]
        prompts += [numbers.setdefault(pair.prompt_id, len(numbers)) for pair in batch]
        words += [[len(text.split()) for _, text in pair.sides()] for pair in batch]
        sides = [pair.chosen.text for pair in batch], [pair.rejected.text for pair in batch]
        toxicities.append(np.stack([toxicity.level(toxic(side), toxic_reader.classes) for side in sides], axis=1))
        vectors.append([meaning(one).astype(np.float16) for one in ([asked(pair.prompt) for pair in batch], *sides)])
    prompt_vectors, chosen, rejected = (np.concatenate(part) for part in zip(*vectors, strict=True))
    return _Facts(
        ids, np.array(times), np.array(prompts), np.array(words), np.concatenate(toxicities), prompt_vectors,
        (chosen, rejected), toxic_reader.described, meaning.reader.described,
    )  # fmt: skip


def _texts(pairs: Path, *, prompts: bool) -> Iterator[str]:
    for batch in interchange.batches(pairs):
        for pair in batch:
            yield from (pair.chosen.text, pair.rejected.text)
            if prompts:
                yield asked(pair.prompt)


def _filled(run: Run, reader: Reader, texts: Iterator[str], total: int, words: str) -> Readings:
    readings = Readings(reader, cache_of(run))

    def tell(done: int, of: int) -> None:
        run.tell(min(int(total * done / of) if of else 0, total - 1), total, "pairs", f"{reader.described} reads, for {words}")

    readings.fill(texts, tell)
    return readings


def _outcomes(facts: _Facts, judged: Mapping[str, Mapping[str, Any]], policy: Policy) -> NDArray[np.int64]:
    """What becomes of each pair: 0 kept, 1 swapped, 2 dropped."""
    untouched = _OUTCOMES[rule(policy, Counter()).outcome]
    outcomes = np.full(len(facts.ids), untouched)
    for place, pair_id in enumerate(facts.ids):
        if found := judged.get(pair_id):
            votes = Counter(json.loads(found["votes"]))
            ruling = rule(policy, votes, settled=found["settled"], filters=tuple(found["filters"]))
            outcomes[place] = _OUTCOMES[ruling.outcome]
    return outcomes


def _measure(facts: _Facts, outcomes: NDArray[np.int64], judged: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The release these outcomes make: rows, what is left of each type, lengths, toxicity, diversity."""
    stays = outcomes != _DROPPED
    weights = facts.times * stays
    n = int(weights.sum())
    better = np.where(outcomes == _SWAPPED, 1, 0)  # the side that the release calls chosen
    rows = np.arange(len(outcomes))
    chosen = np.where(better[:, None] == 0, facts.sides[0], facts.sides[1])
    toxic = facts.toxicity[rows, better]
    return {
        "rows": {name: int(facts.times[outcomes == code].sum()) for name, code in _OUTCOMES.items()},
        "pairs": int(stays.sum()),
        "types_left": _types_left(facts, outcomes, judged),
        "words": {
            "chosen": _mean(facts.words[rows, better], weights), "rejected": _mean(facts.words[rows, 1 - better], weights)
        },
        "toxicity": {"mean": _mean(toxic, weights), "share": _share(int((weights * (toxic >= _TOXIC)).sum()), n)},
        "diversity": {
            "prompts": len(np.unique(facts.prompts[stays])),
            "prompt_spread": _spread(facts.asked, weights), "chosen_spread": _spread(chosen, weights),
        },
        "reward_model_accuracy": None,
    }  # fmt: skip


def _types_left(facts: _Facts, outcomes: NDArray[np.int64], judged: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Of the reviewed pairs that stay, how many are of each type as they are released, with the 95% interval of the share:
    a pair judged opposite whose label was swapped counts as same."""
    plain = Policy()
    found: Counter[str] = Counter()
    for place in np.flatnonzero(outcomes != _DROPPED):
        if said := judged.get(facts.ids[place]):
            ruling = rule(plain, Counter(json.loads(said["votes"])), settled=said["settled"])
            if ruling.basis in REVIEWED and ruling.verdict:
                turned = _TURNED.get(ruling.verdict, ruling.verdict) if outcomes[place] == _SWAPPED else ruling.verdict
                found[turned] += 1
    return {one.value: _share(found[one.value], found.total()) for one in Verdict}


def _share(count: int, n: int) -> dict[str, Any]:
    low, high = wilson(count, n) if n else (None, None)
    return {"count": count, "n": n, "share": count / n if n else None, "low": low, "high": high}


def _mean(values: NDArray[Any], weights: NDArray[np.int64]) -> dict[str, Any]:
    """Weighted mean with the 95% interval of a mean (normal approximation); None of nothing."""
    n = int(weights.sum())
    if not n:
        return {"mean": None, "n": 0, "low": None, "high": None}
    mean = float(np.average(values, weights=weights))
    error = 1.96 * (float(np.average((values - mean) ** 2, weights=weights)) / n) ** 0.5
    return {"mean": mean, "n": n, "low": mean - error, "high": mean + error}


def _spread(vectors: NDArray[np.float16], weights: NDArray[np.int64]) -> float | None:
    """Mean cosine distance of two rows drawn at random: 1 - |mean of the unit vectors|^2. None of nothing."""
    total, n = np.zeros(vectors.shape[1]), int(weights.sum())
    for start in range(0, len(vectors), 16_384):
        part = slice(start, start + 16_384)
        total += weights[part].astype(np.float32) @ vectors[part].astype(np.float32)
    return float(1 - np.sum((total / n) ** 2)) if n else None


def _shifts(found: Mapping[str, Any], nothing: Mapping[str, Any]) -> dict[str, float | None]:
    """How much the means differ from the dataset as it was."""
    pairs = {
        "words_chosen": (found["words"]["chosen"]["mean"], nothing["words"]["chosen"]["mean"]),
        "words_rejected": (found["words"]["rejected"]["mean"], nothing["words"]["rejected"]["mean"]),
        "toxicity": (found["toxicity"]["mean"]["mean"], nothing["toxicity"]["mean"]["mean"]),
        "prompt_spread": (found["diversity"]["prompt_spread"], nothing["diversity"]["prompt_spread"]),
        "chosen_spread": (found["diversity"]["chosen_spread"], nothing["diversity"]["chosen_spread"]),
    }
    return {name: None if one is None or base is None else one - base for name, (one, base) in pairs.items()}


if __name__ == "__main__":
    engine.main(ablate)
