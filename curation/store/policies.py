"""Store of policies: what each was made from, the prompts it learned from, and what it answered at points of its training."""

from collections.abc import Sequence, Set
from datetime import datetime
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.store.database import Cursor, Database


class Policy(NamedTuple):
    """A policy. `kind` is the kind of run that made it, or "given"; `source` is its model: a folder (`runs/ID/model` from the
    workspace on), a built-in name or a hub id, "" where it has none of its own. `lineage` is JSON. A name means one policy
    for ever."""

    policy: str
    kind: str
    source: str
    lineage: str
    fingerprint: str
    licence: str
    run_id: str
    person: str
    registered_at: datetime


class Generator(NamedTuple):
    """Who wrote responses: a policy, or of a best-of-n policy its picks by one reward model, POLICY/REWARD_MODEL."""

    generator: str
    policy: str
    points: tuple[int, ...]
    prompts: int
    responses: int


class Generation(NamedTuple):
    """A response of a policy to a prompt. `log_ratio` is log pi - log pi_start of the whole response in nats, None where it
    was not measured."""

    generator: str
    point: int
    sample: int
    prompt_id: str
    response_id: str
    tokens: int
    stopped: bool
    log_ratio: float | None
    run_id: str


class Written(NamedTuple):
    """A response with its text and its prompt as it is stored (curation.pairs.packed)."""

    generator: str
    point: int
    sample: int
    prompt_id: str
    response_id: str
    turns: str
    text: str
    lead: str


class Scored(NamedTuple):
    """Responses that a reward model has scored, as columns of one length; log_ratio is NaN where it was not measured."""

    prompt_id: NDArray[Any]
    point: NDArray[np.int32]
    sample: NDArray[np.int32]
    response_id: NDArray[Any]
    log_ratio: NDArray[np.float64]
    tokens: NDArray[np.int32]
    stopped: NDArray[np.bool_]
    score: NDArray[np.float64]


class Divergence(NamedTuple):
    """A KL divergence in nats a response, a mean over this many prompts, with its standard error; None of one prompt."""

    mean: float
    error: float | None
    prompts: int


class Answers(NamedTuple):
    """What a run's policy answered, on its way into the store.

    `prompts` has prompt_id, turns; `responses` every column of Generation but run_id, and text; `scores` reward_model,
    response_id, score, truncated.
    """

    prompts: pa.Table
    responses: pa.Table
    scores: pa.Table


class Learned(NamedTuple):
    """What a policy learned from: ids of prompts, ids of pairs, and the policy it began from, whose prompts are its own too."""

    prompts: Sequence[str] = ()
    pairs: Sequence[str] = ()
    base: str = ""


