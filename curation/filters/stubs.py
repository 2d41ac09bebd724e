"""Stubs, by their words: responses made of nothing but phrases that neither answer nor ask anything in particular."""

import re
from typing import NamedTuple

from curation.pairs import Pair

_WORD = re.compile(r"\w")
_END = re.compile(r"[.!?…,;:\-–—\n]+")
_APOSTROPHES = str.maketrans("’‘`", "'''")
_AROUND = " \"'“”()*[]"
# words that change nothing about a stub; they are taken out before it is looked at
_FILLERS = re.compile(
    r"\b(?:(?:i'm|i am) afraid|(?:(?:i'm|i am) )?(?:so |very )?sorry(?: but)?|please|well|oh|u[mh]+h*|hm+|"
    r"quite|really|still|just|honestly|exactly|entirely|completely|fully|totally|very|a (?:little )?bit|a little)\b"
)

_THAT = "(?:that|this|it|you)"
_MEAN = (
    f"(?:what )?(?:you(?: mean|'re (?:asking|saying)| are (?:asking|saying)| said)|(?:that|this|it) means?)"
    f"(?: (?:by |about )?(?:me|{_THAT}))?"
)
_QUESTION = "(?:the|your|this|that) (?:question|request|statement|message)"
_OBJECT = f"(?: (?:{_THAT}|{_QUESTION}|{_MEAN}))?(?: (?:by|about|on) {_THAT})?(?: (?:again|for me))?"
_MORE = f"(?:(?:tell me|say|explain) more|go on|elaborate)(?: (?:about |on )?{_THAT})?"

# the kinds of stubs, each with how surely it says nothing
_LOST = (
    f"(?:what|how) (?:do|did|would) you mean(?: (?:by )?{_THAT})?|what does {_THAT} mean|what(?: (?:was|is) {_THAT})?",
    "what did you (?:say|ask)|what was the question|huh|come again|a what|how what|(?:i'm|i am) confused",
    "(?:i beg your )?pardon(?: me)?|excuse me|is that a question",
    f"(?:(?:i'm|i am) )?not (?:sure|certain)(?: (?:that )?i)? (?:understand|follow|get|know){_OBJECT}",
    f"(?:(?:i'm|i am) )?not (?:sure|certain) (?:{_MEAN}|how to (?:interpret|answer|take) {_THAT})",
    f"i (?:do not|don't|did not|didn't|cannot|can't|don't think i) (?:understand|follow|get){_OBJECT}",
    f"i (?:do not|don't) know (?:{_MEAN}|what to say(?: to {_THAT})?)|it(?:'s| is) (?:unclear|not clear) {_MEAN}",
    f"(?:(?:can|could|would) you )?(?:rephrase|repeat|say){_OBJECT}",
)
_ACKNOWLEDGING = (
    "i (?:see|understand|hear you)|understood|noted|ah|mm+|er+",
    f"let me (?:see|think)(?: (?:about {_THAT}|for a (?:moment|minute|second)))?",
    "(?:that's|that is) (?:too )?(?:bad|awful|terrible|sad)|how (?:awful|terrible|sad)|too bad",
)
# after a statement these keep a conversation going; after a question or a request they put it off
_ASKING_ON = (
    "(?:but )?why(?: not)?|how (?:so|come)|in what way|like what|so|is that (?:so|right)",
    f"what do you think(?: (?:about|of) {_THAT})?|why are you asking(?: {_THAT})?",
    f"why (?:do|would) you (?:ask|say {_THAT}|think (?:that|so)|want to (?:know|ask)(?: {_THAT})?)",
    f"(?:(?:can|could|would) you )?(?:clarify|explain){_OBJECT}|(?:can|could|would) you be more specific",
    f"what makes you (?:say|think|ask) (?:{_THAT}|so)|(?:(?:can|could|would|will) you )?{_MORE}",
)
# fine after a statement and, most of them, after a question that wants a yes
_AGREEING = (
    "ok|okay|k|alright|all right|fine|sure|sure thing|of course|certainly|absolutely|got it|great|good|cool|nice|wow",
    "(?:(?:that's|that is|how) )?interesting|(?:ha)+|heh|lol",
    "yeah|thanks|thank you|no problem|i agree|one (?:sec|second|moment)|hold on",
    "(?:i'd be|i'm|i am|i would be) (?:happy|glad) to(?: help)?",
)
_UNSURE = ("i (?:don't|do not) know|(?:(?:i'm|i am) )?not sure|(?:i have )?no idea|(?:it|that) depends|who knows",)
_KINDS = {
    "lost": (0.9, re.compile("|".join(_LOST))),
    "acknowledging": (0.85, re.compile("|".join(_ACKNOWLEDGING))),
    "asking on": (0.8, re.compile("(?:ok(?:ay)? )?(?:" + "|".join(_ASKING_ON) + ")")),
    "agreeing": (0.8, re.compile("|".join(_AGREEING))),
    "unsure": (0.6, re.compile("|".join(_UNSURE))),
}

