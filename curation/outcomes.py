"""What came out of alignment: who answered the held-out prompts, how far each moved from its start, and what reward models
say of that: those that were optimised, and those that were held out.

Everything is paired by prompt. A reward model's score is given in standard deviations of its scores of the start's own
responses, so that several fit one axis; 0 is the start. Prompts from which a policy or the reward model learned are left out.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from curation import benchmark, reward_models
from curation.stats import best_of_n, preference_accuracy
from curation.stats.accuracy import Numbers
from curation.stats.figures import Figure
from curation.store.policies import Generation, Generator, Policy
from curation.store.scores import RewardModel
from curation.workspace import Workspace

T = TypeVar("T")
BEST_OF_N, LABELS = "best-of-n", "the labels"
TRAINED, RELEASE = "train:", "release:"  # before what a grid trains a reward model from, and before a release's name
NO_SPREAD = "all responses of the start score the same"


class Made(NamedTuple):
    """Who wrote responses to held-out prompts, and how it was made.

    `optimised` is the reward model it was made to please, "" where there was none; `recipe` how a grid trained that one
    (train:BASE), "" for one that was there before; `data` is "" where a grid made it once for all its data, and `cleaned` says
    whether a release is among them. `aside` are picks by a reward model that its grid does not optimise, a gold one: what best
    of n could be by it, and no cell of the grid.
    """

    generator: str
    policy: str
    kind: str
    algorithm: str
    optimised: str
    alignment: str
    recipe: str
    data: str
    cleaned: bool
    aside: bool
    seed: int
    points: tuple[int, ...]
    prompts: int
    responses: int

    @property
    def pleases(self) -> str:
        """What it was made to please, alike for all seeds: a reward model, a way of training one, or the labels."""
        return self.recipe.removeprefix(TRAINED) or self.optimised or LABELS

    @property
    def start(self) -> int:
        """The point at which it answered as its start does."""
        return self.points[0]

    @property
    def last(self) -> int:
        """The point it ended at."""
        return self.points[-1]

    @property
    def moved(self) -> bool:
        """Whether it was looked at anywhere but at its start."""
        return len(self.points) > 1


def made(workspace: Workspace) -> dict[str, Made]:
    """Every generator with responses, by name; those of one grid together, in the order they were made."""
    return kept(workspace, ("made",), lambda: _made(workspace))


def _made(workspace: Workspace) -> dict[str, Made]:
    policies = {one.policy: (place, one) for place, one in enumerate(workspace.policies.all())}
    found = []
    for one in workspace.policies.generators():
        if one.policy in policies:
            place, policy = policies[one.policy]
            told = _told(one, policy)
            found.append((told.alignment, place, told))
    return {one.generator: one for _, _, one in sorted(found, key=lambda row: (row[0], row[1], row[2].generator))}


def _told(one: Generator, policy: Policy) -> Made:
    """What a policy's lineage says of it; of best-of-n, of the reward model that picked."""
    lineage: dict[str, Any] = json.loads(policy.lineage or "{}")
    cell = lineage.get("cell") or {}
    picked_by = one.generator.removeprefix(one.policy).removeprefix("/")
    of_grid = cell.get("picked", {})
    place = {**cell, **of_grid.get(picked_by, {})}
    optimised = picked_by or (lineage.get("reward_model") or {}).get("name") or cell.get("reward_model") or ""
    alignment, data = str(cell.get("alignment", "")), str(place.get("data", lineage.get("data") or ""))
    return Made(
        one.generator, one.policy, policy.kind, str(cell.get("algorithm") or policy.kind), str(optimised), alignment,
        str(place.get("recipe", "")), data, RELEASE in data or (not alignment and bool(lineage.get("releases"))),
        bool(of_grid) and picked_by not in of_grid, int(cell.get("seed", lineage.get("seed") or 0)),
        one.points, one.prompts, one.responses,
    )  # fmt: skip


def named(workspace: Workspace, generator: str) -> Made:
    """The generator of this name. Raises ValueError that lists the names there are."""
    known = made(workspace)
    if generator not in known:
        raise ValueError(f"no responses of {generator!r}: there are some of {', '.join(known) or 'none yet'}")
    return known[generator]


def kept(workspace: Workspace, key: tuple[Any, ...], make: Callable[[], T]) -> T:
    """Made when it is first asked for, and again when scores, or policies with what they answered, came in: then all that was
    kept till then is dropped."""
    stamp = workspace.scores.generation
    since, held = workspace.held.get("outcomes", (None, {}))
    if since != stamp:
        held = {}
        workspace.held["outcomes"] = stamp, held
    if key not in held:
        held[key] = make()
    found: T = held[key]
    return found


