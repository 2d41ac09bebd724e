"""Looks at a policy while it is trained: what it answers to held-out prompts, how far it is from its start, what it scores.

    checkpoints/looks/point-N/part-K-of-M.parquet    the answers at a point, so many prompts a part, kept as they are sampled
    checkpoints/looks/scores-NAME.parquet            what a reward model says of all answers, kept when it is done
    output/responses.parquet                         all of it: see training/policy_data.py

A part that is there is not sampled again. Answers at all points are drawn with the same random numbers.
"""

import time
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from training import policy_data, rewarding
from training.log_probabilities import log_probs
from training.policies import Policy
from training.policy_data import Answer, Prompt
from training.policy_settings import Looked, Named
from training.rewards.base import Message
from training.rewards.packing import Ids
from training.run import Run, say
from training.sampling import Response, sampled

_LOOKS = "looks"
_PART_ON_CPU, _PART_ON_GPU = 64, 4096  # responses between two savings
_SECONDS, _OF = b"seconds", b"of"  # what is written into a file beside its columns


class Look(NamedTuple):
    """What a policy answered at a point: by prompt in the order given, then by sample."""

    answers: list[Answer]
    seconds: float  # that it took

    def numbers(self) -> dict[str, float]:
        """Their means: KL to the start in nats a response (where it was measured), length in tokens, share that stopped."""
        ratios = [one.log_ratio for one in self.answers if one.log_ratio is not None]
        found = {"kl": float(np.mean(ratios))} if ratios else {}
        lengths, stopped = zip(*((one.tokens, one.stopped) for one in self.answers), strict=True)
        return {**found, "length": float(np.mean(lengths)), "stopped": float(np.mean(stopped))}


