"""What a study is about: items of a dataset or release, of policies, of outputs or a file; gold and attention items."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple

from curation import outputs, policies, review
from curation.pairs import Pair, Response, Turn, named, prompt_id_of, response_id_of
from curation.released import released
from curation.store.studies import NewItem, NewResponse
from curation.study_design import Design
from curation.workspace import Workspace

Stratum = Literal["subset", "length", "flag"]
STRATA: tuple[Stratum, ...] = ("subset", "length", "flag")
_CHECK = "This is a check that somebody is reading"


class Drawn(NamedTuple):
    """Items that were drawn, and in words where from and what was left out."""

    items: list[NewItem]
    words: str


@dataclass(frozen=True)
class Sample:
    """How many, by what strata, in which proportion. `equal` draws as many of each stratum, else as many as it is large."""

    count: int
    by: tuple[Stratum, ...] = ()
    equal: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"{self.count} items were asked for: expected 1 or more")


def strata_named(names: Iterable[str]) -> tuple[Stratum, ...]:
    """Strata by name. Raises ValueError for one there is not."""
    found = []
    for name in names:
        known = [one for one in STRATA if one == name]
        if not known:
            raise ValueError(f"cannot stratify by {name!r}: expected some of {', '.join(STRATA)}")
        found += known
    return tuple(dict.fromkeys(found))


# ---- from a dataset or a release


def from_dataset(workspace: Workspace, study: str, dataset: str, sample: Sample, *, release: str | None = None) -> Drawn:
    """Items of a dataset's pairs, or of those a release keeps, each with its chosen and its rejected response.

    Pairs with an empty side, or whose sides are the same, are left out: there is nothing to rate or to compare. Raises
    ValueError when none is left.
    """
    workspace.pairs.dataset(dataset)
    swapped, dropped = released(workspace, dataset, release)
    sizes = [one for one in workspace.pairs.sizes(dataset) if one[0] not in dropped]
    sound = [one for one in sizes if one[2] and one[3] and one[4]]
    filters = workspace.releases.filters_of_pairs(dataset)
    traits = {
        "subset": {pair_id: subset for pair_id, subset, *_ in sound},
        "length": _thirds({pair_id: chosen + rejected for pair_id, _, chosen, rejected, _ in sound}),
        "flag": {pair_id: "+".join(filters.get(pair_id, ("none",))) for pair_id, *_ in sound},
    }
    chosen = drawn([one[0] for one in sound], sample, lambda one: tuple(traits[by][one] for by in sample.by))
    pairs = workspace.pairs.many(chosen)
    items = [_of_pair(study, one.swapped() if one.pair_id in swapped else one, traits["subset"][one.pair_id]) for one in pairs]
    whole = f"release {release} of {dataset}" if release else f"dataset {dataset}"
    words = f"{len(items)} of {len(sound):,} pairs of {whole}{_how(sample)}"
    return Drawn(items, words + _left_out(len(sizes) - len(sound), "with an empty side or two equal sides"))


def gold_from_settled(
    workspace: Workspace, study: str, dataset: str, sample: Sample, *, without: Sequence[NewItem] = (), kind: str = "gold"
) -> Drawn:
    """Gold items of pairs whose label people settled: the side they hold for the better one is the known answer.

    With `kind` "warm-up" they come first instead, and the rater is told how the answer compares.
    Pairs that stand in the study already, or among the items in `without`, are left out: met twice, they would be known.
    """
    answers = review.settled_labels(workspace, dataset)
    there = {prompt_id_of(one.prompt) for one in without}
    if study in {name for name, _, _ in workspace.studies.all()}:
        there |= {one.prompt_id for one in workspace.studies.items(study).values()}
    pairs = [one for one in workspace.pairs.many(sorted(answers)) if _two_sided(one) and one.prompt_id not in there]
    chosen = drawn([one.pair_id for one in pairs], sample, lambda one: ())
    by_id = {one.pair_id: one for one in pairs}
    items = []
    for pair_id in chosen:
        pair = by_id[pair_id]
        better = pair.chosen_id if answers[pair_id] == review.Verdict.SAME else pair.rejected_id
        expected = json.dumps({"better": better})
        why = "Reviewers who looked at this pair agreed on this."
        items.append(_item(study, pair.prompt, _sides(pair), kind=kind, expected=expected, explanation=why))
    return Drawn(items, f"{len(items)} {kind} items of {len(pairs)} settled pairs of dataset {dataset}")


def _two_sided(pair: Pair) -> bool:
    chosen, rejected = pair.chosen.text.strip(), pair.rejected.text.strip()
    return bool(chosen and rejected and chosen != rejected)


def _sides(pair: Pair) -> tuple[NewResponse, ...]:
    return NewResponse("chosen", pair.chosen), NewResponse("rejected", pair.rejected)


def _of_pair(study: str, pair: Pair, subset: str) -> NewItem:
    return _item(study, pair.prompt, _sides(pair), subset=subset)


# ---- from generators' outputs


def from_outputs(study: str, design: Design, given: Sequence[outputs.Output], sample: Sample, *, each: int = 1) -> Drawn:
    """Items of prompts that several generators answered. To rate, an item has all their responses; to compare, two.

    Which two is drawn, of those that came least often so far, so that every pair of generators comes as often as every
    other; `each` is how many such items are made of one prompt, each of another two. Prompts that not all of the
    generators answered are left out, and so are two responses that are the same.
    """
    by_prompt: dict[tuple[Turn, ...], dict[str, outputs.Output]] = defaultdict(dict)
    for one in given:
        by_prompt[one.prompt].setdefault(one.generator, one)
    names = sorted({one.generator for one in given})
    if design.compares and len(names) < 2:
        raise ValueError(f"the outputs are of {', '.join(names) or 'nobody'}: expected two generators or more to compare")
    whole = {prompt: found for prompt, found in by_prompt.items() if len(found) == len(names)}
    keys = {prompt_id_of(prompt): prompt for prompt in whole}
    subsets = {key: next(iter(whole[prompt].values())).subset for key, prompt in keys.items()}
    lengths = _thirds({key: sum(len(one.response) for one in whole[prompt].values()) for key, prompt in keys.items()})
    traits = {"subset": subsets, "length": lengths, "flag": dict.fromkeys(keys, "none")}
    chosen = drawn(list(keys), sample, lambda one: tuple(traits[by][one] for by in sample.by))
    groups = list(combinations(names, 2)) if design.compares else [tuple(names)]
    used: Counter[tuple[str, ...]] = Counter()
    draw = Random(sample.seed)
    items, alike = [], 0
    for key in chosen:
        draw.shuffle(groups)
        answers = whole[keys[key]]
        fit = [group for group in groups if not design.compares or len({answers[name].response.strip() for name in group}) > 1]
        alike += len(groups) - len(fit)
        for group in sorted(fit, key=lambda one: used[one])[:each]:
            responses = tuple(NewResponse(name, Response(answers[name].response)) for name in group)
            used[group] += 1
            items.append(_item(study, keys[key], responses, subset=subsets[key]))
    items = list({one.item_id: one for one in items}.values())
    words = f"{len(items)} items of {len(chosen)} of {len(keys):,} prompts, answered by {', '.join(names)}{_how(sample)}"
    words += _left_out(len(by_prompt) - len(whole), "that not all of them answered")
    return Drawn(items, words + _left_out(alike, "two responses that are the same"))


def from_policies(
    workspace: Workspace, study: str, design: Design, names: Sequence[str], sample: Sample, *, each: int = 1,
    point: int | None = None,
) -> Drawn:  # fmt: skip
    """The same of what policies answered here, at this point of their training or each at its last."""
    found = policies.outputs(workspace, names, point=point)
    return from_outputs(study, design, found, sample, each=each)


# ---- from a file of items


def from_rows(study: str, rows: Iterable[outputs.ItemRow]) -> list[NewItem]:
    """Items as a file gives them, with kinds and known answers."""
    items = []
    for row in rows:
        responses = tuple(NewResponse(one.generator, Response(one.text)) for one in row.responses)
        prompt_id = prompt_id_of(row.prompt)
        ids = {one.generator: response_id_of(prompt_id, one.response) for one in responses}
        expected = json.dumps(_by_id(row.expected, ids)) if row.expected else ""
        items.append(
            _item(
                study, row.prompt, responses, name=row.item, subset=row.subset, kind=row.kind, expected=expected,
                explanation=row.explanation,
            )
        )  # fmt: skip
    return items


def _by_id(expected: Mapping[str, Any], ids: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if expected.get("better"):
        found["better"] = ids.get(expected["better"], expected["better"])
    if expected.get("ratings"):
        found["ratings"] = [
            {"response": ids[one["generator"]], "aspect": one["aspect"], "low": one["low"], "high": one["high"]}
            for one in expected["ratings"]
        ]
    return found


# ---- attention items


def attention_items(study: str, design: Design, items: Sequence[NewItem], count: int, *, seed: int = 0) -> list[NewItem]:
    """Copies of items in which one response is an instruction that whoever reads it can follow, and nobody else."""
    draw = Random(f"{study}/attention/{seed}")
    plain = [one for one in items if one.kind == "item"]
    made = []
    for number, item in enumerate(draw.sample(plain, min(count, len(plain)))):
        place = draw.randrange(len(item.responses))
        wanted = [draw.randint(1, one.points) for one in design.aspects] if design.rates else []
        told = [f"give it the value {value} for {one.name}" for value, one in zip(wanted, design.aspects, strict=False)]
        if design.compares and len(item.responses) == 2:
            told.append("choose it as the better one")
        text = f"{_CHECK} (number {number + 1}): whatever you think of this response, please {' and '.join(told)}."
        check = NewResponse("attention", Response(text))
        responses = tuple(check if at == place else one for at, one in enumerate(item.responses))
        response_id = response_id_of(prompt_id_of(item.prompt), check.response)
        expected: dict[str, Any] = {
            "ratings": [
                {"response": response_id, "aspect": one.name, "low": value, "high": value}
                for one, value in zip(design.aspects, wanted, strict=False)
            ]
        }
        if design.compares and len(item.responses) == 2:
            expected["better"] = response_id
        made.append(_item(study, item.prompt, responses, subset=item.subset, kind="attention", expected=json.dumps(expected)))
    return made


# ---- drawing


def drawn(ids: Sequence[str], sample: Sample, stratum: Callable[[str], tuple[str, ...]]) -> list[str]:
    """A stratified sample of these, in a drawn order: the same seed gives the same, whatever else is asked for.

    Strata get whole numbers by largest remainder; a stratum too small for its share gives the rest to the others.
    """
    strata: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for one in ids:
        strata[stratum(one)].append(one)
    if not strata:
        raise ValueError("there is nothing to draw from: no pair or prompt is left that can be rated")
    sizes = {key: len(members) for key, members in strata.items()}
    quota = _quota(sizes, min(sample.count, len(ids)), equal=sample.equal)
    chosen = []
    for key in sorted(strata):
        chosen += Random(f"{sample.seed}/{key}").sample(sorted(strata[key]), quota[key])
    Random(f"{sample.seed}/order").shuffle(chosen)
    return chosen


def _quota(sizes: Mapping[tuple[str, ...], int], count: int, *, equal: bool) -> Mapping[tuple[str, ...], int]:
    """How many each stratum gives of a count that is not more than all of them hold."""
    given: dict[tuple[str, ...], int] = {}
    weights = {key: 1 if equal else size for key, size in sorted(sizes.items())}
    while weights:
        left, total = count - sum(given.values()), sum(weights.values())
        small = [key for key, weight in weights.items() if sizes[key] * total < left * weight]
        if not small:  # the whole part of each share, and one more where the largest parts were cut off
            given |= {key: left * weight // total for key, weight in weights.items()}
            cut = sorted(weights, key=lambda key: -(left * weights[key] % total))
            given |= {key: given[key] + 1 for key in cut[: count - sum(given.values())]}
            break
        given |= {key: sizes[key] for key in small}
        weights = {key: weight for key, weight in weights.items() if key not in given}
    return given


def _thirds(lengths: Mapping[str, int]) -> dict[str, str]:
    """Short, middle, long: the thirds of these texts by length."""
    order = sorted(lengths, key=lambda one: (lengths[one], one))
    names = ("short", "middle", "long")
    return {one: names[3 * place // len(order)] for place, one in enumerate(order)}


def _item(
    study: str, prompt: tuple[Turn, ...], responses: tuple[NewResponse, ...], *, name: str = "", subset: str = "",
    kind: str = "item", expected: str = "", explanation: str = "",
) -> NewItem:  # fmt: skip
    prompt_id = prompt_id_of(prompt)
    parts = sorted(f"{one.generator}\n{response_id_of(prompt_id, one.response)}" for one in responses)
    item_id = named("item", study, kind, name, prompt_id, *parts)
    return NewItem(item_id, name, prompt, responses, subset, kind, expected, explanation)


def _how(sample: Sample) -> str:
    by = f", by {' and '.join(sample.by)}{' in equal numbers' if sample.equal else ''}" if sample.by else ""
    return f"{by}, seed {sample.seed}"


def _left_out(count: int, why: str) -> str:
    return f"; {count:,} left out, {why}" if count else ""


# ---- from files


def from_output_files(
    study: str, design: Design, files: Sequence[Path], sample: Sample, *, each: int = 1, questions: Path | None = None
) -> Drawn:
    """Items of generators' outputs in files; records that could not be used are counted and the first is named."""
    read = [(file, outputs.read(file, questions=questions)) for file in files]
    drawn_items = from_outputs(study, design, [one for _, found in read for one in found.outputs], sample, each=each)
    return Drawn(drawn_items.items, drawn_items.words + _unused([(file, found.unused) for file, found in read]))


def from_item_file(study: str, file: Path) -> Drawn:
    """The items of a file, as they stand there."""
    found = outputs.read_items(file)
    items = from_rows(study, found.rows)
    return Drawn(items, f"{len(items)} items of {file.name}" + _unused([(file, found.unused)]))


def _unused(files: Sequence[tuple[Path, Sequence[Any]]]) -> str:
    count = sum(len(unused) for _, unused in files)
    if not count:
        return ""
    file, line, reason = next((file, unused[0].line, unused[0].reason) for file, unused in files if unused)
    return f"; {count:,} records could not be used, the first {file.name} line {line}: {reason}"