def answers(workspace: Workspace, generator: str) -> list[Generation]:
    """What a generator answered, by point, prompt and sample."""
    return kept(workspace, ("answers", generator), lambda: workspace.policies.generations(generator))


def scores_by(workspace: Workspace, model: str) -> dict[str, float]:
    """Every score of a reward model, by response id."""
    return kept(workspace, ("scores", model), lambda: workspace.scores.scores(model))


def scorers(workspace: Workspace, generator: str) -> list[str]:
    """The reward models that have scored any response of a generator, by name."""
    return kept(workspace, ("scorers", generator), lambda: _scorers(workspace, generator))


def _scorers(workspace: Workspace, generator: str) -> list[str]:
    ids = {one.response_id for one in answers(workspace, generator)}
    names = sorted(one.reward_model for one in workspace.scores.models() if not one.compares)
    return [name for name in names if not ids.isdisjoint(scores_by(workspace, name))]


def learned(workspace: Workspace, one: Made, model: str = "") -> set[str]:
    """The prompts that a generator's policy, or this reward model, learned from."""
    of_policy = kept(workspace, ("learned", one.policy), lambda: workspace.policies.learned(one.policy))
    of_model = kept(workspace, ("trained on", model), lambda: workspace.scores.trained_on(model)) if model else set()
    return of_policy | of_model


# ---- who may judge


class Standing(NamedTuple):
    """What a reward model is to a generator: `gold` where it was held out from its optimisation; `why` says why it is not, or
    what to know of it."""

    model: str
    optimised: bool
    gold: bool
    why: str


def standing(workspace: Workspace, one: Made, model: str) -> Standing:
    """Whether a reward model may judge a generator as gold. It may not where it is what was optimised, has the same weights,
    or one of the two is a member of the other, or has a member that the other has too."""
    if not one.optimised:
        return Standing(model, False, True, "")
    if model == one.optimised:
        return Standing(model, True, False, "it is the reward model that was optimised")
    known = kept(workspace, ("models",), lambda: {each.reward_model: each for each in reward_models.all_models(workspace)})
    judge, proxy = known.get(model), known.get(one.optimised)
    if judge is None or proxy is None:
        return Standing(model, False, True, "")
    if judge.fingerprint and judge.fingerprint == proxy.fingerprint:
        return Standing(model, False, False, f"it has the weights of {one.optimised}, which was optimised")
    if judge.family == proxy.family == reward_models.LENGTH:
        return Standing(model, False, False, f"it is {one.optimised} by another name, which was optimised")
    if _is_member(judge, proxy):
        return Standing(model, False, False, f"it is a member of {one.optimised}, which was optimised")
    if _is_member(proxy, judge):
        return Standing(model, False, False, f"{one.optimised}, which was optimised, is a member of it")
    if any(each in _members(proxy) for each in _members(judge)):
        return Standing(model, False, False, f"it shares members with {one.optimised}, which was optimised")
    return Standing(model, False, True, "")


def _is_member(one: RewardModel, of: RewardModel) -> bool:
    return {"family": one.family, **json.loads(one.settings)} in _members(of)


def _members(ensemble: RewardModel) -> list[dict[str, Any]]:
    return json.loads(ensemble.settings).get("members") or []


def judges(workspace: Workspace, generators: Iterable[Made]) -> dict[str, dict[str, Standing]]:
    """Of each reward model that scored responses of any of these, its standing to each generator that it scored, by name."""
    found: dict[str, dict[str, Standing]] = {}
    for one in generators:
        for model in scorers(workspace, one.generator):
            found.setdefault(model, {})[one.generator] = standing(workspace, one, model)
    return dict(sorted(found.items()))


# ---- what they say of a generator


@dataclass(frozen=True)
class Looked:
    """A generator's responses to held-out prompts, the samples to a prompt averaged: all (points, prompts), NaN where there
    is nothing. `rewards` are in standard deviations of the start's responses, `kl` log ratios in nats a response; `raw` is
    what 0 and 1 stand for on the model's own scale, None where the start's scores do not differ."""

    made: Made
    model: str
    points: tuple[int, ...]
    prompts: tuple[str, ...]
    rewards: Numbers
    kl: Numbers
    raw: tuple[float, float] | None
    learned: int  # prompts left out, since the model or the policy learned from them
    missing: int  # prompts not scored at every point

    def gain(self, point: int) -> Numbers:
        """(prompts,): the reward at a point less that at the start."""
        return np.asarray(self.rewards[self.points.index(point)] - self.rewards[0])


def looked(workspace: Workspace, generator: str, model: str) -> Looked:
    """What a reward model says of a generator at all its points, over the prompts it has scored at every one of them."""
    return kept(workspace, ("looked", generator, model), lambda: _looked(workspace, named(workspace, generator), model))


