"""Prompts that policies learn from, and prompts held out that they are looked at with, which nothing here has learned from.

Held-out prompts are checked by id and by near-duplicate: whole conversations, and the human turns they begin with, are
compared with those of all that may be trained on, in the way of curation/filters/near.py.
"""

from collections.abc import Callable, Iterable, Sequence, Set
from hashlib import blake2b
from typing import Any, NamedTuple, TypeVar

from curation import reward_training
from curation.filters.near import Nearness
from curation.pairs import Pair, Response, Turn, turn, unpacked
from curation.workspace import Workspace

SEEN = "what it starts from, or is scored by, has learned from it or from nearly the same"
NEAR = "nearly the same as a prompt that is trained on"
NO_ASKING = "does not end in a human turn"
_AT_ONCE = 5000
_KEPT = 4  # answers

T = TypeVar("T")
Asked = tuple[str, tuple[Turn, ...]]  # a prompt's id and its turns


class Split(NamedTuple):
    """Prompts with their ids, each once, in the order of the ids; how many were left out, by reason; and how many there are on
    either side before any are drawn."""

    train: list[Asked]
    held_out: list[Asked]
    left_out: dict[str, int]
    all_train: int
    all_held_out: int


def chosen_prompts(
    workspace: Workspace, data: str, *, held_out: float, split_seed: int, count: int, looked_at: int,
    seen: Set[str] = frozenset(), prompts_from: str = "",
) -> Split:  # fmt: skip
    """Prompts of `data` (DATASET, DATASET/SUBSET, release:NAME or release:NAME/SUBSET; several with commas) to train on, and
    held-out ones of `prompts_from`, or else of the same data.

    A prompt's side is decided by its first human turn, as a pair's is where a reward model is trained: with the same share and
    seed no prompt of the one, nor a longer version of it, is on the other side of the other. `count` and `looked_at` are how
    many of each are drawn, by their ids, which are hashes: the same ones each time, fewer are the beginning of more; 0: all.
    Held-out prompts are left out that are in `seen`, by id, or near to one of these, and those near to any prompt on the train
    side, drawn or not.
    Raises ValueError for data that is not there, or that leaves no prompt on a side that is wanted.
    """
    sides = _sides(workspace, data, prompts_from or data, held_out, split_seed)
    known = seen | _near_seen(workspace, sides, seen)
    unseen = [one for one in sides.held_out if one[0] not in known]
    clean = [one for one in unseen if one[0] not in sides.near]
    left_out = {NO_ASKING: sides.unasked, SEEN: len(sides.held_out) - len(unseen), NEAR: len(unseen) - len(clean)}
    left_out = {why: many for why, many in left_out.items() if many}
    _check(data, len(sides.train), len(clean), held_out=held_out, left_out=left_out)
    train, held = _read(workspace, sides.train[: count or None]), _read(workspace, clean[: looked_at or None])
    return Split(train, held, left_out, len(sides.train), len(clean))


def _near_seen(workspace: Workspace, sides: "_Sides", seen: Set[str]) -> Set[str]:
    """The held-out prompts near to one of `seen`. What is on the train side was compared with already."""
    others = seen - {one for one, _ in sides.train}
    asked = [one for one in sides.held_out if one[0] not in seen and one[0] not in sides.near]
    if not others or not asked:
        return frozenset()

    def near() -> Set[str]:
        turns = [tuple(unpacked(one)) for one in workspace.policies.prompts(others).values()]
        return frozenset(near_to(_read(workspace, asked), turns))

    return _kept(workspace, "prompts near to what was learned from", (_digest(one for one, _ in asked), _digest(others)), near)


Place = tuple[str, str]  # a prompt's id, and that of a pair with this prompt


class _Sides(NamedTuple):
    train: list[Place]
    held_out: list[Place]
    near: frozenset[str]  # ids of held-out prompts
    unasked: int  # prompts that do not end in a human turn


def _sides(workspace: Workspace, data: str, prompts_from: str, held_out: float, split_seed: int) -> _Sides:
    """All prompts of both sides, without their texts. The last answers are kept: the runs of a grid ask alike."""
    of = _places(workspace, data)
    looked_among = of if prompts_from == data else _places(workspace, prompts_from)
    places = of | looked_among
    key = _digest(places), held_out, split_seed
    whole = _kept(workspace, "prompts held out", key, lambda: _divided(workspace, places, held_out, split_seed))
    held = [one for one in whole.held_out if one[0] in looked_among]
    return whole._replace(train=[one for one in whole.train if one[0] in of], held_out=held)


