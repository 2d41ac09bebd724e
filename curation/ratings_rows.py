"""What a file of human ratings says, whatever its form: one rating or one preference a row, and what could not be used."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from curation.pairs import Turn, parse, render, turn

OVERALL = "overall"  # the aspect of a file that names none
_STRENGTHS = {str(strength) for strength in range(-3, 4)}
_WORDS = {
    "left": ("left", "a", "1", "model_a", "model_1", "response_a", "response_1", "output_1"),
    "right": ("right", "b", "2", "model_b", "model_2", "response_b", "response_2", "output_2"),
    "tie": ("tie",),
    "both bad": ("both bad", "both_bad", "bothbad", "tie (bothbad)", "tie (both bad)"),
}
_CHOICES = {word: choice for choice, words in _WORDS.items() for word in words}
_MARKED = ("\n\nHuman:", "\n\nAssistant:", "\n\nSystem:")

NAMES: Mapping[str, tuple[str, ...]] = {  # field: what its column may be called, the first that is there is taken
    "item": ("item", "item_id", "question_id", "example_id", "pair_id"),
    "prompt": ("prompt", "instruction", "question"),
    "response": ("response", "output", "answer", "completion"),
    "generator": ("generator", "model", "model_id", "system"),
    "rater": ("rater", "rater_id", "annotator", "annotator_id", "worker", "worker_id", "user", "user_id", "judge"),
    "aspect": ("aspect", "dimension", "criterion", "attribute"),
    "value": ("value", "rating", "score", "label"),
    "left": ("left", "response_a", "answer_a", "output_1", "response_1", "answer1"),
    "right": ("right", "response_b", "answer_b", "output_2", "response_2", "answer2"),
    "left_generator": ("left_generator", "model_a", "generator_a", "generator_1", "model_1"),
    "right_generator": ("right_generator", "model_b", "generator_b", "generator_2", "model_2"),
    "choice": ("choice", "winner", "preference", "preferred"),
    "strength": ("strength",),
    "subset": ("subset", "category"),
    "seconds": ("seconds", "lead_time"),
    "at": ("at", "rated_at", "created_at", "timestamp"),
    "shown": ("shown",),
    "claim": ("claim", "claim_id"),
    "note": ("note", "comment"),
    "kind": ("kind",),
}


class RatingRow(NamedTuple):
    """One value of one rater on one aspect of one response."""

    line: int  # record number in the file, from 1
    item: str  # the file's name for the item; "" when it has none (then prompt names it)
    prompt: tuple[Turn, ...] | None  # None: the file does not give it
    response: str | None
    generator: str  # "" when not given
    rater: str
    aspect: str  # "overall" when the file names none
    value: str  # as written: a number or a word; scales are applied later
    subset: str = ""
    seconds: float | None = None
    at: datetime | None = None
    shown: int | None = None  # the place, from 1, at which the response was shown
    claim: str = ""
    note: str = ""
    kind: str = ""


class PreferenceRow(NamedTuple):
    """One comparison of two responses by one rater."""

    line: int
    item: str
    prompt: tuple[Turn, ...] | None
    left: str | None
    right: str | None
    left_generator: str
    right_generator: str
    rater: str
    choice: str  # left, right, tie, both bad; or a whole number -3..3: how much better the right one is
    aspect: str = OVERALL
    subset: str = ""
    seconds: float | None = None
    at: datetime | None = None
    claim: str = ""
    note: str = ""
    kind: str = ""


Row = RatingRow | PreferenceRow


class Unused(NamedTuple):
    """A record, or a part of one, that could not be used, and why."""

    line: int
    reason: str


class Read(NamedTuple):
    """What a file held. `columns` says which column was taken for which field, where the form has columns to choose."""

    rows: list[Row]
    unused: list[Unused]
    form: str
    columns: Mapping[str, str] = {}


# ---- columns


def columns_of(seen: Iterable[str], mapping: Mapping[str, str], fields: Iterable[str] = NAMES) -> dict[str, str]:
    """Field: the column it is read from, for these fields; `mapping` goes before the names known.

    Raises ValueError for a field nobody knows and for a mapped column that is not there.
    """
    names = {_folded(name): name for name in reversed(list(seen))}
    found = {field: names[name] for field in fields for name in reversed(NAMES[field]) if name in names}
    for field, column in mapping.items():
        if field not in NAMES:
            raise ValueError(f"cannot map {field!r}: expected one of {', '.join(NAMES)}")
        if column not in names.values():
            raise ValueError(f"no column {column!r} for {field}: the columns are {listed(names.values())}")
        found[field] = column
    return found


def _folded(name: str) -> str:
    return re.sub(r"[ -]", "_", name.strip().casefold())


def listed(names: Iterable[str]) -> str:
    """Names for a sentence."""
    return ", ".join(sorted(map(repr, names))) or "none"


# ---- cells


def name_of(value: Any) -> str:
    """A name as text, "" when there is none. 3.0 is the name 3: a missing neighbour makes fractions of whole numbers."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value_of(value)


