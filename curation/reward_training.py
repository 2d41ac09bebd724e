"""Training reward models: which pairs, split by conversation, with which margins; and the trained model registered. Ensembles
of them, whose members are trained first, are handed over and registered likewise."""

import json
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from curation import reward_models, scoring
from curation.pairs import Pair, Turn, parse
from curation.released import released
from curation.workspace import Workspace
from training import reward_ensemble
from training.policy_settings import Named
from training.reward import SUMMARY
from training.reward_data import HELD_OUT, PAIRS, TRAIN
from training.reward_ensemble import FAMILY, How, Joining
from training.reward_settings import HEAD, Training
from training.run import Run

_AT_ONCE = 5000
SCHEMA = pa.schema(
    [
        ("pair_id", pa.string()), ("split", pa.string()), ("subset", pa.string()), ("prompt", pa.string()),
        ("chosen", pa.string()), ("rejected", pa.string()), ("margin", pa.float64()),
    ]
)  # fmt: skip


class Wanted(Training):
    """What a training run is asked for: the data, and how to train."""

    data: str = Field(
        min_length=1,
        description="what it learns from: DATASET, DATASET/SUBSET, release:NAME or release:NAME/SUBSET; several with commas",
    )
    count: int = Field(0, ge=0, description="only so many pairs of each, the same ones each time; 0: all")
    held_out: float = Field(0.1, ge=0, le=0.9, description="share of the conversations it is tested on and never sees")
    split_seed: int = Field(0, description="another number, another split")
    margins: str = Field(
        "", description="where a pair's margin comes from: contested (how strongly its votes prefer the label), or none"
    )


class Joined(BaseModel):
    """What an ensemble is asked for; its members are named by whoever hands it over."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: str = Field(min_length=1, description="the name of the ensemble")
    how: How = Field(description="mean, worst (the lowest), or uncertainty (mean - weight x variance)")
    weight: float = Field(0.1, ge=0, description="with how=uncertainty: how much the members' variance takes off")
    data: str = Field(min_length=1, description="whose pairs its members' scales are measured on, named as for a training")
    count: int = Field(100, ge=2, description="pairs they are measured on, the held-out ones first")
    held_out: float = Field(0.1, ge=0, le=1, description="share of the conversations that are held out")
    split_seed: int = Field(0, description="another number, another split")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto: a GPU where there is one")


class Chosen(NamedTuple):
    """A pair on its way to a training run. `swapped` where a release turned its label round."""

    pair_id: str
    subset: str
    swapped: bool


def hand_over(workspace: Workspace, wanted: Wanted, folder: Path) -> Training:
    """Write the pairs into the folder; returns the run's settings. Raises ValueError for data that is not there."""
    reward_models.check_name(workspace, wanted.model)
    if wanted.base != HEAD:
        reward_models.check_source(wanted.base)
    chosen = once([one for part in parts(wanted.data) for one in chosen_of(workspace, *part, count=wanted.count)])
    margins = _margins(workspace, wanted)
    with pq.ParquetWriter(folder / PAIRS, SCHEMA, compression="zstd") as writer:
        counts = {"train": 0, "held out": 0}
        for rows in _rows(workspace, chosen, wanted, margins):
            writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
            for row in rows:
                counts[row["split"]] += 1
    if not counts["train"]:
        raise ValueError(f"{wanted.data!r} leaves no pair to train on: expected a smaller held_out or more data")
    return Training.model_validate(wanted.model_dump(include=set(Training.model_fields)))