def _looked(workspace: Workspace, one: Made, model: str) -> Looked:
    scores, seen = scores_by(workspace, model), learned(workspace, one, model)
    rows = [each for each in answers(workspace, one.generator) if each.response_id in scores]
    asked = sorted({each.prompt_id for each in rows})
    column = {prompt: place for place, prompt in enumerate(prompt for prompt in asked if prompt not in seen)}
    row = {point: place for place, point in enumerate(one.points)}
    rows = [each for each in rows if each.prompt_id in column]
    places = tuple(
        np.array(some, np.int64) for some in ([row[each.point] for each in rows], [column[each.prompt_id] for each in rows])
    )
    told = np.array([scores[each.response_id] for each in rows], np.float64)
    ratios = np.array([np.nan if each.log_ratio is None else each.log_ratio for each in rows], np.float64)
    shape = (len(row), len(column))
    rewards, kl = _means(places, told, shape), _means(places, ratios, shape)
    whole = np.asarray(~np.isnan(rewards).any(axis=0))
    raw = _spread(told[(places[0] == 0) & whole[places[1]]])
    rewards = np.full(shape, np.nan) if raw is None else (rewards - raw[0]) / raw[1]
    return Looked(
        one, model, one.points, tuple(prompt for prompt, place in column.items() if whole[place]), rewards[:, whole],
        kl[:, whole], raw, len(asked) - len(column), int((~whole).sum()),
    )  # fmt: skip


def _spread(scores: Numbers) -> tuple[float, float] | None:
    """Mean and standard deviation; None where they do not differ."""
    if len(scores) < 2 or np.ptp(scores) <= 1e-12 * max(1.0, float(np.abs(scores).max())):
        return None
    return float(scores.mean()), float(scores.std(ddof=1))


def _means(places: tuple[NDArray[np.int64], ...], values: Numbers, shape: tuple[int, int]) -> Numbers:
    """The mean of the values at each place, NaN where there is none, or where one of them is NaN."""
    flat = places[0] * shape[1] + places[1]
    sums = np.bincount(flat, values, minlength=shape[0] * shape[1])
    counts = np.bincount(flat, minlength=shape[0] * shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(counts > 0, sums / counts, np.nan)).reshape(shape)


def mean_over_prompts(values: Numbers, undefined: str = "") -> Figure:
    """The mean of one value a prompt, NaN where a prompt has none, with a bootstrap interval over prompts."""
    return preference_accuracy.mean(values[~np.isnan(values)], benchmark.rng(), "prompts", undefined or _NOTHING)


_NOTHING = "no held-out prompt was scored at every point"


def score_of(workspace: Workspace, model: str, response_id: str) -> float | None:
    """What a reward model gave a response; None where it has not scored it."""
    return scores_by(workspace, model).get(response_id)


# ---- the end against the start, prompt by prompt


def credits(workspace: Workspace, generator: str, model: str) -> dict[str, float]:
    """By prompt, the share of pairs of a response at the end and one of the start in which the first scores higher, a tie one
    half; over the prompts that `looked` keeps."""
    return kept(workspace, ("credits", generator, model), lambda: _credits(workspace, named(workspace, generator), model))


def _credits(workspace: Workspace, one: Made, model: str) -> dict[str, float]:
    if not one.moved:
        return {}
    scores, sides = scores_by(workspace, model), {one.start: dict[str, list[float]](), one.last: dict[str, list[float]]()}
    for each in answers(workspace, one.generator):
        if each.point in sides and each.response_id in scores:
            sides[each.point].setdefault(each.prompt_id, []).append(scores[each.response_id])
    return {
        prompt: float(((np.sign(np.subtract.outer(sides[one.last][prompt], sides[one.start][prompt])) + 1) / 2).mean())
        for prompt in looked(workspace, one.generator, model).prompts
    }


def distances(of: Looked) -> Numbers:
    """sqrt(KL) of each point, (points,), KL in nats a response: the mean log ratio over prompts, at least 0; of best-of-n the
    root of its upper bound. NaN where it was not measured; the start is at 0 in any case."""
    return np.sqrt(np.maximum(divergences(of), 0.0))


def divergences(of: Looked) -> Numbers:
    """KL of each point, (points,): see `distances`."""
    if of.made.kind == BEST_OF_N:
        return best_of_n.kl_bound(np.maximum(of.points, 1))
    with np.errstate(invalid="ignore"):
        found = of.kl.mean(axis=1) if of.kl.size else np.full(len(of.points), np.nan)
    found[0] = 0.0 if np.isnan(found[:1]).all() else found[0]
    return np.asarray(found)
