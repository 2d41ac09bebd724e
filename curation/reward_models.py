"""The registry of reward models: a name, the family, its settings, where it came from. A name means one model for ever."""

import json
import re
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from pathlib import Path
from typing import Any

from curation.store.scores import RewardModel
from curation.workspace import Workspace
from training import engine, loading
from training.models import located
from training.rewards.base import Family
from training.rewards.registry import FAMILIES, family
from training.run import OVER, Run

LENGTH = "length"  # always there: the baseline to beat
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")  # what is registered can be called so


def register(
    workspace: Workspace, name: str, family_name: str, settings: Mapping[str, Any], person: str, *, run_id: str = "",
    licence: str = "", trained_on: Sequence[str] = (),
) -> RewardModel:  # fmt: skip
    """Put a reward model into the registry; its files, where they are on this machine, are looked at.

    Members of an ensemble may be given as names of the registry; `trained_on` are the ids of the pairs that a run trained it
    on. Raises ValueError for a name that is taken or cannot be used, for settings the family does not have, and for files
    that are not what they should be.
    """
    check_name(workspace, name, built_in=family_name == LENGTH)
    given = {**settings, **_members(workspace, settings)}
    chosen = family(family_name, resolved(workspace, given))
    for source in chosen.sources():
        check_source(source)
    given = placed(workspace, given, set(chosen.sources()))
    if "revision" in type(chosen).model_fields and not given.get("revision") and "source" in given:
        given["revision"] = loading.commit_of(str(given["source"]))  # what a name means on the hub changes, a commit does not
    kept = family(family_name, given).model_dump(mode="json", exclude_defaults=True)
    licences, revisions = [licence], []
    for source in chosen.sources():
        if Path(located(source).place).is_dir():
            place = loading.place_of(source)
            licences.append(loading.licence(place))
        revisions.append(located(source).key.rpartition("@")[2] if not Path(source).is_dir() else "")
    model = RewardModel(
        name, family_name, json.dumps(kept), chosen.compares, ", ".join(dict.fromkeys(filter(None, revisions))),
        loading.fingerprint_of_all(chosen.sources()), ", ".join(dict.fromkeys(filter(None, licences))),
        chosen.memory(), run_id, person, workspace.clock(),
    )  # fmt: skip
    workspace.scores.register(model, trained_on=trained_on, made_of=_named_members(settings))
    return model


def check_source(source: str) -> None:
    """Raise ValueError for what is a path by its look and no folder: as an id on the hub it would never be found."""
    looks_like_a_path = source.startswith(("/", ".", "~")) or source.count("/") > 1
    if looks_like_a_path and not Path(located(source).place).is_dir():
        raise ValueError(f"no folder {source!r}: expected a folder, a built-in name, or an id on the hub")


def check_name(workspace: Workspace, name: str, *, built_in: bool = False) -> None:
    """Raise ValueError for a name that no new reward model can have. Only the `built_in` one may be called `length`."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"the name {name!r} cannot be used: expected up to 60 letters, digits, '.', '_' or '-', not beginning with a mark"
        )
    taken = {one.reward_model for one in workspace.scores.models()} | (set() if built_in else {LENGTH})
    if name in taken:
        raise ValueError(f"there is a reward model {name!r} already: choose another name")
    if name in _in_training(workspace):
        raise ValueError(f"a reward model {name!r} is being trained: choose another name, or cancel that run")


def _in_training(workspace: Workspace) -> set[str]:
    """The names of the reward models that runs are making now."""
    runs = [Run(file.parent) for file in workspace.runs.glob("*-reward*/state.json")]
    return {str(one.config()["model"]) for one in runs if one.state().kind == "reward" and engine.watch(one).status not in OVER}


def all_models(workspace: Workspace) -> list[RewardModel]:
    """Every registered reward model, `length` among them from the start."""
    if not any(one.reward_model == LENGTH for one in workspace.scores.models()):
        with suppress(ValueError):  # another session was first
            register(workspace, LENGTH, "length", {}, "elephant")
    return workspace.scores.models()


def model_named(workspace: Workspace, name: str) -> RewardModel:
    """The reward model of this name. Raises ValueError that lists those there are."""
    all_models(workspace)
    return workspace.scores.model(name)


def opened_by(workspace: Workspace, model: RewardModel) -> Family:
    """The family with the model's settings, its folders named so that they can be opened."""
    return family(model.family, resolved(workspace, json.loads(model.settings)))


