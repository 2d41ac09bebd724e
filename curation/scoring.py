"""Scoring: which responses a reward model is to score, handed over to a run once each, and taken in when it has ended."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from curation import probing, reward_models
from curation.pairs import RESPONSE_LEAD, Pair, Turn, parse, turn, unpacked
from curation.released import released
from curation.store.policies import Written
from curation.store.scores import ScoreRun
from curation.workspace import Workspace
from training.run import Run
from training.score import DUELS, PREFERENCES, SCORES, SUMMARY, TEXTS, Scoring

_AT_ONCE = 5000
_Side = tuple[str, int]  # a generator, and the point at which it answered


class Wanted(BaseModel):
    """What a scoring run is asked for; the command's --set and the page's form are made from these fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reward_model: str = Field(min_length=1, description="its name in the registry: elephant reward-models")
    dataset: str = Field("", description="score both sides of this dataset's pairs")
    release: str = Field("", description="with dataset: only the pairs this release keeps")
    study: str = Field("", description="score the responses of this study's items")
    policies: str = Field("", description="score what these policies answered to held-out prompts, with commas")
    points: Literal["all", "last"] = Field(
        "all",
        description="with policies: at every point of their training, or the last; a model that compares sets what they "
        "answered last against each other, and with all each against its start too",
    )
    count: int = Field(0, ge=0, description="only so many of the dataset's pairs, the same ones each time; 0: all")
    subset: str = Field("", description="with dataset: only this subset")
    probes: bool = Field(False, description="with dataset: spoil each response in every way a probe knows, and score that")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto: a GPU where there is one")


class Text(NamedTuple):
    """A response on its way to a reward model. Conversations are JSON, [[role, content], ...]."""

    response_id: str
    prompt: str
    response: str


class Versus(NamedTuple):
    """Two responses to one prompt, on their way to a model that compares. `first_id` comes before `second_id`."""

    first_id: str
    second_id: str
    prompt: str
    first: str
    second: str


def hand_over(workspace: Workspace, wanted: Wanted, folder: Path) -> Scoring:
    """Write what has no score yet into the folder; returns the run's settings. Raises ValueError when nothing is missing.

    A probing of texts that are all scored is a run without texts.
    """
    model = reward_models.model_named(workspace, wanted.reward_model)
    what, unit, pairs, more = _what(workspace, wanted, compares=model.compares)
    if model.compares:
        known = set(workspace.scores.preferences(model.reward_model))
        count = _written(folder / DUELS, Versus, pairs, _versus, known, lambda one: one[:2])
    else:
        known_ids = set(workspace.scores.scores(model.reward_model))
        count = _written(folder / TEXTS, Text, pairs, _texts, known_ids, lambda one: one[0])
    if not count.texts and not wanted.probes:  # a probing is to be found again under its dataset, whoever scored its texts
        raise ValueError(f"{model.reward_model} has scored {what} already: nothing is missing")
    opened = reward_models.opened_by(workspace, model)
    return Scoring(
        reward_model=model.reward_model, family=model.family, settings=opened.model_dump(mode="json"), pairs=count.groups,
        unit=unit, of={**wanted.model_dump(mode="json", exclude_defaults=True), **more, "in words": what}, device=wanted.device,
        fingerprint=model.fingerprint,
    )  # fmt: skip


def take_in(workspace: Workspace, run: Run) -> None:
    """Store what a finished scoring wrote, in one transaction; a second time does nothing.

    Raises ValueError where its numbers are not there, cannot be read, or are none.
    """
    settings = Scoring.model_validate(run.config())
    summary = json.loads((run.output / SUMMARY).read_text())
    ended = run.state().ended_at or workspace.clock()
    what = {**settings.of, **({"found": summary["found"]} if summary.get("found") else {})}
    done = ScoreRun(
        run.run_id, settings.reward_model, json.dumps(what), summary["texts"], summary["truncated"], summary["tokens"],
        summary["seconds"], ended,
    )  # fmt: skip
    files = [run.output / name if (run.output / name).is_file() else None for name in (SCORES, PREFERENCES)]
    if not any(files):
        raise ValueError(f"{str(run.output)!r} holds neither {SCORES} nor {PREFERENCES}")
    workspace.scores.add(done, *files)


class Group(NamedTuple):
    """Responses to one prompt, by id: a pair's two, or all of a study's item; every two of them meet when they are compared."""

    prompt: str
    responses: tuple[tuple[str, str], ...]  # response id, conversation