def _kept(workspace: Workspace, what: str, key: Any, made: Callable[[], T]) -> T:
    """An answer made for this key, the last few of which are kept."""
    kept: dict[Any, T] = workspace.held.setdefault(what, {})
    found = kept.get(key)
    if found is None:
        found = made()
        for old in list(kept)[: max(0, len(kept) + 1 - _KEPT)]:
            kept.pop(old, None)
        kept[key] = found
    return found


def _digest(ids: Iterable[str]) -> bytes:
    return blake2b("".join(sorted(ids)).encode(), digest_size=16).digest()


def _divided(workspace: Workspace, places: dict[str, str], held_out: float, split_seed: int) -> _Sides:
    asked = {one: turns for one, turns in _read(workspace, sorted(places.items())) if turns[-1].role == "user"}
    train = {one for one, turns in asked.items() if reward_training.split_of_turns(turns, held_out, split_seed) == "train"}
    held = [one for one in asked if one not in train]
    near = near_to([(one, asked[one]) for one in held], [asked[one] for one in train])
    unasked = sum(one not in asked for one in places)
    return _Sides(
        [(one, places[one]) for one in asked if one in train], [(one, places[one]) for one in held], frozenset(near), unasked
    )


def near_to(held_out: Sequence[Asked], train: Iterable[tuple[Turn, ...]]) -> set[str]:
    """The ids of those held-out prompts that are near to one of `train`, or to what is near to one, and so on.

    Near are whole conversations, or the human turns they begin with, that share most of their words (curation/filters/near.py:
    a Jaccard index of neighbouring words of 0.6 and more; below 30 words, the same but for case, spaces and punctuation).
    """
    trained = dict.fromkeys(text for turns in train for text in _texts(turns))
    held = {prompt_id: _texts(turns) for prompt_id, turns in held_out}
    texts = dict.fromkeys([*trained, *(text for some in held.values() for text in some)])
    nearness = Nearness()
    for text in texts:
        nearness.add(Pair((turn("user", text),), Response(""), Response("")))
    names = list(texts)
    clusters = {names[place]: member.cluster for place, member in nearness.members(names).items()}
    taken = {clusters[text] for text in trained if text in clusters}
    return {
        prompt_id for prompt_id, some in held.items()
        if any(text in trained or clusters.get(text) in taken for text in some)
    }  # fmt: skip


def _texts(turns: Sequence[Turn]) -> tuple[str, ...]:
    """The whole conversation, and the human turn it begins with; without words there is nothing to compare."""
    first = next((one.content for one in turns if one.role == "user"), "")
    return tuple(text for text in ("\n".join(one.content for one in turns), first) if text.strip())


def _places(workspace: Workspace, data: str) -> dict[str, str]:
    """Every prompt of the data by its id, with a pair that holds it."""
    parts = list(reward_training.parts(data))
    if not parts:
        raise ValueError(f"data is {data!r}: expected DATASET, DATASET/SUBSET, release:NAME or release:NAME/SUBSET")
    wanted = {one.pair_id for part in parts for one in reward_training.chosen_of(workspace, *part, count=0)}
    known = {one.name: one.dataset for one in workspace.releases.all()}
    found: dict[str, str] = {}
    for dataset in dict.fromkeys(dataset or known[release] for dataset, release, _ in parts):
        for pair_id, prompt_id, _, _ in workspace.pairs.sides(dataset):
            if pair_id in wanted:
                found.setdefault(prompt_id, pair_id)
    return found


def behind(workspace: Workspace, data: str) -> str:
    """The same data with each release's dataset in its place: what is held out of one is held out of the other."""
    known = {one.name: one.dataset for one in workspace.releases.all()}
    parts = [(dataset or known.get(release, ""), subset) for dataset, release, subset in reward_training.parts(data)]
    named = [f"{dataset}/{subset}" if subset else dataset for dataset, subset in parts if dataset]
    return ",".join(dict.fromkeys(named))


def _read(workspace: Workspace, places: Sequence[Place]) -> list[Asked]:
    """These prompts with their turns; what has none is left out."""
    found: list[Asked] = []
    for start in range(0, len(places), _AT_ONCE):
        pairs = workspace.pairs.many([pair_id for _, pair_id in places[start : start + _AT_ONCE]])
        found += [(pair.prompt_id, pair.prompt) for pair in pairs if pair.prompt]
    return found


def _check(data: str, train: int, clean: int, *, held_out: float, left_out: dict[str, int]) -> None:
    if held_out < 1 and not train:
        raise ValueError(f"{data!r} leaves no prompt to train on: expected a smaller held_out ({held_out:g} now) or more data")
    if held_out > 0 and not clean:
        why = ", ".join(f"{many:,}: {reason}" for reason, many in left_out.items() if many)
        raise ValueError(
            f"{data!r} leaves no held-out prompt{f' ({why})' if why else ''}: expected a larger held_out ({held_out:g} now) or "
            "more data"
        )
