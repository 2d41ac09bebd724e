"""Store of reward models and of what they say: a score for a response, or a preference between two."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np

from curation.pairs import RESPONSE_LEAD
from curation.store.database import Cursor, Database


class RewardModel(NamedTuple):
    """A registered reward model. `settings` is JSON, as its family reads it; `compares` tells models that only compare.

    `memory` is the bytes its weights take when loaded, None where its files were not here. `run_id` is the run that trained
    it, "" where it was not trained here. A name means one model for ever.
    """

    reward_model: str
    family: str
    settings: str
    compares: bool
    revision: str
    fingerprint: str
    licence: str
    memory: int | None
    run_id: str
    person: str
    registered_at: datetime


class ScoreRun(NamedTuple):
    """A scoring that was taken in. `what` is JSON, what was scored and under "found" what to know of its numbers; `tokens` and
    `seconds` what it took."""

    run_id: str
    reward_model: str
    what: str
    texts: int
    truncated: int
    tokens: int
    seconds: float
    taken_at: datetime


class PairScores(NamedTuple):
    """A pair with one reward model's scores of its two sides; of a model that compares, the log odds and 0."""

    pair_id: str
    chosen: float
    rejected: float


_LOG_ODDS = "ln(greatest(m.preference, 1e-12) / greatest(1 - m.preference, 1e-12))"