def hand_over_joined(workspace: Workspace, wanted: Joined, members: Sequence[Named], folder: Path) -> Joining:
    """Write the texts that the members' scales are measured on into the folder; returns the run's settings. Raises ValueError
    for data that is not there."""
    reward_models.check_name(workspace, wanted.model)
    rows = _some(workspace, wanted)
    held_out = sum(row["split"] == HELD_OUT for row in rows)
    prompts = [row["prompt"] for row in rows for _ in range(2)]
    reward_ensemble.write_texts(folder, prompts, [row[side] for row in rows for side in ("chosen", "rejected")])
    words = f"{wanted.data}, {len(rows):,} pairs, {held_out:,} of them held out"
    return Joining(
        model=wanted.model, members=tuple(members), how=wanted.how, weight=wanted.weight, data=words, device=wanted.device
    )


def _some(workspace: Workspace, wanted: Joined) -> list[dict[str, Any]]:
    """As many pairs as are wanted, the same ones each time: those held out, and where they are fewer some of the others."""
    chosen = sorted(once([one for part in parts(wanted.data) for one in chosen_of(workspace, *part, count=0)]))
    held_out: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    for rows in _rows(workspace, chosen, wanted, {}):
        held_out += [row for row in rows if row["split"] == HELD_OUT]
        others = [*others, *(row for row in rows if row["split"] == TRAIN)][: wanted.count]
        if len(held_out) >= wanted.count:
            break
    return [*held_out, *others][: wanted.count]


def take_in(workspace: Workspace, run: Run) -> None:
    """Register the model a finished run trained, or the ensemble it made; a second time does nothing."""
    if run.run_id in workspace.scores.taken_in():
        return
    summary = json.loads((run.output / SUMMARY).read_text())
    if summary["family"] == FAMILY:
        _take_in_joined(workspace, run, summary)
        return
    settings = _beside(run, summary["settings"])
    reward_models.register(
        workspace, summary["model"], summary["family"], settings, "elephant", run_id=run.run_id,
        licence=summary.get("licence", ""), trained_on=_learned(run),
    )  # fmt: skip


def _take_in_joined(workspace: Workspace, run: Run, summary: dict[str, Any]) -> None:
    """Register an ensemble by its members' names, from whose training it has learned what they have.

    Raises ValueError where a name does not mean the member that it meant to the run.
    """
    known = {one.reward_model: one for one in workspace.scores.models()}
    for member in summary["members"]:
        name, trained, found = member["name"], member["run"], known.get(member["name"])
        if trained and (found is None or found.run_id != trained):
            raise ValueError(f"the reward model {name!r} that run {trained} trained is not in: resume that run first")
        if found is None or (not trained and found.fingerprint != member["fingerprint"]):
            raise ValueError(f"{name!r} is another reward model here than the one that is a member of {summary['model']!r}")
    settings = {**summary["settings"], "members": [one["name"] for one in summary["members"]]}
    reward_models.register(workspace, summary["model"], FAMILY, settings, "elephant", run_id=run.run_id)


def _learned(run: Run) -> list[str]:
    """The ids of the pairs it was trained on."""
    table = pq.read_table(run.input / PAIRS, columns=["pair_id", "split"]).to_pylist()
    return [one["pair_id"] for one in table if one["split"] == TRAIN]


