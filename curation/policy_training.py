"""Runs that make policies, or responses of them: which prompts and pairs they are handed, which reward models, from where."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, create_model

from curation import held_out, policies, reward_models, reward_training
from curation.pairs import Turn
from curation.workspace import Workspace
from training import loading
from training.models import located
from training.policy_data import Prompt, Prompts, write_prompts
from training.policy_settings import (
    BestOfN,
    DirectPreference,
    Generating,
    Named,
    PolicySettings,
    Ppo,
    Rloo,
    SupervisedTuning,
)
from training.reward_data import PAIRS
from training.rewards.base import Message
from training.run import write_json
from training.settings import validated

_AT_ONCE = 5000
NO_PROMPT = "pairs without a prompt: their two sides begin differently"  # pairs that are left out


class Asked(BaseModel):
    """What every run of a policy is asked for: from what, on which prompts, scored by whom."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    policy: str = Field(min_length=1, description="the name of the policy that is made, and of the generator of its responses")
    base: str = Field(
        policies.BUILT_IN,
        min_length=1,
        description="what it starts from: a policy here, a folder, smollm2, or an id on the hub",
    )
    data: str = Field(
        min_length=1,
        description="whose prompts or pairs: DATASET, DATASET/SUBSET, release:NAME or release:NAME/SUBSET; several with commas",
    )
    prompts: str = Field(
        "", description="where the held-out prompts come from, named as data is; by default the same, of a release its dataset"
    )
    looked_at: int = Field(64, ge=0, description="held-out prompts that are answered, the same ones each time; 0: all")
    held_out: float = Field(0.1, ge=0, le=1, description="share of the conversations that are held out and never learned from")
    split_seed: int = Field(0, description="another number, another split")
    scored_by: str = Field(
        "",
        description="reward models that score the responses to held-out prompts, with commas; gold are those not optimised",
    )


class Learns(Asked):
    """The same of a run that trains a policy."""

    count: int = Field(0, ge=0, description="only so many prompts (or pairs) to learn from, the same ones each time; 0: all")


class LearnsByReward(Learns):
    """The same of one that may learn by a reward model."""

    reward_model: str = Field(
        "", description="with pairs=relabelled or pairs=sampled: the reward model that labels them, by its name in the registry"
    )


class Kind(NamedTuple):
    """A kind of run: what it is asked for, and what its process is told."""

    asked: type[Asked]
    told: type[PolicySettings]


def _asked(base: type[Asked], told: type[PolicySettings], **described: str) -> Kind:
    """A kind whose settings are asked for as they are told, but for those that are looked up here; `described` says what
    fields of `base` mean to this kind."""
    looked_up = {"data", "scored_by", "reward", "cell"} | ({"samples"} if told is BestOfN else set())  # its samples are n
    fields: dict[str, Any] = {
        name: (one.annotation, one)
        for name, one in told.model_fields.items()
        if name not in looked_up and name not in base.model_fields
    }
    for name, words in described.items():
        fields[name] = (base.model_fields[name].annotation, Field(min_length=1, description=words))
    return Kind(create_model(f"{told.__name__}Wanted", __base__=base, **fields), told)


_OPTIMISED = "the reward model that is optimised, by its name in the registry"
KINDS = {
    "generate": _asked(Asked, Generating),
    "sft": _asked(Learns, SupervisedTuning),
    "dpo": _asked(LearnsByReward, DirectPreference),
    "ppo": _asked(LearnsByReward, Ppo, reward_model=_OPTIMISED),
    "rloo": _asked(LearnsByReward, Rloo, reward_model=_OPTIMISED),
    "best-of-n": _asked(
        Asked, BestOfN, scored_by="reward models, with commas: the best response by each is picked, and scored by all of them"
    ),
}  # fmt: skip


def hand_over(
    kind: str, workspace: Workspace, wanted: Asked, folder: Path, *, reward: Named | None = None,
    scored_by: Sequence[Named] | None = None, cell: Mapping[str, Any] | None = None,
) -> PolicySettings:  # fmt: skip
    """Write the prompts and pairs into a run's input folder; returns the run's settings.

    `reward` and `scored_by` stand in for the names that are asked for, where another run trains these models first; `cell` is
    the run's place in a grid. Raises ValueError for data, models and names that are not there or do not fit.
    """
    policies.check_name(workspace, wanted.policy)
    base = policies.source_of(workspace, wanted.base)
    reward = reward or _optimised(workspace, wanted)
    scored_by = _scorers(workspace, wanted, reward) if scored_by is None else scored_by
    values = {name: value for name, value in wanted.model_dump().items() if name in KINDS[kind].told.model_fields}
    if reward is not None:
        values["reward"] = reward
    told = validated(KINDS[kind].told, {**values, "base": base, "scored_by": tuple(scored_by), "cell": dict(cell or {})})
    if isinstance(wanted, Learns):
        check_fits(told.base, told.max_prompt, told.max_tokens)
    _write_data(kind, workspace, wanted, told, folder)
    return told


def check_fits(base: str, max_prompt: int, max_tokens: int) -> None:
    """Raise ValueError where prompt and response are longer together than the model reads, as far as that is known here."""
    place = Path(located(base).place)
    if not (place / "config.json").is_file():
        return
    config = loading.read_config(place)
    config = {**config, **config.get("text_config", {})}
    longest = config.get("max_position_embeddings") or config.get("n_positions")
    if isinstance(longest, int) and 0 < longest < max_prompt + max_tokens:
        raise ValueError(
            f"max_prompt is {max_prompt:,} and max_tokens {max_tokens:,}: expected together at most the {longest:,} "
            "tokens the model reads"
        )


# ---- reward models


