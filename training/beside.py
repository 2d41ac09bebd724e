"""What one run says of another, beside it in the folder of runs: on disk from there on, so that a workspace may be moved."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_RUNS = "runs/"  # before a run's id, as the registries write it


def placed(value: Any, runs: Path) -> Any:
    """Settings in which every path into a run of this folder is `runs/ID/...`. What `resolved` undoes."""
    if isinstance(value, Mapping):
        return {name: placed(one, runs) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [placed(one, runs) for one in value]
    if not isinstance(value, str) or not Path(value).is_absolute() or not Path(value).is_relative_to(runs.absolute()):
        return value
    within = Path(value).relative_to(runs.absolute()).as_posix()
    return _RUNS + within if _is_of_a_run(within, runs) else value


def resolved(value: Any, runs: Path) -> Any:
    """Settings in which every `runs/ID/...` is a path into this folder again, where the run is in it."""
    if isinstance(value, Mapping):
        return {name: resolved(one, runs) for name, one in value.items()}
    if isinstance(value, list):
        return [resolved(one, runs) for one in value]
    if isinstance(value, str) and value.startswith(_RUNS) and _is_of_a_run(value.removeprefix(_RUNS), runs):
        return str(runs.absolute() / value.removeprefix(_RUNS))
    return value


def _is_of_a_run(within: str, runs: Path) -> bool:
    run_id = within.partition("/")[0]
    return run_id not in ("", ".", "..") and (runs / run_id / "state.json").is_file()
