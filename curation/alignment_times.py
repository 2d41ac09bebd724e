"""What a grid's jobs will take, before any is started: seconds, memory, disk. Estimates, put right by earlier runs."""

import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from curation import policies, reward_models, reward_training
from curation.alignment_plan import Job
from curation.alignment_settings import TRAINED, Alignment, listed
from curation.held_out import Split, behind, chosen_prompts
from curation.pairs import Turn
from curation.workspace import Workspace
from training import estimates
from training.estimates import Estimate
from training.machine import Machine, machine
from training.memory import NUMBER, OF_DATA
from training.reward_settings import HEAD
from training.sizes import NOTHING, Counts, Size, size_of

_CHARACTERS = 4  # of a token of English
_READ = 1024  # tokens that a reward model reads of prompt and response
_TURN, _TEMPLATE = 6, 25  # tokens a chat template puts around a turn, and before all of them, a system turn of its own
_DRAWN = 512  # pairs whose lengths stand for those of all


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

    def estimate(job: Job) -> Estimate | None:
        return _estimate(job, sizes, counts[_data(job)], rates.get((job.kind, sizes.start), []), on)

    found = [estimate(job) for job in jobs]
    known = [one.seconds for one in found if one is not None]
    seconds = max([sum(known) / (told.at_once or on.cards), *known]) if len(known) == len(found) else None
    earlier = sum(len(rates.get((job.kind, sizes.start), [])) > 0 for job in jobs)
    notes = [f"times and memory are estimates for {on.name}: {estimates.ASSUMED}"]
    if earlier:
        notes.append(f"the times of {earlier:,} jobs go by earlier runs of their kind from the same start")
    if sizes.unknown:
        notes.append(f"not on this machine yet, so that nothing can be said of its jobs: {', '.join(sorted(sizes.unknown))}")
    warnings = (*_too_large(told, jobs, found, estimate, on), *_no_room(workspace, jobs, sizes, on))
    return Times(found, seconds, tuple(notes), warnings)


def _estimate(job: Job, sizes: "_Sizes", counts: Counts, rates: list[float], on: Machine) -> Estimate | None:
    told = job.asked.model_dump()
    if isinstance(job.asked, reward_training.Joined):
        return _of_ensemble(job.asked, [sizes.of_scorer(one) for one in job.scored_by], counts, on)
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


def _of_ensemble(asked: reward_training.Joined, members: Sequence[Size | None], counts: Counts, on: Machine) -> Estimate | None:
    """Each member reads the texts of some pairs, one member after the other."""
    counts = counts._replace(train=0, held_out=min(asked.count, counts.train + counts.held_out))
    found = [one and estimates.of_reward({"max_length": _READ}, counts, one, on, head=True) for one in members]
    known = [one for one in found if one is not None]
    if len(known) < len(members):
        return None
    return Estimate(sum(one.seconds for one in known), max(one.bytes for one in known), sum(one.tokens for one in known))


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
            if isinstance(job.asked, reward_training.Joined):  # its members come before it
                self._sources[job.name] = [source for one in job.scored_by for source in self._sources[one]]
            elif job.kind == "reward":
                base = job.asked.model_dump()["base"]
                self._sources[job.name] = ["minilm" if base == HEAD else base]

    def of_model(self, name: str) -> Size | None:
        found = size_of(name)
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
    prompts = [_tokens(turns) for _, turns in split.held_out]
    sizes: dict[str, float] = {}
    parts = list(reward_training.parts(behind(workspace, data)))
    for dataset in dict.fromkeys(one for one, _, _ in parts):
        wanted = {subset for one, _, subset in parts if one == dataset}
        rows = workspace.pairs.sizes(dataset)
        sizes |= {pair_id: (left + right) / 2 for pair_id, subset, left, right, _ in rows if wanted & {"", subset}}
    response = sum(sizes.values()) / max(1, len(sizes)) / _CHARACTERS
    drawn = workspace.pairs.many(sorted(sizes)[:_DRAWN])  # ids are hashes
    longer = [max(len(pair.chosen.text), len(pair.rejected.text)) / _CHARACTERS for pair in drawn]
    lengths = tuple((_tokens(pair.prompt), one) for pair, one in zip(drawn, longer, strict=True))
    return Counts(own.all_train, own.all_held_out, sum(prompts) / max(1, len(prompts)), response, lengths)


