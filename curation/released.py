"""What a release made of its dataset's pairs: which labels it turned round, and which pairs it dropped."""

import json
from typing import NamedTuple

from curation.workspace import Workspace


class Released(NamedTuple):
    """Ids of pairs, as the dataset knows them."""

    swapped: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()


def released(workspace: Workspace, dataset: str, name: str | None) -> Released:
    """What the release of this name swapped and dropped; nothing without a name.

    Raises ValueError when the dataset has no such release, or its folder is gone.
    """
    if not name:
        return Released()
    known = {one.name: one for one in workspace.releases.all(dataset)}
    if name not in known:
        raise ValueError(f"no release {name!r} of {dataset!r}: there is {', '.join(known) or 'none yet'}")
    folder = workspace.folder / known[name].folder

    def pairs(file: str) -> frozenset[str]:
        path = folder / file
        if not path.is_file():
            raise ValueError(f"the release {name!r} is not at {str(folder)!r} any more: no {file} there")
        with path.open(encoding="utf-8") as lines:
            return frozenset(json.loads(line)["pair_id"] for line in lines)

    return Released(pairs("swapped.jsonl"), pairs("dropped.jsonl"))