class PolicyStore:
    """Policies and what they answered."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def register(self, policy: Policy) -> None:
        """Add a policy that was made elsewhere. Raises ValueError when the name is taken."""
        with self._db.transaction() as cursor:
            _register(cursor, policy)

    def add(self, policy: Policy, answers: Answers, learned: Learned) -> bool:
        """Take in what a run made, all at once: the policy, what it learned from, its responses, and their scores by reward
        models that are registered; a text that has a score keeps it.

        Returns whether it is new: a run that was taken in is left alone. Raises ValueError where the name means another
        policy, a prompt is not known here, or a response is there twice.
        """
        try:
            with self._db.transaction() as cursor:
                if cursor.execute("SELECT 1 FROM policies WHERE run_id = ? AND run_id <> ''", [policy.run_id]).fetchall():
                    return False
                _register(cursor, policy)
                _learn(cursor, policy.policy, learned)
                _add(cursor, policy.run_id, answers)
        except duckdb.Error as error:
            raise ValueError(f"what run {policy.run_id} wrote cannot be used: {str(error).strip().splitlines()[0]}") from None
        return True

    def all(self) -> list[Policy]:
        """All policies, the oldest first."""
        return [Policy(*row) for row in self._db.rows("SELECT * FROM policies ORDER BY registered_at, policy")]

    def policy(self, name: str) -> Policy:
        """The policy of this name. Raises ValueError that lists the names there are."""
        known = {one.policy: one for one in self.all()}
        if name not in known:
            raise ValueError(f"no policy {name!r}: there is {', '.join(known) or 'none yet'}")
        return known[name]

    def taken_in(self) -> set[str]:
        """The ids of runs whose policy is in."""
        return {run_id for (run_id,) in self._db.rows("SELECT run_id FROM policies WHERE run_id <> ''")}

    def learned(self, policy: str) -> set[str]:
        """The ids of the prompts that a policy, or one it began from, learned from here."""
        return {one for (one,) in self._db.rows("SELECT prompt_id FROM policy_prompts WHERE policy = $1", [policy])}

    def prompts(self, prompt_ids: Set[str]) -> dict[str, str]:
        """The turns of these prompts as they are stored (curation.pairs.packed), by id."""
        return dict(
            self._db.rows("SELECT prompt_id, turns FROM prompts WHERE prompt_id IN (SELECT unnest($1))", [list(prompt_ids)])
        )

    def generators(self) -> list[Generator]:
        """Who has responses, by name."""
        rows = self._db.rows(
            """
            SELECT generator, split_part(generator, '/', 1), list_sort(list_distinct(list(point))),
                   count(DISTINCT prompt_id), count(*)
            FROM generations GROUP BY generator ORDER BY generator
            """
        )
        return [Generator(name, policy, tuple(points), *counts) for name, policy, points, *counts in rows]

    def named(self, names: Sequence[str]) -> list[Generator]:
        """The generators of these names, each once; a policy that answers through its picks alone stands for all of them.

        Raises ValueError that lists the names there are.
        """
        known = {one.generator: one for one in self.generators()}
        found: dict[str, Generator] = {}
        for name in names:
            some = [known[name]] if name in known else [one for one in known.values() if one.policy == name]
            if not some:
                raise ValueError(f"no responses of a policy {name!r}: there are some of {', '.join(known) or 'none yet'}")
            found |= {one.generator: one for one in some}
        return list(found.values())

    def names(self) -> set[str]:
        """Every name that a response has an author under, in studies too."""
        rows = self._db.rows(
            "SELECT policy FROM policies UNION SELECT generator FROM generations UNION SELECT generator FROM study_responses"
        )
        return {name for (name,) in rows}

    def points(self, generator: str) -> list[int]:
        """The points a generator answered at, in order."""
        rows = self._db.rows("SELECT DISTINCT point FROM generations WHERE generator = $1 ORDER BY point", [generator])
        return [point for (point,) in rows]

    def generations(self, generator: str, point: int | None = None) -> list[Generation]:
        """A generator's responses, at one point or at all, by point, prompt and sample."""
        rows = self._db.rows(
            """
            SELECT * FROM generations WHERE generator = $generator AND ($point IS NULL OR point = $point)
            ORDER BY point, prompt_id, sample
            """,
            {"generator": generator, "point": point},
        )
        return [Generation(*row) for row in rows]

    def written(self, generator: str, point: int | None = None) -> list[Written]:
        """The same with the texts of prompts and responses."""
        rows = self._db.rows(
            """
            SELECT g.generator, g.point, g.sample, g.prompt_id, g.response_id, p.turns, r.text, r.lead
            FROM generations AS g
            JOIN prompts AS p ON p.prompt_id = g.prompt_id JOIN responses AS r ON r.response_id = g.response_id
            WHERE g.generator = $generator AND ($point IS NULL OR g.point = $point)
            ORDER BY g.point, g.prompt_id, g.sample
            """,
            {"generator": generator, "point": point},
        )
        return [Written(*row) for row in rows]

    def scored(self, generator: str, reward_model: str) -> Scored:
        """A generator's responses that a reward model has scored, by point, prompt and sample."""
        rows = self._db.rows(
            """
            SELECT g.prompt_id, g.point, g.sample, g.response_id, g.log_ratio, g.tokens, g.stopped, s.score
            FROM generations AS g JOIN scores AS s ON s.response_id = g.response_id AND s.reward_model = $reward_model
            WHERE g.generator = $generator ORDER BY g.point, g.prompt_id, g.sample
            """,
            {"generator": generator, "reward_model": reward_model},
        )
        columns: list[Any] = list(zip(*rows, strict=True)) or [()] * len(Scored._fields)
        kinds: tuple[Any, ...] = (object, np.int32, np.int32, object, np.float64, np.int32, np.bool_, np.float64)
        return Scored(*(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)))

    def scorers(self, generator: str) -> list[str]:
        """The reward models that have scored any response of a generator, by name."""
        rows = self._db.rows(
            """
            SELECT DISTINCT s.reward_model FROM scores AS s
            WHERE s.response_id IN (SELECT response_id FROM generations WHERE generator = $1) ORDER BY 1
            """,
            [generator],
        )
        return [name for (name,) in rows]

    def divergences(self) -> dict[str, Divergence]:
        """Of each generator whose log ratios were measured: the KL divergence from its start at its last point."""
        rows = self._db.rows(
            """
            WITH last AS (SELECT generator, max(point) AS point FROM generations GROUP BY generator),
            of_prompts AS (
                SELECT g.generator, g.prompt_id, avg(g.log_ratio) AS ratio
                FROM generations AS g JOIN last AS l ON l.generator = g.generator AND l.point = g.point
                WHERE g.log_ratio IS NOT NULL GROUP BY g.generator, g.prompt_id
            )
            SELECT generator, avg(ratio), stddev_samp(ratio) / sqrt(count(*)), count(*) FROM of_prompts GROUP BY generator
            """
        )
        return {name: Divergence(*row) for name, *row in rows}


