"""What SFT and DPO learn from: the data's pairs, these labelled anew by a reward model, or pairs the start itself answered."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from training import reward_data, rewarding
from training.policies import Policy
from training.policy_data import Prompt, prompts_hash, write_table
from training.policy_settings import DirectPreference, Learning
from training.policy_texts import Reading, Texts
from training.reward_data import Preference, Split
from training.rewards.base import Conversation, Message, Numbers
from training.run import Run, say
from training.sampling import Response, sampled

_AT_ONCE = 256  # pairs scored, or prompts answered, between two looks whether to stop
_DRAWN = pa.schema([("place", pa.int32()), ("ids", pa.list_(pa.int32())), ("stopped", pa.bool_())])


class Found(NamedTuple):
    """What is learned from and what it is tried on, the hash of the data that was given, and what people should know."""

    learned: list[Texts]
    held_out: list[Texts]
    data_hash: str
    notes: list[str]
    generated: int = 0  # tokens sampled for it


def labelled(run: Run, policy: Policy, settings: Learning) -> Found:
    """The pairs of the data, by their labels."""
    split = reward_data.read(run.input)
    reading = Reading(run, policy, settings)
    return Found(reading.part(split.train), reading.part(split.held_out), split.hash(), reading.notes())


def chosen(run: Run, policy: Policy, settings: Learning) -> Found:
    """The chosen responses of the data: a pair whose two responses are the same is as good as another."""
    split = reward_data.read(run.input)
    reading = Reading(run, policy, settings, sides=("chosen",))
    return Found(reading.part(split.train), reading.part(split.held_out), split.hash(), reading.notes())


def relabelled(run: Run, policy: Policy, settings: DirectPreference) -> Found:
    """The same responses, the one that the reward model scores higher chosen; pairs it scores alike are dropped."""
    assert settings.reward is not None
    split = reward_data.read(run.input)
    pairs = [*split.train, *split.held_out]
    scores = kept(run.checkpoints / "labels.parquet", ("chosen", "rejected"), lambda: _both_scored(run, settings, pairs))
    turned = [by_score(pair, *both) for pair, both in zip(pairs, scores.tolist(), strict=True)]
    swapped = sum(new is not None and new.chosen != old.chosen for new, old in zip(turned, pairs, strict=True))
    alike = sum(one is None for one in turned)
    say(f"{settings.reward.name} turned {swapped:,} of {len(pairs):,} pairs round and scored {alike:,} alike")
    count = len(split.train)
    left = Split(*([one for one in part if one is not None] for part in (turned[:count], turned[count:])))
    reading = Reading(run, policy, settings)
    notes = [
        f"{settings.reward.name} scored both responses of {len(pairs):,} pairs: {swapped:,} were turned round, {alike:,} "
        "scored alike and dropped"
    ]
    return Found(reading.part(left.train), reading.part(left.held_out), split.hash(), notes + reading.notes())


def by_score(pair: Preference, chosen: float, rejected: float) -> Preference | None:
    """The pair with the side of the higher score chosen; None where the scores are equal."""
    if chosen == rejected:
        return None
    return pair if chosen > rejected else pair._replace(chosen=pair.rejected, rejected=pair.chosen)


def _both_scored(run: Run, settings: DirectPreference, pairs: Sequence[Preference]) -> Numbers:
    """The reward model's scores of chosen and rejected, (pairs, 2)."""
    responses = [side for pair in pairs for side in (pair.chosen, pair.rejected)]
    return _scored(run, settings, [pair.prompt for pair in pairs for _ in range(2)], responses).reshape(-1, 2)


def _scored(
    run: Run, settings: DirectPreference, prompts: Sequence[Conversation], responses: Sequence[Conversation]
) -> Numbers:  # fmt: skip
    """The reward model's scores, (n,). Raises ValueError where one is no number."""
    assert settings.reward is not None
    found = np.zeros(len(prompts))
    with rewarding.opened(settings.reward, device=settings.device) as rewarder:
        for start in range(0, len(prompts), 2 * _AT_ONCE):
            run.tell(start, len(prompts), "responses", f"{rewarder.name} scores them")
            some = slice(start, start + 2 * _AT_ONCE)
            found[some] = rewarder.scorer.score(prompts[some], responses[some]).values
    wrong = int((~np.isfinite(found)).sum())
    if wrong:
        raise ValueError(
            f"{settings.reward.name} gave {wrong:,} of {len(found):,} responses no number: expected a score of each"
        )
    return found


