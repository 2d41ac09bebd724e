"""Makes an ensemble of reward models, those that other runs beside it have trained among them: a run of training/reward.py
that is told `members`.

    input/texts.parquet       prompt, response: what the mean and spread of its members' scores are measured on
    output/summary.json       its settings as a family (training/rewards/ensemble.py); it is written last

Nothing is trained and no weights are written: the members stay where they are.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from training import beside, model_card, rewarding
from training.policy_settings import Named
from training.reasons import plain_reasons
from training.rewards.base import Conversation, Numbers
from training.rewards.registry import family
from training.run import Run, say, write_json
from training.score import SUMMARY, TEXTS, conversation

FAMILY = "ensemble"
How = Literal["mean", "worst", "uncertainty"]
HOWS: tuple[str, ...] = get_args(How)
_MEASURED = "measured.json"  # in the checkpoints: of each member that is done its scores' mean and standard deviation


class Joining(BaseModel):
    """What a run is told that makes an ensemble."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(min_length=1)
    members: tuple[Named, ...] = Field(min_length=2)
    how: How
    weight: float = Field(0.1, ge=0)
    data: str = ""  # what the texts are, in words
    device: str = "auto"


def write_texts(folder: Path, prompts: Sequence[str], responses: Sequence[str]) -> None:
    """Write what the scales are measured on into a run's input folder: conversations, each as JSON."""
    schema = pa.schema([("prompt", pa.string()), ("response", pa.string())])
    pq.write_table(pa.table({"prompt": list(prompts), "response": list(responses)}, schema), folder / TEXTS)


def join(run: Run) -> None:
    """The job. What is finished is not done again. Raises ValueError for a member that is not there, that is no longer what
    it was, or that scores all texts alike, and MemoryError with a sentence that says what to change."""
    if (run.output / SUMMARY).exists():
        return
    settings = Joining.model_validate(run.config())
    families = [rewarding.family_of(one) for one in settings.members]  # one that cannot be used is better known at once
    prompts, texts = (
        [conversation(one) for one in column.to_pylist()]
        for column in pq.read_table(run.input / TEXTS, columns=["prompt", "response"]).columns
    )
    with plain_reasons(run, "a smaller batch_tokens of the member, or less of it in memory (device=cpu)"):
        found = _measured(run, settings, prompts, texts)
    made = family(
        FAMILY,
        {
            "members": [{"family": one.name, **one.model_dump(mode="json", exclude_defaults=True)} for one in families],
            "how": settings.how, "weight": settings.weight, "centres": [float(f"{mean:.6g}") for mean, _ in found],
            "scales": [float(f"{sd:.6g}") for _, sd in found],
        },
    )  # fmt: skip
    kept = made.model_dump(mode="json", exclude_defaults=True)
    notes = [
        f"{one.name}: mean {mean:.6g}, standard deviation {sd:.6g} over {len(texts):,} texts of {settings.data}"
        for one, (mean, sd) in zip(settings.members, found, strict=True)
    ]
    for note in notes:
        say(note)
    summary = {
        "model": settings.model, "family": FAMILY, "settings": beside.placed(kept, run.folder.parent),
        "members": [{"name": one.name, "run": _run_id(one), "fingerprint": one.fingerprint} for one in settings.members],
        "data": settings.data, "texts": len(texts), "notes": notes, "versions": model_card.versions(),
    }  # fmt: skip
    write_json(run.output / SUMMARY, summary)
    run.tell(len(settings.members), len(settings.members), "members", f"{settings.how} of {len(settings.members)}")


def _run_id(member: Named) -> str:
    return member.run.rstrip("/").rpartition("/")[2]


def _measured(
    run: Run, settings: Joining, prompts: Sequence[Conversation], texts: Sequence[Conversation]
) -> list[tuple[float, float]]:
    """The mean and the standard deviation of each member's scores of these texts, written down member by member."""
    file = run.checkpoints / _MEASURED
    known: dict[str, list[float]] = json.loads(file.read_text()) if file.exists() else {}
    for number, one in enumerate(settings.members):
        if one.name in known:
            continue
        tell = partial(run.tell, number, len(settings.members), "members", f"{one.name} scores {len(texts):,} texts")
        tell(seconds=0)
        scores = _scores(one, prompts, texts, settings.device, tell)
        spread = float(scores.std(ddof=1)) if len(scores) > 1 else 0.0
        if spread <= 1e-12 * max(1.0, float(np.abs(scores).max(initial=0.0))):
            raise ValueError(
                f"{one.name} scores all {len(texts):,} texts of {settings.data} alike: expected scores that differ, by whose "
                "standard deviation a member's scores are divided"
            )
        known[one.name] = [float(scores.mean()), spread]
        write_json(file, known)
    return [(known[one.name][0], known[one.name][1]) for one in settings.members]


def _scores(
    named: Named, prompts: Sequence[Conversation], texts: Sequence[Conversation], device: str, tell: Callable[[], None]
) -> Numbers:
    """A member's score of each text, (texts,); `tell` is called between batches, and raises Cancelled."""
    with rewarding.opened(named, device=device) as rewarder:
        work = rewarder.scorer.prepare(prompts, texts)
        values = np.full(len(texts), np.nan)
        for number, batch in enumerate(work.batches):
            tell()
            values[list(batch.places)] = work.run(number)
    lost = int((~np.isfinite(values)).sum())
    if lost:
        raise ValueError(f"{named.name} gave {lost:,} of {len(texts):,} texts no number: expected a score of each")
    return values