def value_of(value: Any) -> str:
    """A number or word as it was written, "" when there is none. Raises ValueError for a list or an object."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict):
        raise ValueError(f"{shortened(value)} is a {type(value).__name__}: expected one number or word")
    return str(value).strip()


def response_of(value: Any) -> str | None:
    """A response: a text, or messages from the assistant's on, as the transcript that continues the prompt."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, list):
        return continued(turns_of(value))
    if isinstance(value, dict):
        raise ValueError(f"a response is {shortened(value)}: expected a text or a list of messages")
    return str(value)


def continued(turns: Iterable[Turn]) -> str:
    """The turns after a prompt as one response: the assistant's text, with what follows it as a transcript."""
    first, *rest = turns
    return first.content + render(rest) if first.role == "assistant" else render([first, *rest])


def prompt_of(value: Any) -> tuple[Turn, ...] | None:
    """A prompt: plain text (one user turn), an HH transcript, or messages, also as JSON; None when there is none.

    What waits for the response at a transcript's end, an empty assistant turn, is no part of the prompt.
    """
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, list):
        return tuple(turns_of(value))
    if not isinstance(value, str):
        raise ValueError(f"the prompt is {shortened(value)}: expected a text or a list of messages")
    if value.startswith("[{"):
        try:
            return tuple(turns_of(json.loads(value)))
        except (ValueError, RecursionError):
            pass  # a text that only begins like messages
    if not value.startswith(_MARKED):
        return (turn("user", value),)
    turns = parse(value)
    waits = len(turns) > 1 and turns[-1].role == "assistant" and not turns[-1].content
    return tuple(turns[:-1] if waits else turns)


def prompt_text(prompt: tuple[Turn, ...] | None) -> str | None:
    """A prompt as the text that `prompt_of` reads it back from: plain, else an HH transcript, else messages as JSON."""
    if prompt is None:
        return None
    texts = [prompt[0].content] if len(prompt) == 1 else []
    for text in (*texts, render(prompt)):
        if prompt_of(text) == prompt:
            return text
    return json.dumps([_message(one) for one in prompt], ensure_ascii=False)


def turns_of(messages: Any) -> list[Turn]:
    """The turns of `[{"role": ..., "content": ...}]`, where a "lead" may give an unusual marker."""
    turns = []
    for message in messages if isinstance(messages, list) and messages else [messages]:
        said = message if isinstance(message, dict) else {}
        role, content, lead = said.get("role"), said.get("content"), said.get("lead")
        if not (isinstance(role, str) and isinstance(content, str) and (role or isinstance(lead, str))):
            raise ValueError(f"a message is {shortened(message)}: expected a role and a text content")
        turns.append(Turn(role, content, lead) if isinstance(lead, str) else turn(role, content))
    return turns


def _message(one: Turn) -> dict[str, str]:
    said = {"role": one.role, "content": one.content}
    return said if one.role and one == turn(one.role, one.content) else {**said, "lead": one.lead}


