"""Policies in the store: a name means one for ever, what a run made comes in once and whole, scores join the answers."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.pairs import RESPONSE_LEAD, Response, packed, prompt_id_of, response_id_of, turn
from curation.store.policies import Answers, Divergence, Generation, Learned, Policy
from curation.workspace import Workspace
from tests.conftest import hh, import_rows
from tests.scored import give, known

AT = datetime(2026, 11, 2, tzinfo=UTC)


def policy(name: str, run_id: str = "", kind: str = "ppo") -> Policy:
    return Policy(name, kind, f"runs/{run_id}/model" if run_id else "/models/x", "{}", "f", "mit", run_id, "ana", AT)


def prompt(text: str) -> str:
    return prompt_id_of([turn("user", text)])


def answers(
    *rows: tuple[str, int, int, str, float | None], by: str = "one", scores: dict[str, list[float]] | None = None,
    asked: bool = True,
) -> Answers:  # fmt: skip
    """Rows of prompt's text, point, sample, response, log ratio; scores by reward model, in their order."""
    prompts = {prompt(text): packed([turn("user", text)]) for text, *_ in rows} if asked else {}
    ids = [response_id_of(prompt(text), Response(said)) for text, _, _, said, _ in rows]
    columns: dict[str, Any] = {
        "generator": pa.array([by] * len(rows), pa.string()), "point": pa.array([one[1] for one in rows], pa.int32()),
        "sample": pa.array([one[2] for one in rows], pa.int32()), "prompt_id": [prompt(one[0]) for one in rows],
        "response_id": ids, "tokens": pa.array([len(one[3].split()) for one in rows], pa.int32()),
        "stopped": pa.array([True] * len(rows)), "log_ratio": pa.array([one[4] for one in rows], pa.float64()),
        "text": [one[3] for one in rows], "lead": [RESPONSE_LEAD] * len(rows),
    }  # fmt: skip
    pairs = [
        (name, response_id, value) for name, of in (scores or {}).items() for response_id, value in zip(ids, of, strict=True)
    ]
    table = pa.table(
        {
            "reward_model": pa.array([one[0] for one in pairs], pa.string()),
            "response_id": pa.array([one[1] for one in pairs], pa.string()),
            "score": pa.array([one[2] for one in pairs], pa.float64()), "truncated": pa.array([False] * len(pairs), pa.bool_()),
        }
    )  # fmt: skip
    return Answers(
        pa.table({"prompt_id": pa.array(prompts, pa.string()), "turns": pa.array(prompts.values(), pa.string())}),
        pa.table(columns), table,
    )  # fmt: skip


def test_a_name_means_one_policy_for_ever(workspace: Workspace) -> None:
    workspace.policies.register(policy("one"))
    with pytest.raises(ValueError, match="there is a policy 'one' already: choose another name"):
        workspace.policies.register(policy("one"))
    with pytest.raises(ValueError, match="there is a policy 'one' already"):
        workspace.policies.add(policy("one", "run-1"), answers(("a", 0, 0, "yes", None)), Learned())
    assert workspace.policies.all() == [policy("one")]
    assert workspace.policies.generators() == []
    with pytest.raises(ValueError, match="no policy 'two': there is one"):
        workspace.policies.policy("two")


def test_what_a_run_made_comes_in_once(workspace: Workspace) -> None:
    given = answers(("a", 0, 0, "yes", 0.0), ("a", 5, 0, "oh yes", 0.5), ("b", 5, 1, "no", -0.25))
    assert workspace.policies.add(policy("one", "run-1"), given, Learned())
    assert not workspace.policies.add(policy("one", "run-1"), given, Learned())
    assert workspace.policies.taken_in() == {"run-1"}
    (found,) = workspace.policies.generators()
    assert found == ("one", "one", (0, 5), 2, 3)
    assert workspace.policies.points("one") == [0, 5]
    ids = [response_id_of(prompt(asked), Response(text)) for asked, text in (("a", "oh yes"), ("b", "no"))]
    rows = [
        Generation("one", 5, 0, prompt("a"), ids[0], 2, True, 0.5, "run-1"),
        Generation("one", 5, 1, prompt("b"), ids[1], 1, True, -0.25, "run-1"),
    ]
    assert workspace.policies.generations("one", 5) == sorted(rows, key=lambda one: one.prompt_id)
    assert len(workspace.policies.generations("one")) == 3
    assert {(one.text, one.turns) for one in workspace.policies.written("one", 0)} == {("yes", packed([turn("user", "a")]))}


def test_a_response_that_stands_in_a_dataset_is_not_stored_twice(workspace: Workspace) -> None:
    import_rows(workspace, [hh("a", "yes", "no")])
    workspace.policies.add(policy("one", "run-1"), answers(("a", 0, 0, "yes", None)), Learned())
    (same,) = workspace.policies.written("one")
    assert same.response_id == workspace.pairs.pair(workspace.pairs.rows_in_order("small")[0][1]).chosen_id
    assert workspace.database.rows("SELECT count(*) FROM responses") == [(2,)]