class Looks:
    """The looks of one run, taken and kept."""

    def __init__(
        self, run: Run, settings: Looked, prompts: list[Prompt], *, measured: bool = True, top_p: float = 1.0,
        top_k: int = 0,
    ) -> None:  # fmt: skip
        """`measured`: whether log pi - log pi_start of each answer is computed; a policy that is its own start has none."""
        self._run, self._settings, self._prompts, self._measured = run, settings, prompts, measured
        self._top_p, self._top_k = top_p, top_k
        self._folder = run.checkpoints / _LOOKS
        self.cut = 0  # prompts too long for max_prompt, as the last look found

    def look(self, policy: Policy, point: int) -> dict[str, float]:
        """What the policy answers at this point of its training, in numbers: `kl`, `length`, `stopped`; {} without prompts.

        Point 0 is the start. Raises Cancelled between batches; the parts that are finished stay.
        """
        if not self._prompts:
            return {}
        parts = self._parts(policy, point)
        with policy.computing():
            self._answer(policy, point, parts)
        return _read(parts).numbers()

    def points(self) -> list[int]:
        """The points that were looked at to the end."""
        found = [int(one.name.removeprefix("point-")) for one in self._folder.glob("point-*")]
        return sorted(point for point in found if self._whole(point))

    def at(self, point: int) -> Look:
        """What was answered at a point that was looked at, in the order of the prompts and samples."""
        found = _read(self._whole(point))
        place = {one.prompt_id: number for number, one in enumerate(self._prompts)}
        return Look(sorted(found.answers, key=lambda one: (place[one.prompt_id], one.sample)), found.seconds)

    def finish(self) -> list[dict[str, Any]]:
        """Score all answers by each reward model of `scored_by`, one in memory at a time, and write responses.parquet.

        Returns for each point its number, n, kl (None: not measured), length, stopped, and mean scores by model.
        """
        looks = {point: self.at(point) for point in self.points()}
        answers = [one for look in looks.values() for one in look.answers]
        scores = {named.name: self._scored(named, answers) for named in self._settings.scored_by if answers}
        policy_data.write_table(self._run.output / policy_data.RESPONSES, policy_data.answers_table(answers, scores))
        found, first = [], 0
        for point, look in looks.items():
            n = len(look.answers)
            means = {name: float(np.mean(values[first : first + n])) for name, (values, _) in scores.items()}
            found.append({"point": point, "n": n, "kl": None, **look.numbers(), "scores": means})
            first += n
        return found

    # ---- answers

    def _parts(self, policy: Policy, point: int) -> list[Path]:
        at_once = max(1, (_PART_ON_GPU if policy.device.type == "cuda" else _PART_ON_CPU) // self._settings.samples)
        count = -(-len(self._prompts) // at_once)
        return [self._folder / f"point-{point}" / f"part-{number}-of-{count}.parquet" for number in range(count)]

    def _whole(self, point: int) -> list[Path]:
        """The files of a point, all parts of one partition; none where it was not looked at to the end."""
        files = sorted((self._folder / f"point-{point}").glob("part-*-of-*.parquet"))
        for last in {one.stem.rpartition("-")[2] for one in files}:
            some = [one for one in files if one.stem.endswith(f"-of-{last}")]
            if len(some) == int(last):
                return some
        return []

    def _answer(self, policy: Policy, point: int, parts: Sequence[Path]) -> None:
        """Sample what is missing of a point. Prompts of like length are in one part."""
        parts[0].parent.mkdir(parents=True, exist_ok=True)
        read = policy.prompts_read([one.turns for one in self._prompts], self._settings.max_prompt)
        policy.check_fits(max(len(one) for one in read.ids), self._settings.max_tokens)
        self.cut = int(read.truncated.sum())
        if self.cut and not parts[0].exists():
            say(f"{self.cut:,} of {len(self._prompts):,} held-out prompts are cut to {self._settings.max_prompt:,} tokens")
        order = sorted(range(len(read.ids)), key=lambda place: (-len(read.ids[place]), place))
        size = -(-len(order) // len(parts))
        for number, path in enumerate(parts):
            if not path.exists():
                began, places = time.monotonic(), order[number * size : (number + 1) * size]
                answers = self._part(policy, point, places, [read.ids[place] for place in places], number * size)
                _write(path, policy_data.answers_table(answers, {}), {_SECONDS: str(time.monotonic() - began)})

    def _part(self, policy: Policy, point: int, places: Sequence[int], prompts: Sequence[Ids], before: int) -> list[Answer]:
        """The answers to the prompts of these places, after as many as `before` that are done."""
        settings = self._settings
        total = len(self._prompts) * settings.samples

        def tell(done: int, _: int) -> None:
            self._tell(point, min(total - 1, before * settings.samples + done), total)

        found = sampled(
            policy, prompts, samples=settings.samples, max_tokens=settings.max_tokens, temperature=settings.temperature,
            seed=settings.seed, top_p=self._top_p, top_k=self._top_k, batch_tokens=settings.batch_tokens, places=places,
            tell=tell,
        )  # fmt: skip
        flat = [one for some in found for one in some]
        ratios = self._log_ratios(policy, point, [one for one in prompts for _ in range(settings.samples)], flat)
        rows = [(self._prompts[place].prompt_id, sample) for place in places for sample in range(settings.samples)]
        return [
            Answer(prompt_id, point, sample, policy.text(one.ids), len(one.ids), one.stopped, ratio)
            for (prompt_id, sample), one, ratio in zip(rows, flat, ratios, strict=True)
        ]

    def _log_ratios(
        self, policy: Policy, point: int, prompts: Sequence[Ids], responses: Sequence[Response]
    ) -> Sequence[float | None]:
        """log pi - log pi_start of each response in nats, both at the temperature it was sampled with."""
        if not self._measured:
            return [None] * len(responses)
        if point == 0:
            return [0.0] * len(responses)  # the start itself
        ids = [one.ids for one in responses]
        read = partial(
            log_probs, prompts=prompts, responses=ids, pad=policy.pad, temperature=self._settings.temperature,
            batch_tokens=self._settings.batch_tokens,
        )  # fmt: skip
        ours = read(policy.model)
        with policy.as_start():
            theirs = read(policy.start_model)
        return [float((one.double() - other.double()).sum()) for one, other in zip(ours, theirs, strict=True)]

    def _tell(self, point: int, done: int, total: int) -> None:
        """In a look of a training run the bar stays where it is: its unit is steps."""
        if not self._measured:
            self._run.tell(done, total, "responses")
            return
        at = self._run.progress()
        words = f"answering held-out prompts at step {point:,}: {done:,} of {total:,}"
        self._run.tell(at.done, max(at.total, at.done + 1), at.unit or "steps", words)

    # ---- scores

    def _scored(self, named: Named, answers: Sequence[Answer]) -> tuple[Sequence[float], Sequence[bool]]:
        """The score of each answer by a reward model, and whether its text was cut to be read."""
        path = self._folder / f"scores-{quote(named.name, safe='')}.parquet"
        of = sha256(repr((named.model_dump(mode="json"), [(one.prompt_id, one.text) for one in answers])).encode()).hexdigest()
        if path.exists():
            kept = pq.read_table(path)
            if (kept.schema.metadata or {}).get(_OF) == of.encode():
                return kept.column("score").to_pylist(), kept.column("cut").to_pylist()
        scores, cut = self._computed(named, answers)
        table = pa.table({"score": pa.array(scores, pa.float64()), "cut": pa.array(cut, pa.bool_())})
        self._folder.mkdir(parents=True, exist_ok=True)
        _write(path, table, {_OF: of})
        return scores, cut

    def _computed(self, named: Named, answers: Sequence[Answer]) -> tuple[list[float], list[bool]]:
        """The same, computed: a text that was answered to a prompt more than once is scored once."""
        turns = {one.prompt_id: one.turns for one in self._prompts}
        texts = list(dict.fromkeys((one.prompt_id, one.text) for one in answers))
        place = {one: number for number, one in enumerate(texts)}
        values = np.full(len(texts), np.nan)
        with rewarding.opened(named, device=self._settings.device) as rewarder:
            work = rewarder.scorer.prepare(
                [turns[prompt_id] for prompt_id, _ in texts], [(Message("assistant", text),) for _, text in texts]
            )
            at = self._run.progress()
            for number, batch in enumerate(work.batches):
                words = f"{named.name} scores the answers: {number:,} of {len(work.batches):,} batches"
                self._run.tell(at.done, max(at.total, at.done + 1), at.unit or "responses", words)
                values[list(batch.places)] = work.run(number)
        for lost in np.flatnonzero(~np.isfinite(values)):
            raise ValueError(
                f"{named.name} gave {values[lost]} for {texts[lost][1][:60]!r}: expected a number. Weights that overflow in "
                "bfloat16 often do not in float32 (dtype=float32)"
            )
        rows = [place[one.prompt_id, one.text] for one in answers]
        return values[rows].tolist(), work.truncated[rows].tolist()


def _write(path: Path, table: pa.Table, beside: dict[bytes, str]) -> None:
    policy_data.write_table(path, table.replace_schema_metadata(beside))


def _read(parts: Sequence[Path]) -> Look:
    answers = [one for path in parts for one in policy_data.read_answers(path)]
    return Look(answers, sum(float(pq.read_schema(path).metadata[_SECONDS]) for path in parts))
