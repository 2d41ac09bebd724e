"""What a policy that was made here is made of: its run's summary, and its model card written from that.

Every run of policies ends with `summary` in output/summary.json; where it makes a model, `card` is its README.md.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from training import loading
from training.model_card import as_table, base_of, code, versions
from training.policy_settings import PolicySettings

_PACKAGE = "elephant-room"
_ROOT = Path(__file__).resolve().parent.parent
_NOTE = 1000  # characters of a note that are shown

_WAYS = {
    "generate": "its responses were generated, it was not trained",
    "sft": "supervised fine-tuning (SFT): it learned to write the chosen responses",
    "dpo": "direct preference optimisation (DPO, arXiv 2305.18290)",
    "ppo": "proximal policy optimisation (PPO, arXiv 1707.06347)",
    "rloo": "REINFORCE leave-one-out (RLOO, arXiv 2402.14740)",
    "best-of-n": "the best of n samples to each prompt, it was not trained",
}
_PAIRS = {
    "labels": "the pairs of the data, by their labels",
    "relabelled": "the responses of the data, labelled by the reward model (off-policy)",
    "sampled": "responses sampled from the start, labelled by the reward model (on-policy)",
}


def summary(
    settings: PolicySettings, kind: str, *, model: str, steps: int, points: Sequence[Mapping[str, Any]], seconds: float,
    generated: int, trained: int, data_hash: str, notes: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """What summary.json of a run of this kind says (generate, sft, dpo, ppo, rloo, best-of-n).

    `model` is the folder of what it made as seen from the run's, "" where it made none; `steps` those of the optimiser, or 0;
    `points` what Looks.finish returns; `seconds` of work, those before a resume included where they are known; `generated` and
    `trained` count tokens without padding (trained: those of texts a gradient was taken of); `data_hash` is the sha256 of
    what it learned from, or of its prompts where it did not learn; `notes` are sentences for people. Memory is the GPU's
    where there is one, else the process's, in bytes. Call `code_version` at the beginning of a run: files may change while
    it lasts.
    """
    base = base_of(settings.base, loading.place_of(settings.base))
    return {
        "policy": settings.policy,
        "kind": kind,
        "model": model,
        "base": base,
        "licence": base["licence"],
        "settings": settings.model_dump(mode="json"),
        "lineage": lineage(settings, kind, base=base, data_hash=data_hash),
        "data": settings.data,
        "data_hash": data_hash,
        "steps": steps,
        "points": [dict(one) for one in points],
        "seconds": round(seconds, 3),
        "generated": generated,
        "trained": trained,
        "tokens_per_second": round((generated + trained) / seconds, 1) if seconds > 0 else 0.0,
        "peak_memory": peak_memory(),
        "versions": versions(),
        "code": code_version(),
        "notes": list(notes),
    }


def lineage(settings: PolicySettings, kind: str, *, base: Mapping[str, Any], data_hash: str) -> dict[str, Any]:
    """Which start, data, reward model, seed and code version make a policy, and its place in a grid.

    `reward_model` is the one that was optimised, or that labelled the pairs; None where there was none.
    """
    told = settings.model_dump(mode="json")
    reward = told.get("reward")
    return {
        "kind": kind,
        "base": dict(base),
        "data": settings.data,
        "data_hash": data_hash,
        "reward_model": {name: reward[name] for name in ("name", "fingerprint")} if reward else None,
        "pairs": told.get("pairs"),
        "seed": settings.seed,
        "code": code_version(),
        "cell": dict(settings.cell),
    }


def peak_memory() -> int:
    """Bytes held at most so far: of the GPU where one was used, else of this process."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@cache
def code_version() -> str:
    """The version of this code: the package's, and in a git checkout the commit and whether files differ from it.

    It is found once in a process, so it is that of the code which runs.
    """
    try:
        version = f"{_PACKAGE} {metadata.version(_PACKAGE)}"
    except metadata.PackageNotFoundError:
        version = f"{_PACKAGE}, not installed"
    commit = commit_in(_ROOT)
    return f"{version}, {commit}" if commit else version


def commit_in(folder: Path) -> str:
    """As `commit 0123456789ab (changed)`, where a file differs from it; "" where the folder is no checkout or git fails."""
    if not (folder / ".git").exists():  # a folder above may be a checkout of something else
        return ""
    commit, changes = _git(folder, "rev-parse", "HEAD"), _git(folder, "status", "--porcelain", "--untracked-files=no")
    if not commit:
        return ""
    return f"commit {commit[:12]}" + (" (changed)" if changes else "" if changes is not None else " (changed or not: unknown)")


