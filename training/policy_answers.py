"""What is shown of a policy that learns from its own answers: some of them, step by step, and a word where all were cut.

Each is a line of output/samples.jsonl: step, prompt ([[role, content], ...]), response, reward.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from training.curves import columns
from training.policy_settings import OnPolicy
from training.run import Run

SAMPLES = "samples.jsonl"
SHOWN = 4  # answers at a time


def show(run: Run, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write some answers down."""
    path = run.output / SAMPLES
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)  # in ASCII: other marks than \n end lines, too


def keep_until(run: Run, step: int) -> None:
    """Drop the answers of later steps, which a resumed run does again."""
    path = run.output / SAMPLES
    if path.exists():
        _replace(path, [line for line in path.read_text(encoding="utf-8").splitlines() if _step_in(line) <= step])


def _replace(path: Path, lines: Iterable[str]) -> None:
    half = path.with_suffix(".part")
    half.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    os.replace(half, path)


def _step_in(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # half a line, as a killed process leaves


def nothing_heard(settings: OnPolicy, stopped: float) -> str:
    """What to say of a step of whose answers this share ended: "" unless all were cut and none told what it scores."""
    if stopped > 0 or settings.missing_stop != "penalise":
        return ""
    return (
        f"no answer ended within {settings.max_tokens:,} tokens (max_tokens): each was told {settings.no_stop:g} (no_stop), "
        "whatever the reward model says of it. A higher max_tokens, or missing_stop=score, lets it be heard"
    )


def notes_of(run: Run, settings: OnPolicy) -> list[str]:
    """The same of the whole run, by its metrics."""
    stopped = [one for one in columns(run.folder).get("stopped", []) if one is not None]
    cut = [words for one in stopped if (words := nothing_heard(settings, one))]
    return [f"in {len(cut):,} of {len(stopped):,} steps {cut[0]}"] if cut else []
