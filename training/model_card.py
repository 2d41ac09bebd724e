"""The card of a reward model that was trained here: its run's summary as Markdown, with the YAML header of Hugging Face."""

import json
import math
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from statistics import NormalDist
from typing import Any

from training import loading
from training.models import located

_PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "scikit-learn", "sentence-transformers")

_LICENCES = {"smollm2": "apache-2.0", "minilm": "apache-2.0"}  # of the built-in models, whose packages bring no card
_OF_HEADS = ("embeddings", "penalty")
_OF_BOTH = ("model", "base", "data", "seed", "label_smoothing", "margin_weight")


def card(summary: Mapping[str, Any]) -> str:
    """The text of README.md, of what summary.json says."""
    parts = [_header(summary), _opening(summary), _held_out(summary), _data(summary), _use(summary), _settings(summary)]
    return "\n\n".join(parts) + "\n"


def base_of(name: str, place: loading.Place) -> dict[str, str]:
    """What a model was made from: `name` as it is shown, its id on the hub where it is one, its files, its licence."""
    found = located(name)
    on_hub = not found.built_in and not Path(found.place).is_dir()
    return {
        "name": name if on_hub or found.built_in else Path(found.place).name,
        "hub": name if on_hub else "",
        "fingerprint": loading.fingerprint(place),
        "licence": loading.licence(place) or _LICENCES.get(name if found.built_in else "", ""),
    }


def wilson(successes: float, n: int) -> tuple[float, float]:
    """The 95% Wilson score interval of a share (Journal of the American Statistical Association 22 (1927) 209).

    Half a success is a tie. Raises ValueError where nothing was counted.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n}: expected 0 to n successes, and n at least 1")
    z = NormalDist().inv_cdf(0.975)
    middle = (successes + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * math.sqrt(successes * (n - successes) / n + z**2 / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


def versions() -> dict[str, str]:
    """The versions of what trains, of packages that are installed."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def code(text: object, *, longest: int = 200) -> str:
    """Any text as a code span on one line, shortened: it can form neither Markdown nor HTML."""
    line = "".join(one if one.isprintable() else " " for one in str(text)).strip().replace("`", "'").replace("|", "¦")
    return f"`{line[:longest]}{'…' if len(line) > longest else ''}`" if line else "(none)"


def _header(summary: Mapping[str, Any]) -> str:
    lines = ["---"]
    if summary["licence"]:
        lines.append(f"license: {json.dumps(summary['licence'])}")
    if summary["base"]["hub"]:
        lines.append(f"base_model: {json.dumps(summary['base']['hub'])}")
    if summary["family"] == "classifier":
        lines += ["library_name: transformers", "pipeline_tag: text-classification"]
    lines += ["tags:", *(f"- {tag}" for tag in ("reward-model", "preference", "rlhf"))]
    return "\n".join([*lines, "---"])


def _opening(summary: Mapping[str, Any]) -> str:
    base = summary["base"]
    made = f"{code(base['name'])} (files {code(base['fingerprint'])})"
    licence = f"The base's licence: {code(summary['licence'])}." if summary["licence"] else "The base names no licence."
    return (
        f"# Reward model {code(summary['model'])}\n\n"
        f"Gives a response to a prompt a score, the higher the better. Family {code(summary['family'])}, made from {made}. "
        f"{licence}"
    )


def _held_out(summary: Mapping[str, Any]) -> str:
    found = summary["held_out"]
    if not found["n"]:
        return "## How it fares\n\nNo pairs were held out: how well it does is not known."
    rows = [("all", found), *sorted(found["subsets"].items())] if len(found["subsets"]) > 1 else [("all", found)]
    table = as_table(("held-out pairs of", "accuracy", "95% interval", "n", "ties"), (_fares(*row) for row in rows))
    return (
        "## How it fares\n\nThe share of held-out pairs in which the chosen response scores higher, a tie counting one half, "
        f"with its Wilson interval.\n\n{table}"
    )


def _fares(name: str, tally: Mapping[str, Any]) -> tuple[str, ...]:
    low, high = wilson(tally["right"] + tally["ties"] / 2, tally["n"])
    of = "all subsets" if name == "all" else code(name)
    return of, f"{tally['accuracy']:.3f}", f"{low:.3f} to {high:.3f}", f"{tally['n']:,}", f"{tally['ties']:,}"


def _data(summary: Mapping[str, Any]) -> str:
    pairs, long = summary["pairs"], summary["too_long"]
    subsets = as_table(
        ("subset", "learned from", "held out"),
        (
            (code(name), f"{pairs['train']['subsets'].get(name, 0):,}", f"{pairs['held_out']['subsets'].get(name, 0):,}")
            for name in sorted({*pairs["train"]["subsets"], *pairs["held_out"]["subsets"]})
        ),
    )
    what = "left out" if summary["training"]["too_long"] == "drop" and summary["family"] == "classifier" else "cut"
    return (
        f"## Data\n\n{code(summary['data'])}: {pairs['train']['n']:,} pairs to learn from, {pairs['held_out']['n']:,} held "
        f"out. {long:,} pairs have a text longer than the model reads and were {what}.\n\nsha256 of the pairs used, in order: "
        f"{code(summary['data_hash'])}\n\n{subsets}"
    )


def _use(summary: Mapping[str, Any]) -> str:
    settings = ", ".join(f"{name} {code(value)}" for name, value in summary["settings"].items() if name != "source")
    return (
        "## Use\n\nScores are on a scale of their own: only differences between responses to one prompt mean something. "
        f"Read it as it was trained: {settings or 'as it stands'}."
    )


def _settings(summary: Mapping[str, Any]) -> str:
    of_head = summary["family"] == "minilm-bt"
    shown = {
        name: Path(str(value)).name if name in ("base", "embeddings") and Path(str(value)).is_dir() else value
        for name, value in summary["training"].items()
        if name in _OF_BOTH or (name in _OF_HEADS) == of_head
    }
    table = as_table(("setting", "value"), ((name, code(value)) for name, value in shown.items()))
    notes = "".join(f"\n- {note}" for note in summary["notes"])
    made = ", ".join(f"{name} {version}" for name, version in summary["versions"].items())
    return f"## How it was made\n\n{summary['steps']:,} steps.{notes}\n\n{table}\n\nMade with {made}."


def as_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown; its cells are texts that are safe already."""
    head = list(head)
    lines = [head, ["---"] * len(head), *(list(row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