def answered(run: Run, policy: Policy, settings: DirectPreference, prompts: Sequence[Prompt]) -> Found:
    """Of `drawn` responses of the start to each prompt, the best and the worst by the reward model; prompts whose responses
    score alike are dropped. What was sampled is kept with the checkpoints and not sampled again.

    Raises ValueError where there is no prompt to answer.
    """
    assert settings.reward is not None
    if not prompts:
        raise ValueError("no prompt to answer: expected some in prompts.parquet whose use is train")
    asked = policy.prompt_ids([one.turns for one in prompts], settings.max_prompt)
    said = _drawn(run, policy, settings, asked)
    turns = [one.turns for one in prompts for _ in range(settings.drawn)]
    texts = [policy.text(one.ids) for some in said for one in some]
    kept_scores = kept(run.checkpoints / "scores.parquet", ("score",), lambda: _texts_scored(run, settings, turns, texts))
    pairs, alike = best_and_worst(asked, said, kept_scores.reshape(-1, settings.drawn))
    cut = sum(not one.stopped for some in said for one in some)
    notes = [
        f"{settings.drawn} responses of the start to each of {len(prompts):,} prompts, scored by {settings.reward.name}: the "
        f"best and the worst are a pair; {alike:,} prompts were dropped, as all their responses scored alike",
        f"{cut:,} of {len(texts):,} sampled responses were cut off at {settings.max_tokens:,} tokens",
    ]
    return Found(pairs, [], prompts_hash(prompts), notes, sum(len(one.ids) for some in said for one in some))


def _texts_scored(
    run: Run, settings: DirectPreference, prompts: Sequence[Conversation], texts: Sequence[str]
) -> Numbers:  # fmt: skip
    return _scored(run, settings, prompts, [(Message("assistant", text),) for text in texts])[:, None]


def best_and_worst(
    asked: Sequence[list[int]], said: Sequence[Sequence[Response]], scores: Numbers
) -> tuple[list[Texts], int]:  # fmt: skip
    """Pairs of the best and the worst response to each prompt by scores (prompts, drawn), the first of equals; and how many
    prompts have none, their responses scoring alike."""
    pairs = [
        Texts(prompt, list(some[int(values.argmax())].ids), list(some[int(values.argmin())].ids))
        for prompt, some, values in zip(asked, said, scores, strict=True)
        if values.max() > values.min()
    ]
    return pairs, len(asked) - len(pairs)


def _drawn(run: Run, policy: Policy, settings: DirectPreference, asked: Sequence[list[int]]) -> list[list[Response]]:
    """The start's responses, [prompt][sample], a part of the prompts at a time."""
    found: list[list[Response]] = []
    for start in range(0, len(asked), _AT_ONCE):
        places = range(start, min(start + _AT_ONCE, len(asked)))
        file = run.checkpoints / f"drawn-{start:08d}.parquet"
        if not file.is_file():
            _write_drawn(file, places, _sampled(run, policy, settings, asked, places))
        table = pq.read_table(file)
        flat = [Response(*one) for one in zip(*(table.column(name).to_pylist() for name in _DRAWN.names[1:]), strict=True)]
        found += [flat[first : first + settings.drawn] for first in range(0, len(flat), settings.drawn)]
    return found


def _sampled(
    run: Run, policy: Policy, settings: DirectPreference, asked: Sequence[list[int]], places: range
) -> list[list[Response]]:  # fmt: skip
    def tell(done: int, whole: int) -> None:
        run.tell(places.start * settings.drawn + done, len(asked) * settings.drawn, "responses", "answering prompts")

    return sampled(
        policy, [asked[place] for place in places], samples=settings.drawn, max_tokens=settings.max_tokens,
        temperature=settings.temperature, seed=seed_of(settings.seed, 0), batch_tokens=settings.batch_tokens, places=places,
        tell=tell,
    )  # fmt: skip


def seed_of(seed: int, number: int) -> int:
    """A seed for the sampling of this number, none of which any setting names: held-out prompts are answered with the plain
    one."""
    return seed + ((1 + number) << 32)


def _write_drawn(file: Path, places: range, said: Sequence[Sequence[Response]]) -> None:
    rows = [
        {"place": place, "ids": one.ids, "stopped": one.stopped}
        for place, some in zip(places, said, strict=True)
        for one in some
    ]
    write_table(file, pa.Table.from_pylist(rows, _DRAWN))


def kept(file: Path, names: Sequence[str], compute: Callable[[], Numbers]) -> Numbers:
    """Numbers (rows, names), computed once: after a stop they are read from their file."""
    if not file.is_file():
        found = compute()
        write_table(file, pa.table({name: pa.array(found[:, place], pa.float64()) for place, name in enumerate(names)}))
    table = pq.read_table(file)
    return np.stack([table.column(name).to_numpy() for name in names], axis=-1)