class ScoreStore:
    """Reward models, scores, preferences."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self.generation = 0  # rises with everything taken in, so that what was computed from scores can be kept till then

    def register(self, model: RewardModel, *, trained_on: Sequence[str] = (), made_of: Sequence[str] = ()) -> None:
        """Add a reward model, the ids of the pairs it was trained on, and the registered models it is made of, whose training
        is its own. Raises ValueError when the name is taken."""
        with self._db.transaction() as cursor:
            known = cursor.execute("SELECT run_id FROM reward_models WHERE reward_model = ?", [model.reward_model]).fetchall()
            if known and model.run_id and known == [(model.run_id,)]:
                return  # another session has taken it in
            if known:
                raise ValueError(f"there is a reward model {model.reward_model!r} already: choose another name")
            cursor.execute("INSERT INTO reward_models VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", list(model))
            cursor.execute(
                "INSERT INTO trained_on SELECT DISTINCT $1, prompt_id FROM trained_on WHERE list_contains($2, reward_model)",
                [model.reward_model, list(made_of)],
            )
            if trained_on:
                cursor.execute(
                    """
                    INSERT INTO trained_on SELECT DISTINCT $model, prompt_id FROM pairs
                    WHERE pair_id IN (SELECT unnest($pairs))
                    """,
                    {"model": model.reward_model, "pairs": list(trained_on)},
                )
        self.generation += 1

    def models(self) -> list[RewardModel]:
        """All registered reward models, the oldest first."""
        return [RewardModel(*row) for row in self._db.rows("SELECT * FROM reward_models ORDER BY registered_at, reward_model")]

    def model(self, name: str) -> RewardModel:
        """The reward model of this name. Raises ValueError that lists the names there are."""
        known = {one.reward_model: one for one in self.models()}
        if name not in known:
            raise ValueError(f"no reward model {name!r}: there is {', '.join(known) or 'none yet, register one first'}")
        return known[name]

    def add(self, run: ScoreRun, scores: Path | None, preferences: Path | None) -> None:
        """Take in what a run wrote, all at once; a run that was taken in is left alone, and so is a text that has a score.

        Raises ValueError where a file cannot be read or a number is none.
        """
        try:
            with self._db.transaction() as cursor:
                if cursor.execute("SELECT 1 FROM score_runs WHERE run_id = ?", [run.run_id]).fetchall():
                    return
                cursor.execute("INSERT INTO score_runs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", list(run))
                if scores is not None:
                    _add(cursor, run, scores, "scores", "response_id", "score")
                if preferences is not None:
                    _add(cursor, run, preferences, "model_preferences", "first_id, second_id", "preference")
        except duckdb.Error as error:
            raise ValueError(f"what run {run.run_id} wrote cannot be read: {str(error).strip().splitlines()[0]}") from None
        self.generation += 1

    def to_know(self, model: str) -> list[tuple[dict[str, Any], str]]:
        """What scorings by a reward model found, such as answers without a verdict: what was scored, and the words."""
        told = [json.loads(one.what) for one in self.runs() if one.reward_model == model]
        return [(one, "; ".join(one["found"])) for one in told if one.get("found")]

    def runs(self) -> list[ScoreRun]:
        """The scorings that were taken in, the oldest first."""
        return [ScoreRun(*row) for row in self._db.rows("SELECT * FROM score_runs ORDER BY taken_at, run_id")]

    def taken_in(self) -> set[str]:
        """The ids of runs whose scores, or whose trained model, are in."""
        found = self._db.rows("SELECT run_id FROM score_runs UNION SELECT run_id FROM reward_models WHERE run_id <> ''")
        return {run_id for (run_id,) in found}

    def trained_on(self, model: str) -> set[str]:
        """The ids of the prompts a reward model was trained on; none where it was not trained here."""
        return {one for (one,) in self._db.rows("SELECT prompt_id FROM trained_on WHERE reward_model = $1", [model])}

    def spreads(self, models: Sequence[str]) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation of the scores of each of these reward models, over the responses that all of them have
        scored, without which they could not be compared; none of a model that scores these alike, or fewer than two."""
        rows = self._db.rows(
            """
            WITH theirs AS (SELECT * FROM scores WHERE list_contains($models, reward_model)),
            shared AS (SELECT response_id FROM theirs GROUP BY ALL HAVING count(DISTINCT reward_model) = $count)
            SELECT reward_model, avg(score), stddev_samp(score) FROM theirs JOIN shared USING (response_id) GROUP BY ALL
            """,
            {"models": list(models), "count": len(set(models))},
        )
        return {name: (float(mean), float(sd)) for name, mean, sd in rows if sd}

    def scored_in(self, study: str) -> set[str]:
        """The reward models that have said anything of a study's responses."""
        rows = self._db.rows(
            """
            WITH ids AS (
                SELECT DISTINCT r.response_id FROM study_responses AS r JOIN study_items AS i ON i.item_id = r.item_id
                WHERE i.study = $1
            )
            SELECT DISTINCT reward_model FROM scores WHERE response_id IN (SELECT response_id FROM ids)
            UNION SELECT DISTINCT reward_model FROM model_preferences WHERE first_id IN (SELECT response_id FROM ids)
            """,
            [study],
        )
        return {name for (name,) in rows}

    def counts(self) -> dict[str, tuple[int, int]]:
        """Of each reward model with any: how many responses (or pairs of them) have a number, and how many were cut."""
        rows = self._db.rows(
            """
            SELECT reward_model, count(*), count(*) FILTER (truncated) FROM (
                SELECT reward_model, truncated FROM scores UNION ALL SELECT reward_model, truncated FROM model_preferences
            ) GROUP BY reward_model
            """
        )
        return {name: (count, cut) for name, count, cut in rows}

    def scores(self, model: str) -> dict[str, float]:
        """Every score of a reward model, by response id."""
        return dict(self._db.rows("SELECT response_id, score FROM scores WHERE reward_model = $1", [model]))

    def preferences(self, model: str) -> dict[tuple[str, str], float]:
        """Every preference of a reward model: P(first is better), by the two ids in their order."""
        rows = self._db.rows("SELECT first_id, second_id, preference FROM model_preferences WHERE reward_model = $1", [model])
        return {(first, second): preference for first, second, preference in rows}

    def unusual_leads(self, study: str) -> dict[str, str]:
        """What stands before a response, of those of a study where that is not the usual marker."""
        rows = self._db.rows(
            """
            SELECT t.response_id, t.lead FROM responses AS t
            JOIN study_responses AS r USING (response_id) JOIN study_items AS i USING (item_id)
            WHERE i.study = $1 AND t.lead <> $2
            """,
            [study, RESPONSE_LEAD],
        )
        return dict(rows)

    def of_pairs(self, dataset: str, model: str) -> list[PairScores]:
        """Each distinct pair of a dataset of which both sides have a score, or that was compared."""
        rows = self._db.rows(
            f"""
            WITH wanted AS (
                SELECT DISTINCT p.pair_id, p.chosen_id, p.rejected_id
                FROM dataset_rows AS r JOIN pairs AS p ON p.pair_id = r.pair_id WHERE r.dataset = $dataset
            )
            SELECT w.pair_id, c.score, j.score FROM wanted AS w
            JOIN scores AS c ON c.reward_model = $model AND c.response_id = w.chosen_id
            JOIN scores AS j ON j.reward_model = $model AND j.response_id = w.rejected_id
            UNION ALL
            SELECT w.pair_id, CASE WHEN w.chosen_id <= w.rejected_id THEN {_LOG_ODDS} ELSE -({_LOG_ODDS}) END, 0.0
            FROM wanted AS w JOIN model_preferences AS m
              ON m.reward_model = $model
             AND m.first_id = least(w.chosen_id, w.rejected_id) AND m.second_id = greatest(w.chosen_id, w.rejected_id)
            """,
            {"dataset": dataset, "model": model},
        )
        return [PairScores(*row) for row in rows]


def _add(cursor: Cursor, run: ScoreRun, file: Path, table: str, keys: str, value: str) -> None:
    """Add a file's numbers that are not known yet; `table`, `keys` and `value` are names from our own code."""
    # looked at here: a WHERE is decided by the file's least and greatest number, in which a NaN does not count
    values = cursor.execute(f"SELECT {value}::DOUBLE AS value FROM read_parquet($1)", [str(file)]).fetchnumpy()["value"]
    broken = np.count_nonzero(~np.isfinite(np.ma.filled(values, np.nan)))
    if broken:
        raise ValueError(f"{broken:,} scores of {run.reward_model!r} are no numbers")
    cursor.execute(
        f"""
        INSERT INTO {table}
        SELECT $model AS reward_model, {keys}, {value}, truncated, $run AS run_id FROM read_parquet($file) AS f
        ANTI JOIN (SELECT * FROM {table} WHERE reward_model = $model) AS known USING ({keys})
        """,
        {"file": str(file), "model": run.reward_model, "run": run.run_id},
    )
