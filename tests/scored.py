"""What reward models say, written by hand for tests: scores and preferences that come in as a run's do, from Parquet."""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.store.scores import RewardModel, ScoreRun
from curation.workspace import Workspace


def known(workspace: Workspace, name: str, *, compares: bool = False, family: str = "classifier") -> str:
    """Register a reward model of this name, where there is none."""
    if name not in {one.reward_model for one in workspace.scores.models()}:
        workspace.scores.register(RewardModel(name, family, "{}", compares, "", "", "", 0, "", "lead", workspace.clock()))
    return name


def give(workspace: Workspace, model: str, scores: Mapping[str, float], **of: Any) -> None:
    """Scores by response id; `of` is what the run says it scored."""
    table = {"response_id": list(scores), "score": [float(one) for one in scores.values()]}
    _take_in(workspace, known(workspace, model), table, of, compares=False)


def prefer(workspace: Workspace, model: str, preferences: Mapping[tuple[str, str], float], **of: Any) -> None:
    """How probably the first of two responses is better, by their ids in any order."""
    turned = {(min(pair), max(pair)): float(p if pair[0] <= pair[1] else 1 - p) for pair, p in preferences.items()}
    table = {
        "first_id": [first for first, _ in turned], "second_id": [second for _, second in turned],
        "preference": list(turned.values()),
    }  # fmt: skip
    _take_in(workspace, known(workspace, model, compares=True), table, of, compares=True)


def _take_in(workspace: Workspace, model: str, table: dict[str, list[Any]], of: dict[str, Any], *, compares: bool) -> None:
    count, number = len(next(iter(table.values()))), len(workspace.scores.runs())
    file = workspace.folder / f"said-{number}.parquet"
    pq.write_table(pa.table({**table, "truncated": [False] * count}), file)
    run = ScoreRun(f"said-{number:04}", model, json.dumps(of), count, 0, 0, 0.0, workspace.clock())
    workspace.scores.add(run, None if compares else file, file if compares else None)
