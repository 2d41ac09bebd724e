"""Which jobs a grid of alignment comes to.

{reward models, and ensembles of them} x {algorithms} x {data} x {seeds}; a cell in which one of them makes no difference is
made once. Whatever is trained (starts, reward models, policies) is trained anew for each seed: seeds are replicates of the
whole. An ensemble of the reward models of one data and seed is one more of what is trained there.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from curation import policy_training, reward_training
from curation.alignment_settings import ALGORITHMS, TRAINED, Alignment, listed
from training.reward_settings import HEAD
from training.settings import validated

_NEEDS_NO_REWARD = "dpo-labels"
_JOINED = f"{TRAINED}ensemble-"  # before how it is joined: an ensemble, as if it were trained from a base of this name
_APART = 1_000_003  # between the seeds of one recipe's members: those of another seed of the grid are other seeds
_BESIDE = {"sft", "reward", "ensemble"}  # what settings can be set for besides algorithms


class Job(NamedTuple):
    """A run of the grid: what it makes, and which jobs it comes after, by the names of what these make.

    `reward` is the reward model it optimises, `scored_by` all that score what it answers, or the members of the ensemble it
    makes; `start` the job that makes its base.
    """

    name: str
    kind: str
    asked: BaseModel
    cell: dict[str, Any]
    start: str = ""
    reward: str = ""
    scored_by: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


class Jobs(NamedTuple):
    """All jobs of a grid in the order they are run, and what is to be known of them."""

    jobs: tuple[Job, ...]
    notes: tuple[str, ...]


def jobs_of(told: Alignment, behind: str) -> Jobs:
    """The jobs a grid comes to. `behind` is all its data as held-out prompts are drawn from it.

    Raises ValueError for what does not go together, and for names that would be the same or too long.
    """
    grid = _Grid(told, behind)
    jobs = tuple(grid.jobs())
    names = [one.name for one in jobs]
    twice = next((one for one in names if names.count(one) > 1), None)
    if twice:
        raise ValueError(f"two jobs would make {twice!r}: expected reward models and data that can be told apart by name")
    return Jobs(jobs, tuple(grid.notes(jobs)))


class _Grid:
    """The axes of a grid."""

    def __init__(self, told: Alignment, behind: str) -> None:
        self._told, self._behind = told, behind
        self._models, self._algorithms = listed(told.reward_models), listed(told.algorithms)
        self._ensembles = tuple(_JOINED + how for how in listed(told.ensembles))
        self._optimised = (*self._models, *self._ensembles)
        self._data, self._gold = listed(told.data), listed(told.gold)
        self._seeds = tuple(dict.fromkeys(map(int, listed(told.seeds))))
        self._short = _told_apart(self._data)
        for given, what in ((self._algorithms, "algorithms"), (self._data, "data"), (self._seeds, "seeds")):
            if not given:
                raise ValueError(f"{what} is empty: expected one or more, with commas")
        if not self._models and set(self._algorithms) != {_NEEDS_NO_REWARD}:
            raise ValueError("reward_models is empty: expected names of the registry, or train:BASE, with commas")
        both = next((one for one in self._gold if one in self._models), None)
        if both:
            raise ValueError(f"{both} is optimised and gold: expected gold reward models that nothing here optimises")
        if any(one.removeprefix(TRAINED) == "" for one in self._models):
            raise ValueError(f"reward_models has {TRAINED!r} without a base: expected train:BASE, as {TRAINED}{HEAD}")
        later = next((one for one in self._gold if one.startswith(TRAINED)), None)
        if later:
            raise ValueError(f"{later} is gold: expected names of the registry, what the grid trains is optimised")
        if ":" in told.device:
            raise ValueError(
                f"device is {told.device}: expected auto, cpu or cuda, a grid shares its jobs out over the GPUs; "
                "CUDA_VISIBLE_DEVICES says which these are"
            )
        self._check_ensembles()
        unknown = next((one for one in told.set if one not in {*ALGORITHMS, *_BESIDE}), None)
        if unknown:
            raise ValueError(f"set names {unknown!r}: expected some of {', '.join(sorted({*ALGORITHMS, *_BESIDE}))}")
        made = self._made()
        idle = next((one for one in told.set if told.set[one] and one not in made), None)
        if idle:
            raise ValueError(f"set names {idle!r}, which this grid has not: expected some of {', '.join(sorted(made))}")

    def jobs(self) -> Iterator[Job]:
        """Each seed in turn: what is trained first, then the policies."""
        for seed in self._seeds:
            for recipe in (one for one in self._models if one.startswith(TRAINED)):
                for data in self._data:
                    if self._is_seeded(recipe) or seed == self._seeds[0]:
                        yield from self._rewards(recipe, data, seed)
            for ensemble in self._ensembles:
                for data in self._data:
                    if self._is_seeded(ensemble) or seed == self._seeds[0]:
                        yield self._ensemble(ensemble, data, seed)
            if self._told.sft:
                yield from (self._start(data, seed) for data in self._data)
            for algorithm in self._algorithms:
                if algorithm == "best-of-n":
                    yield from self._picks(seed)
                    continue
                for data in self._data:
                    for model in self._optimised if algorithm != _NEEDS_NO_REWARD else ("",):
                        yield self._policy(algorithm, model, data, seed)

    def notes(self, jobs: tuple[Job, ...]) -> Iterator[str]:
        """What was made once for several cells, and what is missing."""
        cells = len(self._optimised or ("",)) * len(self._algorithms) * len(self._data) * len(self._seeds)
        policies = sum(one.kind not in ("reward", "sft") for one in jobs)
        yield f"{cells:,} cells, made by {policies:,} runs of policies and {len(jobs) - policies:,} that train what these need"
        if "best-of-n" in self._algorithms and len(self._optimised) * len(self._data) > 1:
            per = "start and seed" if self._told.sft else "seed"
            yield f"best-of-n is sampled once a {per}: all reward models pick from the same samples"
        if _NEEDS_NO_REWARD in self._algorithms and len(self._optimised) > 1:
            yield "dpo-labels does not depend on the reward model: it is made once for all of them"
        if f"{TRAINED}{HEAD}" in self._models and len(self._seeds) > 1:
            yield f"{HEAD} does not depend on the seed: it is trained once on each data; all else is trained anew for each seed"
        if self._ensembles:
            hows = ", ".join(one.removeprefix(_JOINED) for one in self._ensembles)
            members = len(self._members(self._data[0], self._seeds[0]))
            yield f"ensembles ({hows}) of {members:,} reward models: each one's scores are centred and scaled"
        if not self._gold:
            yield "no gold reward model: what comes of it is judged by what was optimised alone"
        if len(self._seeds) < 3:
            yield f"{len(self._seeds)} of the 3 seeds that tell chance from effect: intervals are of prompts alone"

    def _made(self) -> set[str]:
        """What settings can be set for here: the algorithms and their kinds, and what is trained before them."""
        first = {"sft"} if self._told.sft else set()
        if any(one.startswith(TRAINED) for one in self._models):
            first.add("reward")
        if self._ensembles:
            first.add("ensemble")
        return first.union(*({one, ALGORITHMS[one][0]} for one in self._algorithms))

    # ---- jobs

    def _rewards(self, recipe: str, data: str, seed: int) -> Iterator[Job]:
        """The reward model of this recipe, and those beside it that are members of the ensembles alone."""
        for number, name in enumerate(self._names(recipe, data, seed)):
            asked = self._validated(
                reward_training.Wanted, ("reward",), model=name, base=recipe.removeprefix(TRAINED), data=_joined(data),
                held_out=self._told.held_out, split_seed=self._told.split_seed, seed=(seed + number * _APART) % 2**32,
                precision=self._told.precision,
            )  # fmt: skip
            yield Job(name, "reward", asked, self._cell("reward", name, recipe, data, seed))

    def _ensemble(self, ensemble: str, data: str, seed: int) -> Job:
        name, told = self._model_name(ensemble, data, seed), self._told
        asked = self._validated(
            reward_training.Joined, ("ensemble",), model=name, how=ensemble.removeprefix(_JOINED), data=_joined(data),
            held_out=told.held_out, split_seed=told.split_seed, device=told.device,
        )  # fmt: skip
        members = self._members(data, seed)
        after = tuple(one for one in members if one not in self._models)
        cell = self._cell("reward", name, ensemble, data, seed)
        return Job(name, "reward", asked, cell, scored_by=members, after=after)

    def _start(self, data: str, seed: int) -> Job:
        name = self._name("sft", self._short[data], f"s{seed}")
        asked = self._asked("sft", ("sft",), policy=name, data=data, seed=seed, scored_by=",".join(self._gold))
        return Job(name, "sft", asked, self._cell("sft", "", "", data, seed), scored_by=self._gold)

    def _policy(self, algorithm: str, model: str, data: str, seed: int) -> Job:
        kind, own = ALGORITHMS[algorithm]
        reward = self._model_name(model, data, seed) if model else ""
        name = self._name(algorithm, *([_short(model)] if model else []), self._short[data], f"s{seed}")
        start = self._name("sft", self._short[data], f"s{seed}") if self._told.sft else ""
        scored_by = tuple(filter(None, (reward, *self._gold)))
        more = {"scored_by": ",".join(scored_by), **({"reward_model": reward} if reward else {})}
        asked = self._asked(kind, tuple(dict.fromkeys((kind, algorithm))), policy=name, data=data, seed=seed, **own, **more)
        cell = self._cell(algorithm, reward, model if model.startswith(TRAINED) else "", data, seed)
        return Job(name, kind, asked, cell, start, reward, scored_by, self._needs(start, [model], [data], seed))

    def _picks(self, seed: int) -> Iterator[Job]:
        """Best-of-n: one sampling for all data, or for each where the starts differ."""
        for data in self._data if self._told.sft else ("",):
            start = self._name("sft", self._short[data], f"s{seed}") if data else ""
            name = self._name("best-of-n", *([self._short[data]] if data else []), f"s{seed}")
            some = [data] if data else list(self._data)
            picked = {
                self._model_name(model, one, seed): {
                    "recipe": model if model.startswith(TRAINED) else "",
                    "data": one if model.startswith(TRAINED) or data else "",
                }
                for model in self._optimised
                for one in some
            }
            scored_by = (*picked, *self._gold)
            asked = self._asked(
                "best-of-n", ("best-of-n",), policy=name, data=data or "+".join(self._data), seed=seed,
                scored_by=",".join(scored_by),
            )  # fmt: skip
            cell = {**self._cell("best-of-n", "", "", data, seed), "picked": picked}
            after = self._needs(start, self._optimised, some, seed)
            yield Job(name, "best-of-n", asked, cell, start, "", scored_by, after)

    def _needs(self, start: str, models: Any, data: Any, seed: int) -> tuple[str, ...]:
        trained = [self._model_name(one, each, seed) for one in models if one.startswith(TRAINED) for each in data]
        return tuple(filter(None, (start, *trained)))

    # ---- settings and names

    def _asked(self, kind: str, more: tuple[str, ...], *, data: str, **own: Any) -> BaseModel:
        """A job's settings: the grid's, where this kind has them, then its own, then those that were set for it."""
        asked = policy_training.KINDS[kind].asked
        common = {name: value for name, value in self._told.model_dump().items() if name in asked.model_fields}
        common["look_every"] = self._told.look_every or -(-self._told.max_steps // 4)
        common = {name: value for name, value in common.items() if name in asked.model_fields}
        return self._validated(asked, more, **{**common, "data": _joined(data), "prompts": self._behind, **own})

    def _validated(self, kind: type[BaseModel], more: tuple[str, ...], **values: Any) -> BaseModel:
        fixed = {
            "policy",
            "model",
            "base",
            "data",
            "prompts",
            "seed",
            "held_out",
            "split_seed",
            "looked_at",
            "reward_model",
            "how",
            "pairs",
            "scored_by",
        }
        for one in more:
            settled = next((name for name in self._told.set.get(one, {}) if name in fixed), None)
            if settled:
                raise ValueError(
                    f"set gives {one} its own {settled}: expected the grid's, without which cells cannot be compared"
                )
            values |= self._told.set.get(one, {})
        return validated(kind, values, of=f"set {more[-1]}" if any(one in self._told.set for one in more) else "")

    def _cell(self, algorithm: str, reward: str, recipe: str, data: str, seed: int) -> dict[str, Any]:
        return {
            "alignment": self._told.name, "algorithm": algorithm, "reward_model": reward,
            "recipe": recipe if recipe.startswith(TRAINED) else "", "data": data, "seed": seed,
        }  # fmt: skip

    def _is_seeded(self, recipe: str) -> bool:
        """Whether another seed makes another one: a head is fitted to the one best solution whatever the seed, and an ensemble
        is what its members are."""
        if recipe in self._ensembles:
            return any(self._is_seeded(one) for one in self._models if one.startswith(TRAINED))
        return recipe != f"{TRAINED}{HEAD}"

    def _names(self, model: str, data: str, seed: int) -> tuple[str, ...]:
        """The reward model itself, and what is trained beside it for the ensembles."""
        name = self._model_name(model, data, seed)
        more = self._told.members if model.startswith(TRAINED) and self._is_seeded(model) else 1
        return (name, *(f"{name}-member{number}" for number in range(2, more + 1)))

    def _members(self, data: str, seed: int) -> tuple[str, ...]:
        return tuple(name for model in self._models for name in self._names(model, data, seed))

    def _check_ensembles(self) -> None:
        """Raise ValueError for ensembles of fewer than two, and for members of none."""
        told = self._told
        members = len(self._members(self._data[0], self._seeds[0]))
        if self._ensembles and members < 2:
            raise ValueError(
                f"ensembles is {told.ensembles!r} with {members:,} reward model to join: expected two or more in "
                f"reward_models, or members=2 or more of a {TRAINED}BASE, but {HEAD} is the same with every seed"
            )
        if told.members > 1 and (not self._ensembles or members == len(self._models)):
            raise ValueError(
                f"members is {told.members:,}: expected it with ensembles, and with a {TRAINED}BASE in reward_models that is "
                f"not {HEAD}, which is the same with every seed"
            )

    def _model_name(self, model: str, data: str, seed: int) -> str:
        if not model.startswith(TRAINED):
            return model
        return self._name(_short(model), self._short[data], *([f"s{seed}"] if self._is_seeded(model) else []))

    def _name(self, *parts: str) -> str:
        return "-".join((self._told.name, *parts))


def _joined(data: str) -> str:
    """Data as runs are asked for it."""
    return ",".join(filter(None, map(str.strip, data.split("+"))))


def _short(model: str) -> str:
    """A reward model, as part of a name."""
    return _safe(model.removeprefix(TRAINED).rstrip("/").rpartition("/")[2])


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")


def _told_apart(data: tuple[str, ...]) -> Mapping[str, str]:
    """Each of the data as part of a name; a release by its own name where no other bears it."""
    short = {one: _safe(one.replace("release:", "")) for one in data}
    twice = {one for one in short.values() if list(short.values()).count(one) > 1}
    return {one: _safe(one) if name in twice else name for one, name in short.items()}
