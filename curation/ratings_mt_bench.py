"""MT-bench human judgments, and Chatbot Arena conversations, which have the same columns.

Followed: https://huggingface.co/datasets/lmsys/mt_bench_human_judgments (question_id, model_a, model_b, winner, judge,
conversation_a, conversation_b, turn) and fastchat/llm_judge/compute_agreement.py of https://github.com/lm-sys/FastChat
(turn from 1, judge a name or a list, ties by name: "tie", "tie (inconsistent)"); "tie (bothbad)" is Chatbot Arena's, from
fastchat/serve/monitor/clean_battle_data.py there.

The prompt is the first question and a response all that follows it up to the turn that was judged, so a judgment of the
second turn is about another response than one of the first. The aspect says the turn: "turn 1", "turn 2".
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from curation.pairs import RESPONSE_LEAD, Turn, parse, turn
from curation.ratings_rows import (
    OVERALL,
    PreferenceRow,
    Row,
    Unused,
    chosen,
    continued,
    is_strength,
    moment_of,
    name_of,
    shortened,
    turns_of,
    whole,
)
from curation.tables import Record

_COLUMNS = {"question_id", "model_a", "model_b", "winner", "judge"}
_TALKS = ("conversation_a", "conversation_b")
_INCONSISTENT = "tie (inconsistent)"  # the judge chose otherwise when the order was turned round
_WINNERS = {"left": "model_a", "right": "model_b", "tie": "tie", "both bad": "tie (bothbad)"}
_TURN = re.compile(r"turn ([1-9]\d*)")
HOLDS = frozenset({*PreferenceRow._fields} - {"subset", "seconds", "claim", "kind"})


def fits(record: Record) -> bool:
    """Whether the columns are those of the judgments."""
    return record.keys() >= _COLUMNS


def columns(_records: Sequence[Record], mapping: Mapping[str, str]) -> dict[str, str]:
    """None: this form's columns have their names. Raises ValueError for a mapping."""
    if mapping:
        raise ValueError(f"the columns of MT-bench judgments have their names: expected no mapping of {', '.join(mapping)}")
    return {}


def rows_of(line: int, record: Record, _columns: Mapping[str, str]) -> Iterator[Row | Unused]:
    """The one judgment of a record."""
    if not fits(record):
        missing = ", ".join(sorted(_COLUMNS - record.keys()))
        raise ValueError(f"no {missing}: expected the columns of MT-bench judgments")
    number = name_of(record.get("turn"))
    if number and not _TURN.fullmatch(f"turn {number}"):
        raise ValueError(f"the turn is {shortened(number)}: expected a whole number from 1")
    sides = [_talked(record.get(name), name, int(number or 0)) for name in _TALKS]
    if None not in sides and sides[0][0] != sides[1][0]:
        raise ValueError("conversation_a and conversation_b begin with different questions: expected the same")
    judge, winner = record["judge"], name_of(record["winner"])
    rater = " ".join(name_of(part) for part in judge) if isinstance(judge, list) else name_of(judge)
    prompt = next((side[0] for side in sides if side), None)
    left, right = (side[1] if side else None for side in sides)
    yield PreferenceRow(
        line, name_of(record["question_id"]), prompt, left, right, name_of(record["model_a"]), name_of(record["model_b"]),
        rater, chosen(winner), f"turn {number}" if number else OVERALL, at=moment_of(record.get("tstamp")),
        note=winner if winner == _INCONSISTENT else "",
    )  # fmt: skip


def _talked(talk: Any, name: str, judged: int) -> tuple[tuple[Turn, ...], str] | Any:
    """The prompt and the response of a conversation up to the turn judged (0: all of it), None when there is none."""
    if talk is None:
        return None
    turns = turns_of(talk)
    asked = [index for index, one in enumerate(turns) if one.role == "user"]
    end = asked[judged] if 0 < judged < len(asked) else len(turns)
    if not asked or len(asked) < judged or asked[0] + 1 == end:
        raise ValueError(f"{name} has {len(asked)} questions and an end at {turns[-1].role}: expected {judged or 1} answered")
    return tuple(turns[: asked[0] + 1]), continued(turns[asked[0] + 1 : end])


def records_of(rows: Sequence[Row]) -> tuple[list[Record], list[str]]:
    """One judgment a record. Raises ValueError for a rating, a strength, and a prompt of several turns."""
    records = [_record(row) for row in rows]
    return records, ["question_id", "model_a", "model_b", "winner", "judge", *_TALKS, "turn", "tstamp"]


def _record(row: Row) -> Record:
    if not isinstance(row, PreferenceRow) or is_strength(row.choice):
        raise ValueError("MT-bench judgments say which response is better: expected no ratings and no strengths")
    if not (row.left_generator and row.right_generator):
        raise ValueError("MT-bench judgments name both models: expected a generator of each response")
    if row.note not in ("", _INCONSISTENT) or (row.note and row.choice != "tie"):
        raise ValueError(f"the note is {shortened(row.note)}, for which MT-bench judgments have no place: leave it out by name")
    talks = [_talk(row.prompt, text) for text in (row.left, row.right)]
    judged = _judged(row, talks)
    at = row.at.timestamp() if isinstance(row.at, datetime) else None
    models = {"model_a": row.left_generator, "model_b": row.right_generator, "winner": row.note or _WINNERS[row.choice]}
    names = {"question_id": whole(row.item), **models, "judge": row.rater}
    return {**names, **dict(zip(_TALKS, talks, strict=True)), "turn": judged, "tstamp": at}


def _talk(prompt: tuple[Turn, ...] | None, response: str | None) -> list[dict[str, str]] | None:
    if prompt is None or response is None:
        if response is not None or prompt is not None:
            raise ValueError("MT-bench judgments hold whole conversations: expected a prompt and both responses, or none")
        return None
    turns = [*prompt, *parse(RESPONSE_LEAD + response)]
    talk = [{"role": one.role, "content": one.content} for one in turns]
    plain = all(one == turn(one.role, one.content) for one in turns)
    if not plain or _talked(talk, "", 0) != (prompt, response):
        raise ValueError("MT-bench judgments begin after the first question: expected a prompt that ends with it")
    return talk


def _judged(row: PreferenceRow, talks: Sequence[list[dict[str, str]] | None]) -> int | None:
    """The turn that was judged: what the aspect says, else the last of the conversation."""
    counts = {sum(one["role"] == "user" for one in talk) for talk in talks if talk is not None}
    said = _TURN.fullmatch(row.aspect)
    if row.aspect != OVERALL and not said:
        raise ValueError(f"the aspect is {row.aspect!r}: MT-bench judgments know only overall and turn 1, turn 2, ...")
    if len(counts) > 1 or (said and counts and int(said[1]) not in counts):
        raise ValueError(f"the responses have {sorted(counts)} questions and the aspect is {row.aspect}: expected as many")
    return int(said[1]) if said else next(iter(counts), None)
