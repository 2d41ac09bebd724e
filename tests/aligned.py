"""Policies and what they answered, written by hand for tests: as a run leaves them in its folder, taken in as the app does."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from curation import policies
from curation.outcomes_curves import LOG_P, SAMPLES
from curation.pairs import prompt_id_of, turn
from curation.workspace import Workspace
from tests.scored import known
from training.policy_data import RESPONSES, SCORE, SUMMARY, Answer, Prompt, Prompts, answers_table, write_prompts, write_table
from training.policy_settings import Named, PolicySettings
from training.rewards.base import Message
from training.run import Run, write_json

Scores = Mapping[str, Callable[..., float]]  # by reward model: of prompt, point, sample; of picks also by whom


def asked(count: int, what: str = "question") -> list[Prompt]:
    """So many prompts."""
    texts = [f"{what} {number}" for number in range(count)]
    return [Prompt(prompt_id_of((turn("user", text),)), (Message("user", text),)) for text in texts]


def prompts_of(workspace: Workspace, dataset: str, count: int) -> list[Prompt]:
    """Some prompts of a dataset that end in a human turn."""
    pairs = workspace.pairs.many([pair_id for _, pair_id, _, _ in workspace.pairs.rows_in_order(dataset)])
    found = {one.prompt_id: one.prompt for one in pairs if one.prompt and one.prompt[-1].role == "user"}
    return [
        Prompt(prompt_id, tuple(Message(one.role, one.content) for one in turns))
        for prompt_id, turns in list(found.items())[:count]
    ]


def samples_file(run: Run, prompts: Sequence[Prompt], scores: Mapping[str, Any], *, log_p: Any = None) -> None:
    """Every sample of a best-of-n run with its scores, and log-probabilities where they are given; (prompts, samples) each."""
    rows, columns = next(iter(scores.values())).shape
    table = pa.table(
        {
            "prompt_id": [one.prompt_id for one in prompts for _ in range(columns)],
            "sample": pa.array(list(range(columns)) * rows, pa.int32()),
            "text": [f"sample {s} to {p}" for p in range(rows) for s in range(columns)],
            **({} if log_p is None else {LOG_P: np.asarray(log_p, np.float64).ravel()}),
            **{SCORE + name: np.asarray(values).ravel() for name, values in scores.items()},
        }
    )  # fmt: skip
    write_table(run.output / SAMPLES, table)


def aligned(
    workspace: Workspace, policy: str, scores: Scores, *, points: Sequence[int] = (0, 10), prompts: Sequence[Prompt] = (),
    samples: int = 1, kl: Callable[[int, int], float | None] = lambda prompt, point: float(point) / 10, kind: str = "ppo",
    optimised: str = "", seed: int = 0, cell: Mapping[str, Any] | None = None, learned: Sequence[Prompt] = (),
    text: Callable[..., str] | None = None, tokens: Callable[[int, int, int], int] = lambda *place: 5,
    picked: Sequence[str] = (), number: Callable[..., int] = lambda p, point, s, *who: s, releases: Sequence[str] = (),
) -> Run:  # fmt: skip
    """A finished run that made this policy, taken in. `kl` is the log ratio of each of its responses. With `picked` the
    responses are best-of-n's, once for each of these reward models, and `number` says which sample each of them is."""
    prompts = prompts or asked(4)
    named = [
        Named(name=known(workspace, name), family="classifier", fingerprint=workspace.scores.model(name).fingerprint)
        for name in scores
    ]
    settings = PolicySettings(policy=policy, seed=seed, scored_by=tuple(named), cell=dict(cell or {}), data="by hand")
    run = Run.create(workspace.runs / f"20261101-{policy}", kind=kind, module="training.none", title=policy, config=settings)
    write_prompts(run.input, Prompts(list(learned), list(prompts)))
    if releases:
        write_json(
            run.input / policies.SPLIT, {"data": ",".join(f"release:{one}" for one in releases), "releases": list(releases)}
        )
    by = [(one,) for one in picked] or [()]
    places = [(p, point, s, *who) for who in by for point in points for p in range(len(prompts)) for s in range(samples)]
    says = text or (lambda p, point, s, *who: f"{policy} to {p} at {point}, {s}{''.join(who)}")
    answers = [
        Answer(prompts[place[0]].prompt_id, place[1], number(*place), says(*place), tokens(*place[:3]), True, kl(*place[:2]))
        for place in places
    ]
    values = {name: ([of(*place) for place in places], [False] * len(places)) for name, of in scores.items()}
    table = answers_table(answers, values)
    if picked:
        table = table.append_column("reward_model", pa.array([place[3] for place in places]))
    write_table(run.output / RESPONSES, table)
    base = {"name": "smollm2", "fingerprint": "f", "hub": "", "licence": "", "path": ""}
    summary = {
        "policy": policy, "kind": kind, "model": "", "base": base, "licence": "", "settings": settings.model_dump(mode="json"),
        "lineage": {
            "kind": kind, "base": base, "data": "by hand", "data_hash": "", "pairs": None, "seed": seed, "code": "here",
            "reward_model": {"name": optimised, "fingerprint": ""} if optimised else None, "cell": dict(cell or {}),
        },
        "data": "by hand", "data_hash": "", "steps": max(points), "points": [], "seconds": 1.0, "generated": 0, "trained": 0,
        "tokens_per_second": 0.0, "peak_memory": 0, "versions": {}, "code": "here", "notes": [],
    }  # fmt: skip
    (run.output / SUMMARY).write_text(json.dumps(summary))
    began = workspace.clock()
    run.write_state(
        run.state().model_copy(update={"status": "done", "began_at": began, "ended_at": began + timedelta(seconds=1)})
    )
    policies.take_in(workspace, run)
    return run