def resolved(workspace: Workspace, value: Any) -> Any:
    """Settings in which a path inside the workspace (`runs/ID/model`) is absolute: a workspace may be moved."""
    if isinstance(value, Mapping):
        return {name: resolved(workspace, one) for name, one in value.items()}
    if isinstance(value, list):
        return [resolved(workspace, one) for one in value]
    if isinstance(value, str) and value.startswith("runs/") and (workspace.folder / value).is_dir():
        return str((workspace.folder / value).absolute())
    return value


def placed(workspace: Workspace, value: Any, models: Set[str]) -> Any:
    """Settings in which the folders among these `models` are absolute, or named from the workspace on where they are a run's:
    whoever opens them later may stand in another folder. What `resolved` undoes."""
    if isinstance(value, Mapping):
        return {name: placed(workspace, one, models) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [placed(workspace, one, models) for one in value]
    if not isinstance(value, str) or value not in models or not Path(value).expanduser().is_dir():
        return value
    folder, runs = Path(value).expanduser().absolute(), workspace.runs.absolute()
    return f"runs/{folder.relative_to(runs).as_posix()}" if folder.is_relative_to(runs) else str(folder)


def _members(workspace: Workspace, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The members of an ensemble in full, where they are given as names; and what is taken off their scores and these are
    divided by, where neither is given: mean and standard deviation over the responses that all of them have scored, if any."""
    models = [model_named(workspace, name) for name in _named_members(settings)]
    if not models:
        return {}
    full = {"members": [{"family": one.family, **json.loads(one.settings)} for one in models]}
    spreads = workspace.scores.spreads([one.reward_model for one in models])
    if settings.get("scales") or settings.get("centres") or not all(one.reward_model in spreads for one in models):
        return full
    known = [spreads[one.reward_model] for one in models]
    centres, scales = ([float(f"{number:.6g}") for number in some] for some in zip(*known, strict=True))
    return {**full, "centres": centres, "scales": scales}


def _named_members(settings: Mapping[str, Any]) -> list[str]:
    """The names an ensemble's members are given by, as a list or with commas; none where they are given in full."""
    given = settings.get("members")
    if isinstance(given, str):
        given = [one.strip() for one in given.split(",") if one.strip()]
    return given if isinstance(given, list) and all(isinstance(one, str) for one in given) else []


def are_log_odds(model: RewardModel) -> bool:
    """Whether sigma of a difference of its scores is meant as a probability: see `Family.log_odds`."""
    return FAMILIES[model.family].log_odds


def described(model: RewardModel) -> str:
    """What it is, in a line: family, source or who answers at which address, revision, licence, the memory its weights take."""
    settings = json.loads(model.settings)
    source = str(settings.get("source", ""))
    served = " at ".join(filter(None, (settings.get("model"), settings.get("address"))))
    revision = model.revision or ("revision not pinned" if source and not model.fingerprint else "")
    licence = f"licence {model.licence}" if model.licence else ""
    memory = f"{model.memory / 1e9:.1f} GB" if model.memory else ""
    scaled = "members not scaled" if "members" in settings and "scales" not in settings else ""
    parts = [model.family, source, served, revision, licence, memory, scaled]
    return " · ".join(part for part in parts if part)


def families() -> list[dict[str, Any]]:
    """Every family with what it is, its template, its tokenizer and its settings."""
    return [
        {
            "family": name, "what it is": kind.description(), "template": kind.template, "tokenizer": kind.tokenizer,
            "settings": {
                field: {"default": None if one.is_required() else one.default, "means": one.description or ""}
                for field, one in kind.model_fields.items()
            },
        }
        for name, kind in FAMILIES.items()
    ]  # fmt: skip