def _register(cursor: Cursor, policy: Policy) -> None:
    if cursor.execute("SELECT 1 FROM policies WHERE policy = ?", [policy.policy]).fetchall():
        raise ValueError(f"there is a policy {policy.policy!r} already: choose another name")
    cursor.execute("INSERT INTO policies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", list(policy))


def _learn(cursor: Cursor, policy: str, learned: Learned) -> None:
    cursor.execute(
        """
        INSERT INTO policy_prompts SELECT $policy, prompt_id FROM (
            SELECT unnest($prompts::VARCHAR[]) AS prompt_id
            UNION SELECT prompt_id FROM pairs WHERE pair_id IN (SELECT unnest($pairs::VARCHAR[]))
            UNION SELECT prompt_id FROM policy_prompts WHERE policy = $base
        )
        """,
        {"policy": policy, "prompts": list(learned.prompts), "pairs": list(learned.pairs), "base": learned.base},
    )


def _add(cursor: Cursor, run_id: str, answers: Answers) -> None:
    """Add content that is not known yet, the generations, and scores of registered reward models."""
    for name, table in answers._asdict().items():
        cursor.register(f"given_{name}", table)
    _add_content(cursor, run_id)
    _add_answers(cursor, run_id)


def _add_content(cursor: Cursor, run_id: str) -> None:
    """The texts. Raises ValueError for a response to a prompt that is neither here nor given."""
    fresh = "ANTI JOIN prompts AS known USING (prompt_id)"
    cursor.execute(f"INSERT INTO prompts SELECT prompt_id, turns FROM given_prompts {fresh}")
    ((unknown,),) = cursor.execute(f"SELECT min(prompt_id) FROM given_responses {fresh}").fetchall()
    if unknown is not None:
        raise ValueError(f"prompt {unknown!r} of run {run_id} is not in the workspace, nor among what it was handed")
    cursor.execute(
        """
        INSERT INTO responses
        SELECT response_id, any_value(prompt_id), any_value(text), any_value(lead)
        FROM given_responses ANTI JOIN responses AS known USING (response_id) GROUP BY response_id
        """
    )


def _add_answers(cursor: Cursor, run_id: str) -> None:
    """Who answered what, and the scores; one text may have been scored several times, in batches of other widths."""
    cursor.execute(
        """
        INSERT INTO generations
        SELECT generator, point, sample, prompt_id, response_id, tokens, stopped, log_ratio, $run FROM given_responses
        """,
        {"run": run_id},
    )
    cursor.execute(
        """
        INSERT INTO scores
        SELECT reward_model, response_id, max(score), bool_or(truncated), $run FROM given_scores
        SEMI JOIN reward_models AS registered USING (reward_model)
        ANTI JOIN scores AS known USING (reward_model, response_id)
        GROUP BY reward_model, response_id
        """,
        {"run": run_id},
    )
