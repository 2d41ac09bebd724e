"""What LLM judges said, as FastChat's gen_judgment.py writes it: read, never written.

Followed: fastchat/llm_judge/common.py of https://github.com/lm-sys/FastChat (play_a_match_pair, play_a_match_single and
load_pairwise_model_judgments) and its README. A comparison is judged in both orders; where the two disagree it is a tie
with the note "tie (inconsistent)", which is what the published judgments make of it. The texts are in the answer files.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from curation.ratings_rows import OVERALL, PreferenceRow, RatingRow, Row, Unused, moment_of, name_of, shortened, value_of
from curation.tables import Record

HOLDS: frozenset[str] = frozenset()
_PAIR = {"question_id", "model_1", "model_2", "g1_winner", "g2_winner", "judge"}
_SINGLE = {"question_id", "model", "score", "judge", "judgment"}
_WINNERS = {"model_1": "left", "model_2": "right", "tie": "tie"}


def fits(record: Record) -> bool:
    """Whether this is a judgment of a pair or of a single answer."""
    return record.keys() >= _PAIR or record.keys() >= _SINGLE


def columns(_records: Sequence[Record], mapping: Mapping[str, str]) -> dict[str, str]:
    """None: this form's columns have their names. Raises ValueError for a mapping."""
    if mapping:
        raise ValueError(f"the columns of FastChat judgments have their names: expected no mapping of {', '.join(mapping)}")
    return {}


def rows_of(line: int, record: Record, _columns: Mapping[str, str]) -> Iterator[Row | Unused]:
    """The one judgment of a record."""
    if not fits(record):
        raise ValueError("neither g1_winner and g2_winner nor a score: expected a judgment of FastChat's")
    item, rater, number = name_of(record["question_id"]), _judge(record["judge"]), name_of(record.get("turn"))
    aspect, at = f"turn {number}" if number else OVERALL, moment_of(record.get("tstamp"))
    if "g1_winner" not in record:
        score = value_of(record["score"])
        if score == "-1":
            raise ValueError("the score is -1: the judge gave none")
        yield RatingRow(line, item, None, None, name_of(record["model"]), rater, aspect, score, at=at)
        return
    games = [_winner(record[name]) for name in ("g1_winner", "g2_winner")]
    choice, note = (games[0], "") if games[0] == games[1] else ("tie", "tie (inconsistent)")
    models = name_of(record["model_1"]), name_of(record["model_2"])
    yield PreferenceRow(line, item, None, None, None, *models, rater, choice, aspect, at=at, note=note)


def _winner(said: Any) -> str:
    if not isinstance(said, str) or said not in _WINNERS:
        raise ValueError(f"a winner is {shortened(said)}: expected model_1, model_2 or tie")
    return _WINNERS[said]


def _judge(judge: Any) -> str:
    return " ".join(name_of(part) for part in judge) if isinstance(judge, list) else name_of(judge)


def records_of(_rows: Sequence[Row]) -> tuple[list[Record], list[str]]:
    """Raises ValueError: a person's rating has no two games and no text of a judgment."""
    raise ValueError("FastChat judgments are only read: write the mt-bench form")
