"""Text of data and people shown as it is, never interpreted: escaped for HTML or for Markdown. Imports no Streamlit."""

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from curation import diff
from curation.pairs import Turn

_NOT_GIVEN = '<div class="text nothing">(the ratings were imported without this text)</div>'
_OPENING_QUOTE = re.compile(r"(?<=\s)['\"]")  # an apostrophe stands behind a letter
_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&@^=\"'/])")


def md(text: str) -> str:
    """Text for a place that reads Markdown (labels, captions, messages), so that it shows as it is."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def html(text: str) -> str:
    """Text as HTML that shows it as it is, line breaks and spaces too."""
    if not text.strip():
        return f'<div class="text nothing">(empty{": " + str(len(text)) + " white-space characters" if text else ""})</div>'
    return f'<div class="text">{escape(text)}</div>'


def prompt(given: tuple[Turn, ...], *, last: int = 3, long: int = 1500) -> str:
    """The prompt as chat; of a long one the last turns, with the rest one click away."""
    if not given:
        return '<div class="quiet">(no prompt: the two texts stand by themselves)</div>'
    kept = len(given)
    while kept > 1 and (kept > last or sum(len(one.content) for one in given[-kept:]) > long):
        kept -= 1
    turns = [_turn_html(one) for one in given]
    earlier = turns[: len(turns) - kept]
    hidden = ""
    if earlier:
        count = f"{len(earlier)} earlier turn{'s' if len(earlier) > 1 else ''}"
        hidden = f'<details class="earlier"><summary>{count}</summary>{"".join(earlier)}</details>'
    return hidden + "".join(turns[len(earlier) :])


def _turn_html(turn: Turn) -> str:
    kind = turn.role if turn.role in ("user", "assistant", "system") else "other"
    who = {"user": "Human", "assistant": "Assistant"}.get(turn.role, turn.role or "before the first turn")
    return f'<div class="turn {kind}"><div class="who">{escape(who)}</div>{html(turn.content)}</div>'


def sides(given: Sequence[tuple[str, str | None]], *, compare: bool, notes: Sequence[str] = ()) -> str:
    """Responses side by side, each a name and a text, None where it is not known; with `compare` the word difference of two.
    `notes` holds a line to stand under each name."""
    known = [text or "" for _, text in given]
    bodies = [_NOT_GIVEN if text is None else html(text) for _, text in given]
    if compare and len(given) == 2 and all(text.strip() for text in known):
        bodies = [_pieces_html(pieces) for pieces in diff.words(*known)]
    said = [f'<div class="quiet">{escape(one)}</div>' if one else "" for one in notes] or [""] * len(given)
    drawn = [
        f'<div class="side"><div class="name">{escape(name)}<small>{len(text.split()):,} words</small></div>{note}{body}</div>'
        for (name, _), text, body, note in zip(given, known, bodies, said, strict=True)
    ]
    return f'<div class="sides{" one" if len(given) == 1 else ""}">{"".join(drawn)}</div>'


def _pieces_html(pieces: Iterable[diff.Piece]) -> str:
    marks = {"both": "{}", "first": "<del>{}</del>", "second": "<ins>{}</ins>"}
    return f'<div class="text">{"".join(marks[one.where].format(escape(one.text)) for one in pieces)}</div>'


def reasons(found: list[dict[str, object]], *, sides: dict[str, str] | None = None) -> str:
    """What the filters say of a pair, as a list; `sides` renames chosen and rejected where they must stay hidden."""
    lines = []
    if sides:  # the order must not tell which side is which either
        if any(_tells_the_label(one) for one in found):
            lines.append("<li>flagged for a reason that would tell the label; it is shown after the answer</li>")
        found = [one for one in found if not _tells_the_label(one)]
        found = sorted(found, key=lambda one: (-float(str(one["score"])), str(one["filter"]), sides.get(str(one["side"]), "")))
    for one in found:
        side = str(one["side"])
        where = (sides or {}).get(side, side)
        reason = renamed(str(one["reason"]), sides or {})
        lines.append(f"<li><b>{escape(str(one['filter']))}</b> ({escape(where)}, {one['score']:.2f}): {escape(reason)}</li>")
    body = f'<ul class="reasons">{"".join(lines)}</ul>' if lines else '<span class="quiet">No filter flags this pair.</span>'
    return f'<div class="er">{body}</div>'


def renamed(reason: str, sides: Mapping[str, str]) -> str:
    """A reason with the sides called otherwise, up to where it begins to quote: a response's own words are left alone, as
    "What was A?" in the place of "What was chosen?" would tell which side is A."""
    opening = _OPENING_QUOTE.search(reason)
    said, quoted = (reason[: opening.start()], reason[opening.start() :]) if opening else (reason, "")
    for label, name in sides.items():
        said = re.sub(rf"\b{label}\b", name, said)
    return said + quoted


def _tells_the_label(flag: Mapping[str, object]) -> bool:
    """Whether a flag says which side is chosen, whatever it is called: some filters never flag the other one."""
    return flag["filter"] == "contested" or (flag["filter"] == "toxic" and flag["side"] != "both")
