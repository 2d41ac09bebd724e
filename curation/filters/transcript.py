"""Filter: transcripts that do not fit together, run on, or hold a stray marker."""

import re
from collections.abc import Iterable, Iterator

from pydantic import Field

from curation.filters.base import Filter, Flag
from curation.pairs import Pair, parse

_ANSWER = "\n\nAssistant:"
_TURN = re.compile(r"\n\n(Human|Assistant):")
# a marker where a turn could begin: at the start, on a line of its own, or after the end of a sentence
_STRAY = re.compile(r"(?:\A\s*|\n[^\S\n]*|[.!?…”\"’)\]]\s+)[(\[“\"]?(Human|Assistant):")
_OWN = {"user": "Human", "assistant": "Assistant"}


class Transcript(Filter):
    """Broken transcripts: the two sides answer different conversations, a response goes on into further turns,
    or a turn holds a Human: or Assistant: marker that does not belong there."""

    name = "transcript"

    stray_markers: bool = Field(True, description="also markers inside a turn, such as 'Assistant: Assistant:'")

    def flags(self, pairs: Iterable[Pair]) -> Iterator[Flag]:
        for pair in pairs:
            reason = _contexts(pair)
            if reason:
                # what follows in the responses is that difference, so it is not told twice
                yield self.flag(pair, "pair", 1.0, f"the two contexts differ: {reason}")
                continue
            if self.stray_markers:
                yield from self._in_prompt(pair)
            for side, text in pair.sides():
                if "Human:" not in text and "Assistant:" not in text:
                    continue
                further = _TURN.search(text)
                if further:
                    turn = f"{further.group(1)} turn"
                    yield self.flag(pair, side, 1.0, f"the {side} response goes on with a further {turn}")
                    continue
                fault = _fault(text, "assistant") if self.stray_markers else None
                if fault:
                    yield self.flag(pair, side, fault[0], f"the {side} response {fault[1]}")

    def _in_prompt(self, pair: Pair) -> Iterator[Flag]:
        """The worst stray marker in the turns both sides share."""
        faults = []
        for number, turn in enumerate(pair.prompt, start=1):
            if "Human:" in turn.content or "Assistant:" in turn.content:
                fault = _fault(turn.content, turn.role)
                if fault:
                    faults.append((fault[0], -number, fault[1]))
        if faults:
            score, number, what = max(faults)
            yield self.flag(pair, "pair", score, f"turn {-number} of the shared prompt {what}")


def _contexts(pair: Pair) -> str | None:
    """How the texts before each side's last answer differ; None where they are the same."""
    chosen, rejected = pair.chosen, pair.rejected
    if chosen.lead and rejected.lead and _ANSWER not in chosen.text and _ANSWER not in rejected.text:
        return None  # both answer the shared prompt, and nothing else: by far the most common case
    contexts = [text[: text.rfind(_ANSWER)] if _ANSWER in text else text for text in pair.transcripts()]
    if contexts[0] == contexts[1]:
        return None
    one, other = parse(contexts[0]), parse(contexts[1])
    same = 0
    for mine, yours in zip(one, other, strict=False):
        if mine != yours:
            break
        same += 1
    if same == min(len(one), len(other)):
        longer, more = ("chosen", len(one) - same) if len(one) > same else ("rejected", len(other) - same)
        return f"the {longer} transcript has {more} more turn{'s' if more > 1 else ''}"
    if len(one) == len(other) and one[same + 1 :] == other[same + 1 :]:
        return f"they differ in turn {same + 1}"
    return f"they differ from turn {same + 1} on"


def _fault(text: str, role: str) -> tuple[float, str] | None:
    """How suspicious a marker inside this turn is, and what it does."""
    stray = _STRAY.search(text)
    if stray is None:
        return None
    marker = stray.group(1)
    if text[: stray.start(1)].strip():
        return 0.8, f"has a stray {marker}: marker inside it"
    if marker == _OWN.get(role):
        return 0.9, f"repeats its own marker: {marker}: {marker}:"
    return 0.9, f"begins with the other role's marker, {marker}:"