def _beside(run: Run, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings in which the run's own folders are named from the workspace on."""
    return {
        name: f"runs/{run.run_id}/{value}" if isinstance(value, str) and value and (run.folder / value).is_dir() else value
        for name, value in settings.items()
    }


def parts(data: str) -> Iterator[tuple[str, str, str]]:
    """Dataset (or ""), release (or ""), subset, of each part named."""
    for one in filter(None, map(str.strip, data.split(","))):
        name, _, subset = one.partition("/")
        yield ("", name.removeprefix("release:"), subset) if name.startswith("release:") else (name, "", subset)


def chosen_of(workspace: Workspace, dataset: str, release: str, subset: str, *, count: int) -> list[Chosen]:
    """The pairs of one of these parts, each once. Raises ValueError where the workspace holds no such thing."""
    if release:
        known = {one.name: one.dataset for one in workspace.releases.all()}
        if release not in known:
            raise ValueError(f"no release {release!r}: there is {', '.join(known) or 'none yet'}")
        dataset = known[release]
    swapped = released(workspace, dataset, release).swapped
    pair_ids = scoring.chosen_pairs(workspace, dataset, release=release, subset=subset, count=count)
    rows = reversed(workspace.pairs.rows_in_order(dataset))
    subsets = {pair_id: one for _, pair_id, one, _ in rows if subset in ("", one)}
    return [Chosen(one, subsets[one], one in swapped) for one in pair_ids]


def once(chosen: list[Chosen]) -> list[Chosen]:
    """Each pair as the first part holds it. Raises ValueError where another part holds its label turned round."""
    found: dict[str, Chosen] = {}
    for one in chosen:
        if found.setdefault(one.pair_id, one).swapped != one.swapped:
            raise ValueError(
                f"pair {one.pair_id} is in the data with its label and with its label turned round: expected a release or its "
                "dataset, not both"
            )
    return list(found.values())


def _margins(workspace: Workspace, wanted: Wanted) -> dict[str, float]:
    """Each pair's margin, from its label's side."""
    if wanted.margins in ("", "none"):
        return {}
    if wanted.margins != "contested":
        raise ValueError(f"margins is {wanted.margins!r}: expected contested or none")
    found: dict[str, float] = {}
    for dataset, release, _ in parts(wanted.data):
        name = dataset or next(one.dataset for one in workspace.releases.all() if one.name == release)
        found |= {pair_id: json.loads(detail)["mean"] for pair_id, detail in workspace.flags.details(name, "contested")}
    if not found:
        raise ValueError("margins=contested needs that filter's votes: elephant screen DATASET --filter contested")
    return found


def _rows(
    workspace: Workspace, chosen: list[Chosen], wanted: "Splits", margins: dict[str, float]
) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(chosen), _AT_ONCE):
        some = chosen[start : start + _AT_ONCE]
        pairs = {one.pair_id: one for one in workspace.pairs.many([one.pair_id for one in some])}
        yield [row_of(one, pairs[one.pair_id], wanted, margins.get(one.pair_id)) for one in some]


class Splits(Protocol):
    """What decides which side a pair is on."""

    @property
    def held_out(self) -> float: ...
    @property
    def split_seed(self) -> int: ...


def row_of(one: Chosen, pair: Pair, wanted: Splits, margin: float | None = None) -> dict[str, Any]:
    """A pair as a row of a run's pairs.parquet, under the label its release gave it; the margin is from the pair's own side."""
    labelled = pair.swapped() if one.swapped else pair
    if margin is not None and one.swapped:
        margin = -margin
    sides = [scoring.spoken(side.lead, side.text) for side in (labelled.chosen, labelled.rejected)]
    return {
        "pair_id": one.pair_id, "split": split_of(pair, wanted.held_out, wanted.split_seed), "subset": one.subset,
        "prompt": scoring.conversation(pair.prompt), "chosen": sides[0], "rejected": sides[1], "margin": margin,
    }  # fmt: skip


def split_of(pair: Pair, held_out: float, seed: int) -> str:
    """ "train" or "held out". Pairs whose conversations begin with the same human turn are on one side: so no prompt, and
    no longer version of it, is in both. Hashes decide, so a pair's side depends on no other pair."""
    turns = (*pair.prompt, *parse(pair.chosen.lead + pair.chosen.text))  # sides without a common beginning have no prompt
    return split_of_turns(turns, held_out, seed, otherwise=pair.prompt_id if pair.prompt else pair.pair_id)


def split_of_turns(turns: Sequence[Turn], held_out: float, seed: int, *, otherwise: str = "") -> str:
    """ "train" or "held out", by the first human turn, or by `otherwise` where there is none."""
    begins = next((one.content for one in turns if one.role == "user"), otherwise)
    digest = blake2b(f"{seed}\n{begins}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return "held out" if int.from_bytes(digest) < held_out * 2**64 else "train"