_WH = r"(?:what|how|why|where|which|who)(?:'?s)?"
_REQUEST = re.compile(
    rf"\b(?:{_WH}|when)\b[^.!]*\?|\b(?:next|any (?:ideas|advice|tips|others?))\?|"
    r"(?:\A|[.!?,;\n] *)(?:so |and |but |ok(?:ay)? |yes |well |hi |hello |hey )*"
    rf"(?:{_WH}|(?:can|could|will) (?:you|u)|would you (?!like|ever|be|prefer|rather|say)|do you (?:know|have)|please|"
    r"tell|give|help|write|list|name|suggest|recommend|show|explain|describe|find|make|say|call|"
    r"i (?:need|want|would like|'d like)(?! to thank))\b"
)
# 'Great.' or 'Fine.' answers these
_OPINION = re.compile(r"\bhow(?: (?:are|is|was|were|do you feel|did)|'s)\b|\bwhat do you think\b|\bhow do you like\b")
_CLOSING = re.compile(r"\b(?:thanks?|thank you|thx|ty|bye|goodbye|good night|appreciate|never ?mind)\b")


class Stub(NamedTuple):
    """A response that is a stub: how surely it says nothing, the text, and whether it may be the right thing to say here."""

    score: float
    shown: str
    excused: bool


def stub_in(pair: Pair, text: str, *, longest: int, not_knowing_too: bool) -> Stub | None:
    """What kind of stub this whole response is; None where any of its sentences says something."""
    if len(text) > longest or not text.strip():
        return None
    if not _WORD.search(text):
        return Stub(0.95, f"{text.strip()!r} (no word in it)", excused=False)
    kinds = []
    for sentence in _END.split(text.lower().translate(_APOSTROPHES)):
        bare = " ".join(_FILLERS.sub(" ", sentence).strip(_AROUND).split())
        if not bare:
            continue
        kind = next((kind for kind, (_, stub) in _KINDS.items() if stub.fullmatch(bare)), None)
        if kind is None or (kind == "unsure" and not not_knowing_too):
            return None
        kinds.append(kind)
    kind = max(kinds, key=lambda one: _KINDS[one][0], default="acknowledging")  # nothing but 'Hmm', 'Oh, really'
    return Stub(_KINDS[kind][0], repr(text.strip()), excused(kind, asked_last(pair)))


def asked_last(pair: Pair) -> str:
    """The end of the turn that is answered, in lower case."""
    return pair.prompt[-1].content[-2000:].lower().replace("huh?", "huh") if pair.prompt else ""


def excused(kind: str, asked: str) -> bool:
    """Whether a stub of this kind may be the right thing to say after this turn (in lower case)."""
    if kind == "agreeing" and _OPINION.search(asked):
        return True
    if _REQUEST.search(asked):
        return False
    if kind == "agreeing" or _CLOSING.search(asked):
        return True
    if "?" in asked:
        return False
    hardly_said_anything = len(asked.split()) <= 3
    return kind == "asking on" or (hardly_said_anything and kind in ("lost", "acknowledging"))