def _git(folder: Path, *words: str) -> str | None:
    """What git answers; None where it does not."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # as hooks set them
    try:
        told = subprocess.run(["git", *words], cwd=folder, env=clean, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return told.stdout.strip()


# ---- the card


def card(summary: Mapping[str, Any]) -> str:
    """The text of README.md, of what summary.json says. No name in it can form Markdown or HTML."""
    parts = [_header(summary), _opening(summary), _made_of(summary), _answers(summary), _how(summary)]
    return "\n\n".join(parts) + "\n"


def _header(summary: Mapping[str, Any]) -> str:
    lines = ["---"]
    if summary["licence"]:
        lines.append(f"license: {json.dumps(summary['licence'])}")
    if summary["base"]["hub"]:
        lines.append(f"base_model: {json.dumps(summary['base']['hub'])}")
    lines += ["library_name: transformers", "pipeline_tag: text-generation"]
    return "\n".join([*lines, "tags:", *(f"- {tag}" for tag in ("policy", "rlhf", summary["kind"])), "---"])


def _opening(summary: Mapping[str, Any]) -> str:
    base = summary["base"]
    licence = f"The base's licence: {code(summary['licence'])}." if summary["licence"] else "The base names no licence."
    return (
        f"# Policy {code(summary['policy'])}\n\nAnswers prompts. It is {code(base['name'])} after "
        f"{_WAYS[summary['kind']]}. {licence}"
    )


def _made_of(summary: Mapping[str, Any]) -> str:
    made = summary["lineage"]
    rows = [
        ("start", f"{code(made['base']['name'])}, files {code(made['base']['fingerprint'])}"),
        ("data", code(made["data"])),
        ("sha256 of what it learned from", code(made["data_hash"])),
        ("reward model", _reward_model(made["reward_model"])),
        ("seed", code(made["seed"])),
        ("code", code(made["code"])),
    ]
    if made["pairs"]:
        rows.insert(2, ("pairs", _PAIRS[made["pairs"]]))
    if made["cell"]:
        rows.append(("place in a grid", ", ".join(f"{code(name)} {code(value)}" for name, value in made["cell"].items())))
    return f"## What it was made of\n\n{as_table(('what', 'which'), rows)}"


def _reward_model(named: Mapping[str, Any] | None) -> str:
    if named is None:
        return "none"
    return code(named["name"]) + (f", files {code(named['fingerprint'])}" if named["fingerprint"] else "")


def _answers(summary: Mapping[str, Any]) -> str:
    points = summary["points"]
    if not points:
        return "## How it answers\n\nNo prompts were held out: how it answers is not known."
    models = list(dict.fromkeys(name for point in points for name in point["scores"]))
    head = ("step", "responses (n)", "KL from the start", "tokens", "ended by itself", *(code(name) for name in models))
    return (
        "## How it answers\n\nMeans over its responses to held-out prompts, by step of training (0: the start): KL divergence "
        "from the start in nats a response, measured on samples; length in tokens; the share that ended with a stop token; the "
        f"mean score by each reward model, on its own scale.\n\n{as_table(head, (_point(one, models) for one in points))}"
    )


def _point(point: Mapping[str, Any], models: Sequence[str]) -> Iterator[str]:
    yield from (f"{point['point']:,}", f"{point['n']:,}")
    yield from (_number(point[name], places) for name, places in (("kl", 3), ("length", 1), ("stopped", 3)))
    yield from (_number(point["scores"].get(name), 4) for name in models)


def _number(value: float | None, places: int) -> str:
    return "not measured" if value is None else f"{value:.{places}f}"


def _how(summary: Mapping[str, Any]) -> str:
    shown = {name: _shown(name, value) for name, value in summary["settings"].items() if name != "cell"}
    settings = as_table(("setting", "value"), ((name, code(value)) for name, value in shown.items()))
    notes = "".join(f"\n- {code(note, longest=_NOTE)}" for note in summary["notes"])
    made = ", ".join(f"{name} {version}" for name, version in summary["versions"].items())
    return (
        f"## How it was made\n\n{summary['steps']:,} steps in {summary['seconds']:,.0f} s: {summary['generated']:,} tokens "
        f"generated and {summary['trained']:,} learned from, {summary['tokens_per_second']:,.0f} a second, "
        f"{summary['peak_memory'] / 1e9:.2f} GB of memory at most.\n{notes}\n\n{settings}\n\nMade with {made}."
    )


def _shown(name: str, value: Any) -> Any:
    """A setting as the card shows it: models by their names, never by a folder on somebody's machine."""
    if name == "base" and Path(str(value)).expanduser().is_dir():
        return Path(str(value)).name
    if name == "reward":
        return value["name"] if value else ""
    return ", ".join(one["name"] for one in value) if name == "scored_by" else value