def test_a_prompt_nobody_knows_and_a_response_twice_are_refused_and_leave_nothing(workspace: Workspace) -> None:
    with pytest.raises(ValueError, match="is not in the workspace, nor among what it was handed"):
        workspace.policies.add(policy("one", "run-1"), answers(("a", 0, 0, "yes", None), asked=False), Learned())
    with pytest.raises(ValueError, match="what run run-1 wrote cannot be used: Constraint Error") as error:
        workspace.policies.add(policy("one", "run-1"), answers(("a", 0, 0, "x", None), ("a", 0, 0, "y", None)), Learned())
    assert "\n" not in str(error.value)
    assert (workspace.policies.all(), workspace.policies.taken_in()) == ([], set())
    assert workspace.database.rows("SELECT count(*) FROM prompts") == [(0,)]


def test_scores_of_registered_models_join_what_was_answered_and_a_known_score_stays(workspace: Workspace) -> None:
    known(workspace, "gold")
    give(workspace, "gold", {response_id_of(prompt("b"), Response("no")): 9.0})
    rows = (("a", 0, 0, "yes", None), ("a", 3, 0, "yes", 0.5), ("b", 3, 0, "no", 1.0))
    workspace.policies.add(
        policy("one", "run-1"), answers(*rows, scores={"gold": [1.0, 1.5, 2.0], "stranger": [7, 7, 7]}), Learned()
    )
    found = workspace.policies.scored("one", "gold")
    order = np.lexsort((found.sample, found.prompt_id, found.point))
    assert order.tolist() == [0, 1, 2]
    told = {
        (point, prompt_id): score for point, prompt_id, score in zip(found.point, found.prompt_id, found.score, strict=True)
    }
    # of one text scored twice, in batches of other widths, one score is kept
    assert told == {(0, prompt("a")): 1.5, (3, prompt("a")): 1.5, (3, prompt("b")): 9.0}
    assert np.isnan(found.log_ratio[0])
    assert sorted(found.log_ratio[1:].tolist()) == [0.5, 1.0]
    assert (found.stopped.dtype, found.tokens.tolist()) == (np.bool_, [1, 1, 1])
    assert workspace.policies.scorers("one") == ["gold"]
    assert len(workspace.policies.scored("one", "stranger").score) == 0
    assert "run-1" not in workspace.scores.taken_in()  # it is no scoring


def test_what_a_policy_learned_from_is_what_its_start_learned_from_too(workspace: Workspace) -> None:
    (pair_id,) = import_rows(workspace, [hh("of a pair", "yes", "no")])
    workspace.policies.add(policy("one", "run-1"), answers(("a", 0, 0, "x", None)), Learned(["p", "q"], [pair_id]))
    workspace.policies.add(policy("two", "run-2"), answers(("a", 0, 0, "y", None), by="two"), Learned(["q", "r"], base="one"))
    assert workspace.policies.learned("one") == {"p", "q", prompt("of a pair")}
    assert workspace.policies.learned("two") == {"p", "q", "r", prompt("of a pair")}
    assert workspace.policies.learned("nobody") == set()
    assert workspace.database.rows("SELECT count(*) FROM policy_prompts WHERE policy = 'two'") == [(4,)]


def test_a_policy_that_answers_through_its_picks_alone_stands_for_all_of_them(workspace: Workspace) -> None:
    both = [answers(("a", n, 0, f"{by} {n}", None), by=f"best/{by}") for by, n in (("gold", 1), ("gold", 4), ("proxy", 4))]
    given = Answers(both[0].prompts, pa.concat_tables([one.responses for one in both]), both[0].scores)
    workspace.policies.add(policy("best", "run-1", "best-of-n"), given, Learned())
    workspace.policies.add(policy("one", "run-2"), answers(("a", 0, 0, "x", None)), Learned())
    store = workspace.policies
    assert [one.generator for one in store.named(["best"])] == ["best/gold", "best/proxy"]
    assert [one.generator for one in store.named(["one", "best/gold", "one"])] == ["one", "best/gold"]
    assert [(one.policy, one.points) for one in store.generators()] == [("best", (1, 4)), ("best", (4,)), ("one", (0,))]
    with pytest.raises(ValueError, match=r"no responses of a policy 'b': there are some of best/gold, best/proxy, one"):
        store.named(["b"])
    assert store.names() == {"best", "best/gold", "best/proxy", "one"}


def test_kl_is_a_mean_over_prompts_at_the_last_point(workspace: Workspace) -> None:
    rows = (
        ("a", 0, 0, "0", 0.0), ("a", 7, 0, "1", 1.0), ("a", 7, 1, "2", 3.0), ("b", 7, 0, "3", 4.0), ("b", 7, 1, "4", 4.0),
        ("c", 7, 0, "5", None),
    )  # fmt: skip
    workspace.policies.add(policy("one", "run-1"), answers(*rows), Learned())
    workspace.policies.add(policy("two", "run-2"), answers(("a", 0, 0, "6", None), by="two"), Learned())
    (found,) = workspace.policies.divergences().items()
    assert found == ("one", Divergence(3.0, pytest.approx(1.0), 2))  # of 2 and 4: standard deviation sqrt 2, over sqrt 2
