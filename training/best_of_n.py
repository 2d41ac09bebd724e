"""Samples n responses to each held-out prompt and picks the best by each reward model, as a background run:
`python -m training.best_of_n RUN_FOLDER`.

    input/prompts.parquet       what is answered: the held-out ones. See training/policy_data.py
    checkpoints/GROUPxSIZE/     samples-K.parquet, and what a reward model says of them, scores-NAME-K.parquet
    output/samples.parquet      prompt_id, sample, text, tokens, stopped, log_p, and for each reward model score/NAME, cut/NAME
    output/responses.parquet    the picks: `reward_model` picked this one as the best of the first `point` samples; at point 0
                                one more sample, that no pick was chosen against: what the start answers
    output/summary.json         what was done; it is written last

`log_p` is the log-probability, in nats, of the whole response with its stop token, at the temperature it was sampled with. A
part that is there is not computed again, and memory holds one part at a time: so many prompts, so many samples of each.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from training import engine, policy_card, policy_data, rewarding
from training.picks import Best, Part, parts_of, picks_table, points, shown
from training.policy_data import CUT, SCORE, SUMMARY, Prompt
from training.policy_settings import BestOfN, Named
from training.reasons import plain_reasons
from training.rewards.base import Message
from training.run import Run, write_json

SAMPLES = "samples.parquet"
SAMPLE_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()), ("sample", pa.int32()), ("text", pa.string()), ("tokens", pa.int32()),
        ("stopped", pa.bool_()), ("log_p", pa.float64()),
    ]
)  # fmt: skip
_ON_CPU, _ON_GPU = 64, 4096  # responses a part, between two savings
_SECONDS, _CUT = b"seconds", b"cut prompts"  # what is written into a file beside its columns


def answer(run: Run) -> None:
    """The job. Raises ValueError, OSError or MemoryError with a sentence that says why it cannot go on."""
    if (run.output / SUMMARY).exists():
        run.drop_checkpoints()  # it may have been stopped just before that
        return
    settings = BestOfN.model_validate(run.config())
    policy_card.code_version()  # as the code is now
    prompts = policy_data.prompts(run.input).held_out
    if not prompts or not settings.scored_by:
        lacks = "held-out prompts" if not prompts else "reward models (scored_by)"
        raise ValueError(f"there are no {lacks}: expected at least one, to {'answer' if not prompts else 'pick the best by'}")
    for named in settings.scored_by:
        rewarding.family_of(named)  # one that cannot be used is better known before than after sampling
    total = len(prompts) * (settings.n + 1)
    run.tell(0, total, "responses", f"opening {settings.base}", seconds=0)
    smaller = (
        "fewer tokens side by side (batch_tokens), fewer samples between two savings (at_once), shorter responses (max_tokens) "
        "or shorter prompts (max_prompt)"
    )
    with plain_reasons(run, smaller):
        _Samples(run, settings, prompts).answer()
    run.drop_checkpoints()
    run.tell(total, total, "responses", f"{total:,} responses to {len(prompts):,} prompts")


class _Samples:
    """The samples of a run: taken, scored and written out, a part at a time."""

    def __init__(self, run: Run, settings: BestOfN, prompts: list[Prompt]) -> None:
        self._run, self._settings, self._prompts = run, settings, prompts
        rows = _ON_GPU if _on_gpu(settings.device) else _ON_CPU
        self._each = settings.n + 1  # and one that is in no pick: what the start itself answers
        size = min(settings.at_once or rows, self._each)
        group = min(len(prompts), max(1, rows // size))
        longest = sorted(range(len(prompts)), key=lambda place: (-sum(len(one.content) for one in prompts[place].turns), place))
        self._parts = parts_of(longest, n=self._each, group=group, size=size)
        self._folder = run.checkpoints / f"{group}x{size}"

    def answer(self) -> None:
        """Everything, the summary last."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._sample()
        for number, named in enumerate(self._settings.scored_by):
            self._score(number, named)
        told = self._write()
        files = [self._sampled(part) for part in self._parts]
        files += [self._scored(named.name, part) for named in self._settings.scored_by for part in self._parts]
        kept = [pq.read_schema(path).metadata for path in files]
        cut = sum(int(one.get(_CUT, 0)) for one in kept)
        found = policy_card.summary(
            self._settings, "best-of-n", model="", steps=0, points=told, trained=0,
            seconds=sum(float(one[_SECONDS]) for one in kept), generated=self._tokens(),
            data_hash=policy_data.prompts_hash(self._prompts),
            notes=[f"{cut:,} prompts were longer than max_prompt and lost their beginning"] if cut else [],
        )  # fmt: skip
        write_json(self._run.output / SUMMARY, found)

    # ---- samples

    def _sample(self) -> None:
        """Take the samples that are missing."""
        missing = [part for part in self._parts if not self._sampled(part).exists()]
        if not missing:
            return
        from training.policies import opened

        settings = self._settings
        policy = opened(settings.base, precision=settings.precision, device=settings.device)
        read = policy.prompts_read([one.turns for one in self._prompts], settings.max_prompt)
        policy.check_fits(max(len(one) for one in read.ids), settings.max_tokens)
        before = len(self._prompts) * self._each - sum(one.responses for one in missing)
        with policy.computing():
            for part in missing:
                began = time.monotonic()
                told = partial(self._tell, before, "", 0)
                table = self._part(policy, part, [read.ids[place] for place in part.places], told)
                cut = int(read.truncated[list(part.places)].sum()) if part.first == 0 else 0
                _write(self._sampled(part), table, {_SECONDS: str(time.monotonic() - began), _CUT: str(cut)})
                before += len(table)
        del policy, read  # its memory is the reward models' now
        rewarding.emptied()

    def _part(self, policy: Any, part: Part, prompts: Sequence[Sequence[int]], tell: Callable[[int, int], None]) -> pa.Table:
        """The samples of a part with their log-probabilities, by prompt, then by sample."""
        from training.log_probabilities import log_probs
        from training.sampling import sampled

        settings = self._settings
        answers = sampled(
            policy, prompts, samples=part.samples, max_tokens=settings.max_tokens, temperature=settings.temperature,
            seed=settings.seed, batch_tokens=settings.batch_tokens, first=part.first, places=part.places, tell=tell,
        )  # fmt: skip
        flat = [one for some in answers for one in some]
        asked = [ids for ids in prompts for _ in range(part.samples)]
        found = log_probs(
            policy.model, asked, [one.ids for one in flat], pad=policy.pad, temperature=settings.temperature,
            batch_tokens=settings.batch_tokens,
        )  # fmt: skip
        keys = [(self._prompts[place].prompt_id, part.first + one) for place in part.places for one in range(part.samples)]
        rows = [
            (*key, policy.text(one.ids), len(one.ids), one.stopped, float(log_p.double().sum()))
            for key, one, log_p in zip(keys, flat, found, strict=True)
        ]
        return pa.Table.from_pylist([dict(zip(SAMPLE_SCHEMA.names, row, strict=True)) for row in rows], SAMPLE_SCHEMA)

    # ---- scores

    def _score(self, model: int, named: Named) -> None:
        """Score what a reward model has not scored yet. A text that was answered to a prompt more than once is scored once."""
        if all(self._scored(named.name, part).exists() for part in self._parts):
            return
        done = 0
        known: dict[tuple[int, str], tuple[float, bool]] = {}
        with rewarding.opened(named, device=self._settings.device) as rewarder:
            for part in self._parts:
                began = time.monotonic()
                if part.first == 0:
                    known = {}  # what is known of the texts of this group of prompts
                path = self._scored(named.name, part)
                texts = pq.read_table(self._sampled(part), columns=["text"]).column(0).to_pylist()
                keys = [(part.places[row // part.samples], text) for row, text in enumerate(texts)]
                if path.exists():
                    kept = pq.read_table(path)
                    told = zip(*(kept.column(name).to_pylist() for name in ("score", "cut")), strict=True)
                    known.update(zip(keys, told, strict=True))
                else:
                    fresh = list(dict.fromkeys(key for key in keys if key not in known))
                    computed = self._computed(rewarder, fresh, partial(self._tell, done, named.name, model + 1))
                    known.update(zip(fresh, computed, strict=True))
                    scores, cut = zip(*(known[key] for key in keys), strict=True)
                    table = pa.table({"score": pa.array(scores, pa.float64()), "cut": pa.array(cut, pa.bool_())})
                    _write(path, table, {_SECONDS: str(time.monotonic() - began)})
                done += len(texts)

    def _computed(
        self, rewarder: rewarding.Rewarder, texts: Sequence[tuple[int, str]], tell: Callable[[int, int], None]
    ) -> Iterator[tuple[float, bool]]:
        """The score of each text, and whether it was cut. Raises ValueError where a score is no number."""
        if not texts:
            return
        work = rewarder.scorer.prepare(
            [self._prompts[place].turns for place, _ in texts], [(Message("assistant", text),) for _, text in texts]
        )
        values, done = np.full(len(texts), np.nan), 0
        for number, batch in enumerate(work.batches):
            tell(done, len(texts))
            values[list(batch.places)] = work.run(number)
            done += len(batch.places)
        for lost in np.flatnonzero(~np.isfinite(values)).tolist():
            raise ValueError(
                f"{rewarder.name} gave {values[lost]} for {texts[lost][1][:60]!r}: expected a number. Weights that overflow in "
                "bfloat16 often do not in float32 (dtype=float32)"
            )
        yield from zip(values.tolist(), work.truncated.tolist(), strict=True)

    # ---- what is written

    def _write(self) -> list[dict[str, Any]]:
        """Write all samples and the picks; returns what the picks come to, by reward model and n."""
        total = len(self._prompts) * self._each
        self._run.tell(total - 1, total, "responses", "writing them", seconds=0)
        names = [named.name for named in self._settings.scored_by]
        best = Best(names, shown(self._settings.n), len(self._prompts))
        path = self._run.output / SAMPLES
        half = path.with_suffix(".part")
        scores = [pa.field(*one) for name in names for one in ((SCORE + name, pa.float64()), (CUT + name, pa.bool_()))]
        with pq.ParquetWriter(half, pa.schema([*SAMPLE_SCHEMA, *scores]), compression="zstd") as writer:
            for part in self._parts:
                table = self._whole(part, names)
                writer.write_table(table)
                best.see(part, table)
        half.replace(path)
        picks = best.picks()
        policy_data.write_table(self._run.output / policy_data.RESPONSES, picks_table(picks, names))
        return points(picks, names)

    def _whole(self, part: Part, names: Sequence[str]) -> pa.Table:
        """The samples of a part with every reward model's scores."""
        table = pq.read_table(self._sampled(part)).replace_schema_metadata()
        for name in names:
            scores = pq.read_table(self._scored(name, part))
            table = table.append_column(SCORE + name, scores.column("score")).append_column(CUT + name, scores.column("cut"))
        return table

    def _tokens(self) -> int:
        return sum(int(np.sum(pq.read_table(self._sampled(part), columns=["tokens"]).column(0))) for part in self._parts)

    def _sampled(self, part: Part) -> Path:
        return self._folder / f"samples-{part.number:06}.parquet"

    def _scored(self, name: str, part: Part) -> Path:
        return self._folder / f"scores-{quote(name, safe='')}-{part.number:06}.parquet"

    def _tell(self, before: int, model: str, stage: int, done: int, _: int) -> None:
        """The bar counts a response by how much of it is done: sampled, and scored by each reward model."""
        total = len(self._prompts) * self._each
        at = (stage * total + before + done) // (1 + len(self._settings.scored_by))
        words = f"{model} scores them: {before + done:,} of {total:,}" if model else f"{before + done:,} of {total:,} sampled"
        self._run.tell(min(at, total - 1), total, "responses", words)


def _write(path: Path, table: pa.Table, beside: Mapping[bytes, str]) -> None:
    policy_data.write_table(path, table.replace_schema_metadata(dict(beside)))


def _on_gpu(device: str) -> bool:
    from training import loading

    return loading.device_of(device).type == "cuda"


if __name__ == "__main__":
    engine.main(answer)