def chosen(choice: Any, strength: Any = None) -> str:
    """The choice of a choice cell, a strength cell, or both where they agree.

    Raises ValueError for a word that is none of those in `_WORDS`, and a strength that is no whole number -3..3.
    """
    word, number = name_of(choice), name_of(strength)
    if not word and not number:
        raise ValueError("no choice: expected left, right, tie or both bad")
    if word and word.casefold() not in _CHOICES and not (word.casefold() == "tie (inconsistent)"):
        raise ValueError(f"the choice is {shortened(word)}: expected left, right, tie or both bad (also A, B, model_a, 1, ...)")
    decided = _CHOICES.get(word.casefold(), "tie")
    if not number:
        return decided
    number = number.removeprefix("+")
    if number not in _STRENGTHS:
        raise ValueError(f"the strength is {shortened(number)}: expected a whole number from -3 (left) to 3 (right)")
    better = "tie" if number == "0" else "left" if number.startswith("-") else "right"
    if word and better != decided:
        raise ValueError(f"the choice is {word!r} and the strength {number}: expected them to agree")
    return number


def is_strength(choice: str) -> bool:
    """Whether a choice is a strength and not a word."""
    return choice in _STRENGTHS


def strength_of(aspect: str) -> str:
    """The question that asks for a strength on an aspect, where a form has questions."""
    return "strength" if aspect == OVERALL else f"{aspect}_strength"


def aspect_of(question: str) -> str | None:
    """The aspect that a question of strength is about, None for any other question."""
    return OVERALL if question == "strength" else question.removesuffix("_strength") if question.endswith("_strength") else None


def whole(text: str) -> int | str:
    """A whole number where the text is exactly one, else the text."""
    return int(text) if text.isascii() and text.isdigit() and str(int(text)) == text else text


def seconds_of(value: Any) -> float | None:
    """How long it took. Raises ValueError for what is no time."""
    return _number(value, "seconds", 0.0)


def shown_of(value: Any) -> int | None:
    """The place at which a response was shown, from 1."""
    place = _number(value, "shown", 1.0)
    if place is not None and not place.is_integer():
        raise ValueError(f"shown is {shortened(value)}: expected a whole number from 1")
    return None if place is None else int(place)


def _number(value: Any, field: str, least: float) -> float | None:
    text = value_of(value)
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= least):
        raise ValueError(f"{field} is {shortened(value)}: expected a number from {least:g}")
    return number


def moment_of(value: Any) -> datetime | None:
    """When: an ISO time, UTC where it names no zone, or seconds since 1970."""
    if value_of(value) == "":
        return None
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value_of(value))
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"the time is {shortened(value)}: expected one like 2026-11-02T09:00:00+00:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def shortened(value: Any) -> str:
    """A value for a sentence: no longer than a line."""
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."


# ---- rows


def check(row: Row) -> Row:
    """The row, where it says enough to be used. Raises ValueError with a sentence that says what is missing or wrong."""
    if not row.rater:
        raise ValueError("no rater: expected who gave it")
    if isinstance(row, RatingRow):
        if not row.value:
            raise ValueError(f"no value for {row.aspect}: expected a number or a word")
        if not row.item and row.prompt is None and row.response is None:
            raise ValueError("no item, no prompt and no response: nothing says what was rated")
    else:
        whole = row.left is not None and row.right is not None
        if not (whole or (row.left_generator and row.right_generator)):
            raise ValueError("neither both responses nor both generators: nothing says what was compared")
        if not (whole or row.item or row.prompt is not None):
            raise ValueError("no item, no prompt and not both responses: nothing says where they were compared")
        if row.choice not in _WORDS and not is_strength(row.choice):
            raise ValueError(f"the choice is {shortened(row.choice)}: expected left, right, tie, both bad or -3 to 3")
    for text in (*row, *(part for one in row.prompt or () for part in one)):
        if isinstance(text, str):
            check_text(text)
    return row


def check_text(text: str) -> None:
    """Refuse what no UTF-8 file and no database column can hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = f"{ord(text[error.start]):04x}"
        reason = f"the text holds half a character, or a byte that is not UTF-8 (\\u{code}): expected valid Unicode"
        raise ValueError(reason) from None