def _what(workspace: Workspace, wanted: Wanted, *, compares: bool) -> tuple[str, str, Iterator[Group], dict[str, Any]]:
    """What is scored in words, what its progress is counted in, the responses, and what else must be known to find them."""
    if sum(map(bool, (wanted.dataset, wanted.study, wanted.policies))) != 1:
        raise ValueError(
            "a scoring wants a dataset or a study: expected dataset=NAME or study=NAME, one of them, or policies=NAMES"
        )
    if not wanted.dataset and (wanted.release or wanted.probes or wanted.subset or wanted.count):
        what = "a study" if wanted.study else "policies"
        raise ValueError(f"release, subset, count and probes go with dataset=NAME, not with {what}")
    if wanted.points != "all" and not wanted.policies:
        raise ValueError("points goes with policies=NAMES")
    if wanted.policies:
        return _what_policies(workspace, wanted, compares=compares)
    if wanted.study:
        workspace.studies.check(wanted.study)
        return f"study {wanted.study}", "items", _of_study(workspace, wanted.study), {}
    chosen = chosen_pairs(workspace, wanted.dataset, release=wanted.release, subset=wanted.subset, count=wanted.count)
    words = f"dataset {wanted.dataset}" if not wanted.release else f"release {wanted.release} of {wanted.dataset}"
    words += f", subset {wanted.subset}" if wanted.subset else ""
    words += f", {len(chosen):,} pairs" if wanted.count else ""
    if wanted.probes:
        pairs = labelled_pairs(workspace, wanted)
        made = probing.Recipe() if compares else probing.recipe(workspace, wanted.reward_model, pairs)
        return f"probes of {words}", "probes", _of_probes(pairs, made.phrases), made._asdict()
    return words, "pairs", of_pairs(workspace, chosen), {}


def _what_policies(workspace: Workspace, wanted: Wanted, *, compares: bool) -> tuple[str, str, Iterator[Group], dict[str, Any]]:
    found = workspace.policies.named([one.strip() for one in wanted.policies.split(",") if one.strip()])
    if not found:
        raise ValueError(f"policies is {wanted.policies!r}: expected names of policies, with commas")
    words = f"{'policy' if len(found) == 1 else 'policies'} {', '.join(one.generator for one in found)}"
    if not compares:
        last = {one.generator: one.points[-1] if wanted.points == "last" else None for one in found}
        return words, "prompts", _of_policies(workspace, last), {}
    ends = [(one.generator, one.points[-1]) for one in found]
    begun = [one for one in found if wanted.points == "all" and len(one.points) > 1]
    if len(ends) < 2 and not begun:
        raise ValueError(
            f"{wanted.reward_model} compares two responses: expected two policies or more, or with points=all one that was "
            f"looked at in its start too, not {words} alone"
        )
    between = list(_between(workspace, list(combinations(ends, 2))))
    if len(ends) > 1 and not between:
        raise ValueError(f"{words} have no prompt in common: expected policies that answered the same prompts")
    starts = [((one.generator, one.points[0]), (one.generator, one.points[-1])) for one in begun]
    return words, "comparisons", chain(between, _between(workspace, starts)), {}


def chosen_pairs(workspace: Workspace, dataset: str, *, release: str = "", subset: str = "", count: int = 0) -> list[str]:
    """Distinct pairs of a dataset in the order of their first row; with `count` so many of them, drawn by their hashes.

    Raises ValueError for an unknown dataset, release or subset.
    """
    workspace.pairs.dataset(dataset)
    subsets = workspace.pairs.subsets(dataset)
    if subset and subset not in subsets:
        raise ValueError(f"no subset {subset!r} in {dataset!r}: there is {', '.join(filter(None, subsets)) or 'none'}")
    dropped = released(workspace, dataset, release).dropped
    rows = workspace.pairs.rows_in_order(dataset)
    found = [pair for pair in dict.fromkeys(one for _, one, part, _ in rows if subset in ("", part)) if pair not in dropped]
    if count and count < len(found):
        drawn = set(sorted(found)[:count])  # ids are hashes of content: their order is chance, and the same each time
        found = [one for one in found if one in drawn]
    if not found:
        raise ValueError(f"{dataset!r} has no pairs left to score")
    return found


def labelled_pairs(workspace: Workspace, wanted: Wanted) -> list[Pair]:
    """The pairs a scoring is asked for, under the labels its release gave them."""
    chosen = chosen_pairs(workspace, wanted.dataset, release=wanted.release, subset=wanted.subset, count=wanted.count)
    swapped = released(workspace, wanted.dataset, wanted.release).swapped
    return [one.swapped() if one.pair_id in swapped else one for one in workspace.pairs.many(chosen)]


def of_pairs(workspace: Workspace, pair_ids: list[str]) -> Iterator[Group]:
    """The two sides of each pair."""
    for start in range(0, len(pair_ids), _AT_ONCE):
        for pair in workspace.pairs.many(pair_ids[start : start + _AT_ONCE]):
            yield group_of(pair)


def group_of(pair: Pair) -> Group:
    """A pair's prompt and sides as conversations."""
    sides = ((pair.chosen_id, pair.chosen), (pair.rejected_id, pair.rejected))
    return Group(conversation(pair.prompt), tuple((one, spoken(side.lead, side.text)) for one, side in sides))


