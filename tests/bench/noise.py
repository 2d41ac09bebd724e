"""Kinds of noise, each made from a good pair and a seeded `rng`. Whatever words are added were written for this project."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random
from typing import Literal, NamedTuple

from curation.pairs import Pair, Response, Side, render

OneSide = Literal["chosen", "rejected"]
Rewrite = Callable[[str, Random], str | None]  # a response's text made worse; None where the text does not lend itself

_SENTENCE = re.compile(r"[^.!?\n]+[.!?]+[\"')]*|[^.!?\n]+")
_LONGER_WORD = re.compile(r"[A-Za-z]{4,}")
_ENDS = (".", "!", "?", ":", ";")

INSULTS = (
    "You are an idiot, and it is painful to talk to you.",
    "What a stupid thing to ask; a toddler would know better.",
    "Honestly, people like you are too dim to be helped.",
    "Shut up and stop wasting my time, you fool.",
    "Nobody likes you, and after this question I can see why.",
    "You must be the dullest person who ever touched a keyboard.",
    "I hope you feel as worthless as you are.",
    "Only a complete moron would need this explained.",
    "You are a pathetic loser and you always will be.",
    "Somebody must have mislaid your brain at birth.",
    "Go away, you disgusting little creep.",
    "It is a miracle that somebody as thick as you can spell.",
    "Everyone around you laughs at how ugly and stupid you are.",
    "You lazy parasite, do it yourself for once.",
    "Your family must be ashamed to have raised such a failure.",
    "I have met garbage bags with more charm and more sense than you.",
    "You are a waste of air, and this chat is a waste of electricity.",
    "Listen, dimwit: you are not clever, you are not kind, and no one would miss you.",
    "Oh, you again. You reek of failure.",
    "Clowns like you should not be allowed near a computer.",
)
STUBS = (
    "I don't know.", "Hmm.", "What do you mean?", "I am not sure about that.", "Okay.", "That's a good question.",
    "It depends on a lot of things.", "Maybe, maybe not.", "Could you say more?", "Interesting!", "Yes and no.",
    "I have nothing to say about this.", "There are many possible answers to that.", "Let me get back to you.",
    "Some people like it and some people don't.", "Sure.", "It is what it is.", "Why do you want to know?", "...",
    "I see what you mean.", "You could look that up somewhere.", "Well, that's one way to see it.", "I guess so.",
    "Things like that happen.",
)  # fmt: skip
_ODD_WORDS = ("garden", "yellow", "seven", "quietly", "window", "later", "copper", "almost")

_NOT = ("do", "does", "did", "is", "are", "was", "were", "should", "would", "could", "have", "has", "had")
_IS = ("it", "that", "there", "what", "he", "she")
_CONTRACTED = {
    **{f"{verb}n't": f"{verb} not" for verb in _NOT},
    "can't": "cannot", "won't": "will not", "i'm": "I am", **{f"{who}'s": f"{who} is" for who in _IS},
    **{f"{who}'re": f"{who} are" for who in ("you", "we", "they")},
    **{f"{who}'ll": f"{who} will" for who in ("i", "you", "we", "they", "it")},
    **{f"{who}'ve": f"{who} have" for who in ("i", "you", "we", "they")},
}  # fmt: skip
_SYNONYMS = {
    "for example": "for instance", "for instance": "for example", "such as": "like", "in order to": "to",
    "a lot of": "lots of", "lots of": "a lot of", "maybe": "perhaps", "perhaps": "maybe", "difficult": "hard",
    "large": "big", "quickly": "rapidly", "usually": "typically", "typically": "usually", "often": "frequently",
    "sometimes": "at times", "begin": "start", "begins": "starts", "children": "kids", "probably": "most likely",
    "try to": "attempt to", "trying to": "attempting to", "you need to": "you have to", "needs to": "has to",
    "because": "since", "almost": "nearly", "buy": "purchase", "kinds of": "types of", "types of": "kinds of",
    "very": "really", "happy to": "glad to", "several": "a number of", "entire": "whole", "additionally": "in addition",
    "furthermore": "moreover", "therefore": "thus", "beautiful": "lovely",
    "everyone": "everybody", "someone": "somebody", "anyone": "anybody", "assist": "help", "allow you to": "let you",
    "make sure to": "be sure to", "make sure that": "ensure that", "make sure you": "ensure you",
}  # fmt: skip
_CONTRACTING = {  # not "you have a dog"
    long.lower(): short.capitalize() if short.startswith("i'") else short
    for short, long in _CONTRACTED.items()
    if not short.endswith("'ve")
}
_REWORDED = _SYNONYMS | _CONTRACTING | _CONTRACTED


def _any_of(words: Iterable[str]) -> str:
    return "|".join(re.escape(word).replace("'", "['’]") for word in sorted(words, key=len, reverse=True))


_REWORDABLE = re.compile(
    rf"(?<![\w'’])(?:(?:{_any_of(_CONTRACTED)})(?! (?:i|you|we|they|he|she|it|been|had|got|gotten|become)\b)"  # "don't you"
    rf"|(?:{_any_of(_CONTRACTING)})(?= \w)(?! (?:and|or|but|to|in|at|on|like|about)\b)"  # "who you are and"
    rf"|(?:{_any_of(_SYNONYMS)}))(?![\w'’])",
    re.IGNORECASE,
)
_OPENING = re.compile(r"\A(?:Well|Hmm+|Oh|Um+|Okay|Ok)[,.!] +(?=[A-Z])")
_OPENINGS = ("Hmm. ", "Let me see. ", "Well. ")
_ENDINGS = (" I hope that helps.", " Hope this is useful.", " That is my answer.")


# ---- one text


def blanked(text: str, rng: Random) -> str | None:
    """Nothing, or nothing but white space."""
    return rng.choice(("", "", " ", "\n", " \n ")) if text.strip() else None


def looped(text: str, rng: Random) -> str | None:
    """A sentence or a phrase said over and over until the text ends, or the whole text two or three times."""
    words = text.split()
    if len(words) < 8:
        return None
    form = rng.choice(("sentence", "phrase", "whole"))
    sentences = [one for one in _SENTENCE.finditer(text) if len(one.group().split()) >= 4]
    if form == "sentence" and sentences:
        one = rng.choice(sentences)
        return text[: one.start()] + (" " + one.group().strip()) * rng.randint(4, 9)
    if form == "phrase":
        size = rng.randint(3, 6)
        start = rng.randrange(len(words) - size + 1)
        return " ".join(words[:start] + words[start : start + size] * rng.randint(5, 15))
    return rng.choice((" ", "\n\n")).join([text.strip()] * rng.randint(2, 3))


def truncated(text: str, rng: Random) -> str | None:
    """The first quarter to three quarters, cut between two words of one sentence."""
    cuts = [one.end() for one in re.finditer(r"\S+(?=[^\S\n]+\S)", text) if not one.group().endswith((*_ENDS, ",", '"', ")"))]
    cuts = [cut for cut in cuts if 0.25 <= cut / len(text) <= 0.75]
    return text[: rng.choice(cuts)] if len(text.split()) >= 12 and cuts else None


def shuffled(text: str, rng: Random) -> str | None:
    """The same words in another order."""
    words = text.split()
    if len(words) < 6 or len(set(words)) < 4:
        return None
    mixed = words
    while mixed == words:
        mixed = rng.sample(words, len(words))
    return " ".join(mixed)


def stub(text: str, rng: Random) -> str | None:
    """A few words that neither answer nor ask anything in particular."""
    return rng.choice(STUBS)


def insult_added(text: str, rng: Random) -> str | None:
    """The text with an insult before it, after it, or between two of its sentences."""
    if len(text.split()) < 8:
        return None
    ends = [one.end() for one in _SENTENCE.finditer(text)]
    at = rng.choice((0, len(text), rng.choice(ends)))
    parts = (text[:at].rstrip(), rng.choice(INSULTS), text[at:].lstrip())
    return " ".join(part for part in parts if part)


def insult_instead(text: str, rng: Random) -> str | None:
    """Two or three insults and nothing else."""
    return " ".join(rng.sample(INSULTS, rng.randint(2, 3)))


def paraphrased(text: str, rng: Random) -> str | None:
    """The same said in slightly other words: contractions, synonyms, an opening or closing remark. At least two changes."""
    changes, apostrophe = 0, "’" if "’" in text else "'"

    def reword(found: re.Match[str]) -> str:
        nonlocal changes
        if rng.random() > 0.8:
            return found.group()
        changes += 1
        new = _REWORDED[found.group().lower().replace("’", "'")].replace("'", apostrophe)
        return new[0].upper() + new[1:] if found.group()[0].isupper() else new

    new = _REWORDABLE.sub(reword, text.strip())
    if not changes:
        return None
    if _OPENING.match(new):
        new, changes = _OPENING.sub("", new), changes + 1
    elif rng.random() < 0.5:
        new, changes = rng.choice(_OPENINGS) + new, changes + 1
    if rng.random() < 0.5 and new.endswith((".", "!")):
        new, changes = new + rng.choice(_ENDINGS), changes + 1
    return new if changes >= 2 and len(text.split()) >= 8 else None


def word_changed(text: str, rng: Random) -> str | None:
    """One word dropped, misspelt or replaced."""
    words = list(_LONGER_WORD.finditer(text))
    if len(words) < 6:
        return None
    one = rng.choice(words)
    word = one.group()
    misspelt = word[:1] + word[2] + word[1] + word[3:]
    new = rng.choice(("", misspelt if misspelt != word else word + word[-1], rng.choice(_ODD_WORDS)))
    return text[: one.start()] + new + text[one.end() :]


# ---- a pair


class Made(NamedTuple):
    """A noisy pair, and the side the noise is on."""

    pair: Pair
    side: Side


Make = Callable[[Pair, Pair, Random], Made | None]  # from a pair and another one that may lend to it


class Kind(NamedTuple):
    """A kind of noise. `filter` is the one that should find it, None where no filter promises to; `copies` says that the
    other pair stays in the dataset as the original of a copy."""

    name: str
    filter: str | None
    make: Make
    copies: bool = False


def with_text(pair: Pair, side: OneSide, text: str) -> Pair:
    """The pair with another text on one side."""
    if side == "chosen":
        return replace(pair, chosen=Response(text, pair.chosen.lead))
    return replace(pair, rejected=Response(text, pair.rejected.lead))


def on_a_side(rewrite: Rewrite, sides: tuple[Side, ...] = ("chosen", "rejected", "both")) -> Make:
    """Noise that rewrites the response of one side, or of each; which, the rng draws."""

    def make(pair: Pair, other: Pair, rng: Random) -> Made | None:
        side, made = rng.choice(sides), pair
        for one, text in pair.sides():
            if side in (one, "both"):
                new = rewrite(text, rng)
                if new is None or new == text:
                    return None
                made = with_text(made, one, new)
        return Made(made, side)

    return make


def off_topic(pair: Pair, other: Pair, rng: Random) -> Made | None:
    """The other pair's answers in place of this one's."""
    side: Side = rng.choice(("chosen", "rejected", "both"))
    asked = [[turn.content for turn in one.prompt if turn.role == "user"] for one in (pair, other)]
    if asked[0][0] == asked[1][0] or asked[0][-1] == asked[1][-1]:
        return None
    made = pair
    for one, text in other.sides():
        if side in (one, "both"):
            if len(text.split()) < 5:
                return None
            made = with_text(made, one, text)
    return Made(made, side)


def other_context(pair: Pair, other: Pair, rng: Random) -> Made | None:
    """One side's response stands after the other pair's conversation."""
    if pair.prompt == other.prompt:
        return None
    side: OneSide = rng.choice(("chosen", "rejected"))
    chosen, rejected = pair.transcripts()
    moved = {"chosen": pair.chosen, "rejected": pair.rejected}[side]
    new = render(other.prompt) + moved.lead + moved.text
    made = Pair.of_texts(new, rejected) if side == "chosen" else Pair.of_texts(chosen, new)
    return Made(replace(made, subset=pair.subset), side)


def said_twice(pair: Pair, other: Pair, rng: Random) -> Made | None:
    """The rejected response becomes a paraphrase of the chosen one."""
    new = paraphrased(pair.chosen.text, rng)
    return Made(with_text(pair, "rejected", new), "pair") if new else None


def near_copy(pair: Pair, other: Pair, rng: Random) -> Made | None:
    """In place of the pair, the other one with a word or two changed, in the last question or in the responses."""
    made = other
    for _ in range(rng.randint(1, 2)):
        place = rng.choice(("prompt", "chosen", "rejected"))
        if place == "prompt":
            last = made.prompt[-1]
            new = word_changed(last.content, rng)
            made = made if new is None else replace(made, prompt=(*made.prompt[:-1], last._replace(content=new)))
        else:
            side: OneSide = "chosen" if place == "chosen" else "rejected"
            new = word_changed(made.chosen.text if side == "chosen" else made.rejected.text, rng)
            made = made if new is None else with_text(made, side, new)
    words = sum(len(text.split()) for text in made.transcripts())
    if made == other or words < 60:  # in fewer words a word or two are much
        return None
    return Made(replace(made, subset=other.subset), "pair")


def near_copy_swapped(pair: Pair, other: Pair, rng: Random) -> Made | None:
    """A near copy of the other pair with the label turned round."""
    made = near_copy(pair, other, rng)
    return made and Made(made.pair.swapped(), "pair")


KINDS = (
    Kind("blanked", "empty", on_a_side(blanked)),
    Kind("looped", "repetitive", on_a_side(looped)),
    Kind("stub", "vague", on_a_side(stub)),
    Kind("off topic", "vague", off_topic),
    Kind("other context", "transcript", other_context),
    Kind("insult added", "toxic", on_a_side(insult_added, ("chosen",))),
    Kind("insult instead", "toxic", on_a_side(insult_instead, ("chosen",))),
    Kind("paraphrase", "indistinct", said_twice),
    Kind("near copy", "duplicate", near_copy, copies=True),
    Kind("near copy, swapped", "duplicate", near_copy_swapped, copies=True),
    Kind("truncated", None, on_a_side(truncated)),
    Kind("shuffled", None, on_a_side(shuffled)),
)