def named(workspace: Workspace, name: str) -> Named:
    """A reward model as a run is told it. Raises ValueError for one that is not registered, or that only compares."""
    model = reward_models.model_named(workspace, name)
    if model.compares:
        raise ValueError(f"{name} only compares two responses: expected a reward model that gives a response a score")
    settings = reward_models.opened_by(workspace, model).model_dump(mode="json")
    return Named(name=name, family=model.family, settings=settings, fingerprint=model.fingerprint)


def _optimised(workspace: Workspace, wanted: Asked) -> Named | None:
    name = wanted.reward_model if isinstance(wanted, LearnsByReward) else ""
    return named(workspace, name) if name else None


def _scorers(workspace: Workspace, wanted: Asked, reward: Named | None) -> list[Named]:
    """The one that is optimised first, then those that are asked for, each once."""
    names = dict.fromkeys(filter(None, map(str.strip, wanted.scored_by.split(","))))
    found = [] if reward is None else [reward]
    return found + [named(workspace, one) for one in names if reward is None or one != reward.name]


# ---- prompts and pairs


def _write_data(kind: str, workspace: Workspace, wanted: Asked, told: PolicySettings, folder: Path) -> None:
    by_pairs = kind == "sft" or (isinstance(told, DirectPreference) and told.pairs != "sampled")
    learns = isinstance(wanted, Learns)
    count = wanted.count if isinstance(wanted, Learns) else 0
    seen = _seen(workspace, wanted, told)
    split = held_out.chosen_prompts(
        workspace, wanted.data, held_out=wanted.held_out, split_seed=wanted.split_seed, count=count,
        looked_at=wanted.looked_at, seen=seen, prompts_from=wanted.prompts or held_out.behind(workspace, wanted.data),
    )  # fmt: skip
    train = split.train if learns and not by_pairs else []
    if learns and not by_pairs and not train:
        raise ValueError(f"{wanted.data!r} leaves no prompt to learn from: expected a smaller held_out or more data")
    if not learns and not split.held_out:
        raise ValueError("held_out is 0, so that there is nothing to answer: expected a share of the prompts, 1 for all")
    write_prompts(folder, Prompts(list(_prompts(train)), list(_prompts(split.held_out))))
    counts: dict[str, Any] = {"learned from": len(train), "held out": len(split.held_out), "left out": split.left_out}
    if by_pairs:
        written, without = _write_pairs(workspace, wanted, count, {one for one, _ in split.held_out}, folder / PAIRS)
        counts["learned from"] = written
        others = {why: many for why, many in split.left_out.items() if why != held_out.NO_ASKING}  # these are counted as pairs
        counts["left out"] = {**others, NO_PROMPT: without} if without else others
    releases = [release for _, release, _ in reward_training.parts(wanted.data) if release]
    write_json(folder / policies.SPLIT, {"data": wanted.data, "base": wanted.base, "releases": releases, **counts})


def _seen(workspace: Workspace, wanted: Asked, told: PolicySettings) -> set[str]:
    """The prompts that what it begins from, or a reward model that scores it, has learned from here."""
    known = {one.policy: one for one in workspace.policies.all()}
    begun = known.get(wanted.base) or policies.policy_at(workspace, told.base)
    seen = workspace.policies.learned(begun.policy) if begun else set()
    return seen.union(*(workspace.scores.trained_on(one.name) for one in told.scored_by))


def _prompts(some: Iterable[tuple[str, tuple[Turn, ...]]]) -> Iterator[Prompt]:
    for prompt_id, turns in some:  # text before the first marker has no role: it is taken for a system message
        yield Prompt(prompt_id, tuple(Message(one.role or "system", one.content) for one in turns))


def _write_pairs(workspace: Workspace, wanted: Asked, count: int, looked_at: set[str], file: Path) -> tuple[int, int]:
    """Write the pairs to learn from, and those of the held-out prompts, whose loss can be watched; returns how many to learn
    from, and how many pairs have no prompt."""
    chosen = reward_training.once(
        [one for part in reward_training.parts(wanted.data) for one in reward_training.chosen_of(workspace, *part, count=0)]
    )
    rows, without = _pair_rows(workspace, wanted, chosen, looked_at)
    train = sorted((row for row in rows if row["split"] == "train"), key=lambda row: str(row["pair_id"]))[: count or None]
    if not train:
        raise ValueError(f"{wanted.data!r} leaves no pair to learn from: expected a smaller held_out or more data")
    kept = {row["pair_id"] for row in train}
    rows = [row for row in rows if row["split"] != "train" or row["pair_id"] in kept]
    pq.write_table(pa.Table.from_pylist(rows, reward_training.SCHEMA), file, compression="zstd")
    return len(train), without


def _pair_rows(
    workspace: Workspace, wanted: Asked, chosen: Sequence[reward_training.Chosen], looked_at: set[str]
) -> tuple[list[dict[str, Any]], int]:
    rows, without = [], 0
    for start in range(0, len(chosen), _AT_ONCE):
        some = chosen[start : start + _AT_ONCE]
        for one, pair in zip(some, workspace.pairs.many([one.pair_id for one in some]), strict=True):
            if not pair.prompt:
                without += 1
                continue
            row = reward_training.row_of(one, pair, wanted)
            if row["split"] == "train" or pair.prompt_id in looked_at:
                rows.append(row)
    return rows, without


# ---- in words


def title(told: PolicySettings) -> str:
    """What a run is called in a list."""
    reward = getattr(told, "reward", None)
    by = f", by {reward.name}" if reward else ""
    return f"{told.policy}, from {_shown(told.base)}{by}"


def _shown(base: str) -> str:
    """A model by its name: of a folder that a run made, the run."""
    place = Path(base)
    if place.parts[-3:-2] == ("runs",):
        return place.parts[-2]
    return place.name if place.is_absolute() else base
