"""Trains a reward model on pairs, as a background run: `python -m training.reward RUN_FOLDER`.

    input/pairs.parquet       what it learns from and is tried on: see training/reward_data.py
    metrics.jsonl             a line a step
    model/                    the reward model, with a card
    output/summary.json       what was made and how it fares on the held-out pairs; it is written last

A stopped run goes on from its last checkpoint, on a CPU to the very numbers of an undisturbed one. A run that is told members
makes an ensemble of them instead: see training/reward_ensemble.py.
"""

import shutil
from typing import Any

from training import engine, model_card, reward_data, reward_ensemble
from training.machine import see_one_gpu
from training.reasons import plain_reasons
from training.reward_data import MODEL, Trained
from training.reward_settings import HEAD, Training
from training.run import Run, say, write_json

SUMMARY = "summary.json"


def train(run: Run) -> None:
    """The job. What is finished is not done again. Raises ValueError, OSError or MemoryError with a sentence that says why
    it cannot go on."""
    if (run.output / SUMMARY).exists():
        return
    told = run.config()
    if "members" in told:
        reward_ensemble.join(run)
        return
    settings = Training.model_validate(told)
    run.tell(0, 1, "pairs", f"opening {settings.base}", seconds=0)
    smaller = (
        f"less than {settings.batch_pairs} pairs at once (batch_pairs, with more in accumulate), shorter texts than "
        f"{settings.max_length:,} tokens (max_length), or LoRA (lora_rank)"
    )
    with plain_reasons(run, smaller):
        made = _made(run, settings)
        found = summary(settings, made)
        (run.folder / MODEL / "README.md").write_text(model_card.card(found), encoding="utf-8")
        write_json(run.output / SUMMARY, found)
    tally = made.tally()
    words = f"held-out accuracy {tally.accuracy:.3f} (n={tally.n:,})" if tally.accuracy is not None else "nothing held out"
    say(words)
    for checkpoint in run.checkpoints.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)  # three times the size of the model
    pairs = len(made.used.train) * settings.epochs
    run.tell(pairs, pairs, "pairs", words)


def _made(run: Run, settings: Training) -> Trained:
    pairs = reward_data.read(run.input)
    if settings.base == HEAD:
        from training.reward_head import train as train_head

        return train_head(run, settings, pairs)
    see_one_gpu()
    from training.reward_classifier import train as train_classifier

    return train_classifier(run, settings, pairs)


def summary(settings: Training, made: Trained) -> dict[str, Any]:
    """What summary.json says: how the model is registered, what it was made of, how it fares."""
    tally = made.tally()
    return {
        "model": settings.model,
        "family": made.family,
        "settings": {"source": MODEL, **made.settings},  # its folder, as seen from the run's
        "base": made.base,
        "licence": made.base["licence"],
        "training": settings.model_dump(mode="json"),
        "data": settings.data,
        "data_hash": made.used.hash(),
        "pairs": made.used.counts(),
        "too_long": sum(made.too_long.values()),
        "too_long_by_split": made.too_long,
        "steps": made.steps,
        "held_out": {**tally.record(), "subsets": {name: one.record() for name, one in made.by_subset().items()}},
        "notes": list(made.notes),
        "versions": model_card.versions(),
    }


if __name__ == "__main__":
    engine.main(train)