def _tokens(turns: Sequence[Turn]) -> float:
    """Tokens of a prompt, about."""
    return _TEMPLATE + sum(_TURN + len(turn.content) / _CHARACTERS for turn in turns)


def _rates(workspace: Workspace) -> dict[tuple[str, str], list[float]]:
    """Tokens a second, written and learned from, of earlier runs, by kind and start."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for one in workspace.policies.all():
        told: dict[str, Any] = json.loads(one.lineage)
        tokens = (told.get("generated") or 0) + (told.get("trained") or 0)
        if tokens and told.get("seconds"):
            found[one.kind, str(told["base"]["name"])].append(tokens / told["seconds"])
    return found


# ---- what exceeds this machine. Nothing is refused: these are estimates


def _too_large(
    told: Alignment, jobs: Sequence[Job], found: Sequence[Estimate | None], estimate: Callable[[Job], Estimate | None],
    on: Machine,
) -> list[str]:  # fmt: skip
    """For each kind of job the one that needs the most memory, where that is more than there is, and what would need less."""
    together = -(-min(told.at_once or on.cards, len(jobs)) // on.cards)  # jobs that share a GPU, or the memory of a CPU
    room = on.memory // together
    free = f"{room / 1e9:.1f} GB are free on {on.name}" + (f" for each of {together:,} jobs at once" if together > 1 else "")
    largest: dict[str, tuple[int, Job]] = {}
    for job, one in zip(jobs, found, strict=True):
        if one is not None and one.bytes > max(room, largest.get(job.kind, (0, job))[0]):
            largest[job.kind] = one.bytes, job
    return [
        f"{kind} is estimated to need {most / 1e9:.1f} GB where {free}: expected "
        + (_smaller_batch(job, told.set, estimate, room) or _smaller(job))
        for kind, (most, job) in largest.items()
    ]


def _smaller_batch(
    job: Job, settings: Mapping[str, Mapping[str, Any]], estimate: Callable[[Job], Estimate | None], room: int
) -> str:
    """In words, the largest batch, of halves of the one asked for, that fits; a step learns from as much. "": none.

    `settings` are those set already, which are named again: else they would be lost.
    """
    told, algorithm = job.asked.model_dump(), job.cell["algorithm"]
    name = "batch_pairs" if job.kind == "reward" else "batch"
    if name not in told or told.get("base") == HEAD:
        return ""
    asked, batch = int(told[name]), int(told[name]) // 2
    while batch:
        changed = {name: batch, "accumulate": -(-asked * int(told["accumulate"]) // batch)}
        one = estimate(job._replace(asked=job.asked.model_copy(update=changed)))
        if one is not None and one.bytes <= room:
            whole = json.dumps({**settings, algorithm: {**settings.get(algorithm, {}), **changed}})
            words = f"a smaller batch: 'set={whole}', by which a step learns from as much, is estimated at"
            return f"{words} {one.bytes / 1e9:.1f} GB"
        batch //= 2
    return ""


def _smaller(job: Job) -> str:
    """What to change where no smaller batch alone would do."""
    told = job.asked.model_dump()
    if not {"batch", "batch_pairs"} & told.keys() or told["base"] == HEAD:
        return "a smaller max_prompt, max_tokens or base" if "max_prompt" in told else "more of the memory free"
    if job.kind == "reward":
        smaller = "a smaller batch_pairs or max_length"
    elif job.kind in OF_DATA and told.get("pairs") != "sampled":
        smaller = "a smaller batch or max_prompt, data with shorter responses (the longest counts, max_tokens cuts none)"
    else:
        smaller = "a smaller batch, max_prompt or max_tokens"
    return f"{smaller}, or {'a smaller base' if told['lora_rank'] else 'LoRA (lora_rank)'}"


def _no_room(workspace: Workspace, jobs: Sequence[Job], sizes: _Sizes, on: Machine) -> list[str]:
    """Where the policies are more than the disk has room for."""
    start = sizes.of_model(sizes.start)
    models = sum(job.kind in ("sft", "dpo", "ppo", "rloo") for job in jobs)
    written = models * NUMBER[on.kind] * start.weights if start else 0
    free = shutil.disk_usage(workspace.folder).free
    if written <= free:
        return []
    return [
        f"the {models:,} policies will take {written / 1e9:.1f} GB on a disk with {free / 1e9:.1f} GB free: expected fewer "
        "of them, or more room"
    ]