def _of_probes(pairs: list[Pair], phrases: tuple[str, ...]) -> Iterator[Group]:
    """Each original with each of its spoilt versions; where the prompt is what is spoilt, the spoilt one alone."""
    for pair, made in zip(pairs, probing.spoilt_of(pairs, phrases), strict=True):
        original = pair.chosen_id, spoken(pair.chosen.lead, pair.chosen.text)
        yield Group(conversation(pair.prompt), (original,))
        for spoilt in made.values():
            if spoilt is not None:
                response = spoilt.response_id, spoken(spoilt.response.lead, spoilt.response.text)
                together = (response,) if spoilt.prompt_id != pair.prompt_id else (original, response)
                yield Group(conversation(spoilt.prompt), together)


def _of_study(workspace: Workspace, study: str) -> Iterator[Group]:
    """A response is read as it is where it comes from: from a dataset, or from a policy."""
    leads = workspace.scores.unusual_leads(study)
    policies = {one.generator for one in workspace.policies.generators()}
    wrote = workspace.studies.generators(study)
    for item_id, content in workspace.studies.contents(study).items():
        given = tuple(
            (one, as_written(text) if policies & {*wrote[item_id][one]} else spoken(leads.get(one, RESPONSE_LEAD), text))
            for one, text in content.texts.items()
            if text is not None
        )
        if given:
            yield Group(conversation(content.prompt), given)


def _of_policies(workspace: Workspace, points: Mapping[str, int | None]) -> Iterator[Group]:
    """What each generator answered to a prompt, at this point or at all."""
    for generator, point in points.items():
        by_prompt: dict[str, list[Written]] = defaultdict(list)
        for one in workspace.policies.written(generator, point):
            by_prompt[one.prompt_id].append(one)
        yield from map(_group_of_written, by_prompt.values())


def _between(workspace: Workspace, meetings: Sequence[tuple[_Side, _Side]]) -> Iterator[Group]:
    """What two sides answered to a prompt, for each meeting: their first responses, then their second ones, and so on. The pick
    of a best-of-n is its first, whichever of the samples it was."""
    said = {side: _in_turn(workspace.policies.written(*side)) for side in {one for two in meetings for one in two}}
    for one, other in meetings:
        for place in (each for each in said[one] if each in said[other]):
            yield _group_of_written([said[one][place], said[other][place]])


def _in_turn(some: Sequence[Written]) -> dict[tuple[str, int], Written]:
    """By prompt, and which of the responses to it each one is."""
    so_far: Counter[str] = Counter()
    found = {}
    for one in some:
        found[one.prompt_id, so_far[one.prompt_id]] = one
        so_far[one.prompt_id] += 1
    return found


def _group_of_written(some: Sequence[Written]) -> Group:
    responses = {one.response_id: as_written(one.text) for one in some}
    return Group(conversation(unpacked(some[0].turns)), tuple(responses.items()))


def conversation(turns: tuple[Turn, ...] | list[Turn]) -> str:
    """Turns as a run reads them. Text before the first marker has no role: it is taken for a system message."""
    return json.dumps([[one.role or "system", one.content] for one in turns], ensure_ascii=False)


def as_written(text: str) -> str:
    """A policy's response as a conversation: one assistant message, also where it runs on into turns that nobody took. Its own
    run hands it to reward models like this."""
    return conversation([turn("assistant", text)])


def spoken(lead: str, text: str) -> str:
    """A dataset's response as a conversation: one assistant message, and the further turns where its text holds some."""
    turns = parse(lead + text)
    if turns and turns[0].role == "":
        turns[0] = Turn("assistant", turns[0].content, "")
    return conversation(turns or [Turn("assistant", "", "")])


class _Count(NamedTuple):
    texts: int
    groups: int  # that hold at least one of them


def _texts(group: Group) -> Iterator[Text]:
    for response_id, response in group.responses:
        yield Text(response_id, group.prompt, response)


def _versus(group: Group) -> Iterator[Versus]:
    """Every two of the responses, each pair once."""
    ordered = sorted(group.responses)
    for place, (first_id, first) in enumerate(ordered):
        for second_id, second in ordered[place + 1 :]:
            yield Versus(first_id, second_id, group.prompt, first, second)


def _written(
    path: Path, kind: type[Text] | type[Versus], groups: Iterator[Group], parts: Callable[[Group], Iterator[Any]],
    known: set[Any], key: Callable[[Any], Any],
) -> _Count:  # fmt: skip
    """Write what is not known yet, each once."""
    schema = pa.schema([(name, pa.string()) for name in kind._fields])
    known, texts, held = set(known), 0, 0
    waiting: list[Any] = []
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for group in groups:
            fresh = {key(one): one for one in parts(group) if key(one) not in known}  # two sides may be the same
            known.update(fresh)
            waiting += fresh.values()
            held += bool(fresh)
            if len(waiting) >= _AT_ONCE:
                writer.write_table(_table(waiting, schema))
                texts, waiting = texts + len(waiting), []
        if waiting:
            writer.write_table(_table(waiting, schema))
    return _Count(texts + len(waiting), held)


def _table(records: list[Any], schema: pa.Schema) -> pa.Table:
    columns = zip(*records, strict=True)
    return pa.table([pa.array(column, pa.string()) for column in columns], schema=schema)
