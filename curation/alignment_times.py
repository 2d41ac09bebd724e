"""What a grid's jobs will take, before any is started: seconds, memory, disk. Estimates, put right by earlier runs."""

import json
import shutil
from collections import defaultdict
from typing import Any, NamedTuple

from curation import policies, reward_models, reward_training
from curation.alignment_plan import Job
from curation.alignment_settings import TRAINED, Alignment, listed
from curation.held_out import Split, behind, chosen_prompts
from curation.workspace import Workspace
from training import estimates
from training.estimates import NOTHING, Counts, Estimate, Size
from training.machine import Machine, machine
from training.reward_settings import HEAD

_CHARACTERS = 4  # of a token of English
_TEMPLATE = 10  # tokens a chat template puts around a prompt


class Times(NamedTuple):
    """Each job's estimate, None where one of its models is not here yet; the whole in seconds of the clock; what to know."""

    jobs: list[Estimate | None]
    seconds: float | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def of(workspace: Workspace, told: Alignment, jobs: tuple[Job, ...], split: Split) -> Times:
    """Estimates for these jobs, by the machine this is, the models' sizes and the data's."""
    on = machine("cpu" if told.device == "cpu" else "auto")
    sizes = _Sizes(workspace, told, jobs)
    counts = {one: _counts(workspace, told, one, split) for one in {_data(job) for job in jobs}}
    rates = _rates(workspace)
    found = [_estimate(job, sizes, counts[_data(job)], rates.get((job.kind, sizes.start), []), on) for job in jobs]
    at_once = told.at_once or on.cards
    known = [one for one in found if one is not None]
    seconds = sum(one.seconds for one in known) / at_once if len(known) == len(found) else None
    earlier = sum(len(rates.get((job.kind, sizes.start), [])) > 0 for job in jobs)
    notes = [f"times and memory are estimates for {on.name}: {estimates.ASSUMED}"]
    if earlier:
        notes.append(f"the times of {earlier:,} jobs go by earlier runs of their kind from the same start")
    if sizes.unknown:
        notes.append(f"not on this machine yet, so that nothing can be said of its jobs: {', '.join(sorted(sizes.unknown))}")
    return Times(found, seconds, tuple(notes), tuple(_warnings(workspace, jobs, found, sizes, on)))


def _estimate(job: Job, sizes: "_Sizes", counts: Counts, rates: list[float], on: Machine) -> Estimate | None:
    told = job.asked.model_dump()
    if job.kind == "reward":
        base = sizes.of_model("minilm" if told["base"] == HEAD else told["base"])
        counts = counts._replace(train=min(counts.train, told["count"] or counts.train))
        return base and estimates.of_reward(told, counts, base, on, head=told["base"] == HEAD)
    looked_at = min(counts.held_out, told["looked_at"])
    counts = counts._replace(train=min(counts.train, told.get("count") or counts.train), held_out=looked_at)
    policy, scorers = sizes.of_model(sizes.start), [sizes.of_scorer(one) for one in job.scored_by]
    known = [one for one in scorers if one is not None]
    if policy is None or len(known) < len(scorers):
        return None
    return estimates.put_right(estimates.of_policy(job.kind, told, counts, policy, known, on), rates)


class _Sizes:
    """The sizes of the models of a grid: what policies start from, and by name what scores them."""

    def __init__(self, workspace: Workspace, told: Alignment, jobs: tuple[Job, ...]) -> None:
        self.start, self.unknown = policies.source_of(workspace, told.base), set[str]()
        self._sources: dict[str, list[str]] = {}
        for name in (*listed(told.reward_models), *listed(told.gold)):
            if not name.startswith(TRAINED):
                model = reward_models.model_named(workspace, name)
                heads = model.family == HEAD  # next to nothing beside the embeddings it stands on
                self._sources[name] = ["minilm"] if heads else list(reward_models.opened_by(workspace, model).sources())
        for job in jobs:
            if job.kind == "reward":
                base = job.asked.model_dump()["base"]
                self._sources[job.name] = ["minilm" if base == HEAD else base]

    def of_model(self, name: str) -> Size | None:
        found = estimates.size_of(name)
        if found is None:
            self.unknown.add(name)
        return found

    def of_scorer(self, name: str) -> Size | None:
        """All models of an ensemble as one; nothing for one without weights."""
        parts = [self.of_model(one) for one in self._sources[name]]
        known = [one for one in parts if one is not None]
        weights = sum(one.weights for one in known)
        return None if len(known) < len(parts) else (known[0] if known else NOTHING)._replace(weights=weights)


def _data(job: Job) -> str:
    return str(job.asked.model_dump()["data"])


def _counts(workspace: Workspace, told: Alignment, data: str, split: Split) -> Counts:
    """How many prompts there are to learn from, and how long prompts and responses are, in tokens."""
    own = chosen_prompts(
        workspace, data, held_out=told.held_out, split_seed=told.split_seed, count=1, looked_at=1,
        prompts_from=behind(workspace, ",".join(listed(told.data.replace("+", ",")))),
    )  # fmt: skip
    prompts = [sum(len(turn.content) for turn in turns) / _CHARACTERS + _TEMPLATE for _, turns in split.held_out]
    datasets = {dataset for dataset, _, _ in reward_training.parts(behind(workspace, data))}
    lengths = [(left + right) / 2 for one in datasets for _, _, left, right, _ in workspace.pairs.sizes(one)]
    response = sum(lengths) / max(1, len(lengths)) / _CHARACTERS
    return Counts(own.all_train, own.all_held_out, sum(prompts) / max(1, len(prompts)), response)


def _rates(workspace: Workspace) -> dict[tuple[str, str], list[float]]:
    """Tokens a second, written and learned from, of earlier runs, by kind and start."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for one in workspace.policies.all():
        told: dict[str, Any] = json.loads(one.lineage)
        tokens = (told.get("generated") or 0) + (told.get("trained") or 0)
        if tokens and told.get("seconds"):
            found[one.kind, str(told["base"]["name"])].append(tokens / told["seconds"])
    return found


def _warnings(
    workspace: Workspace, jobs: tuple[Job, ...], found: list[Estimate | None], sizes: _Sizes, on: Machine
) -> list[str]:
    """What exceeds this machine. Nothing is refused: these are estimates."""
    said = []
    needed: dict[str, int] = defaultdict(int)
    for job, one in zip(jobs, found, strict=True):
        needed[job.kind] = max(needed[job.kind], one.bytes if one else 0)
    for kind, most in needed.items():
        if most > on.memory:
            smaller = (
                "batch_pairs or max_length" if kind == "reward" else "batch, max_prompt or max_tokens, or LoRA (lora_rank)"
            )
            said.append(
                f"{kind} is estimated to need {most / 1e9:.1f} GB where {on.memory / 1e9:.1f} GB are free on {on.name}: "
                f"expected a smaller {smaller}"
            )
    start = sizes.of_model(sizes.start)
    models = sum(job.kind in ("sft", "dpo", "ppo", "rloo") for job in jobs)
    written = models * (2 if on.kind == "gpu" else 4) * start.weights if start else 0
    free = shutil.disk_usage(workspace.folder).free
    if written > free:
        said.append(
            f"the {models:,} policies will take {written / 1e9:.1f} GB on a disk with {free / 1e9:.1f} GB free: expected fewer "
            "of them, or more room"
        )
    return said
