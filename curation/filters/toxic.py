"""Filter: a chosen response, or both, that insults, threatens or is obscene."""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from curation import toxicity
from curation.filters.base import Flag, Read, ReadingFilter, several
from curation.pairs import Pair, Side, Turn

_LEAST = 0.2  # findings below are not worth keeping
_INSULTING = 0.5
_TOXIC = 0.5  # from here on a rejected side is as toxic as need be for both to be

_APOSTROPHES = str.maketrans("’‘`", "'''")
_OPENING = 300  # characters in which a refusal refuses
_NEGATED = (
    "(?:can't|cannot|can not|won't|will not|wouldn't|would not|would never|will never|don't|do not|'m not|am not|refuse to)"
)
_BEFORE = (
    "(?:(?:really|just|ever|even|feel comfortable|comfortable|willing to|able to|allowed to|programmed to|going to|gonna|"
    "want to|wish to|like to|think i (?:can|should|want to)|be able to|be) )*"
)
_ACTS = (
    r"(?:help|assist|aid|support|encourag|endors|recommend|advis|advocat|condon|suggest|provid|giv|offer|shar|tell|say|repeat|"
    r"us|writ|mak|answer|discuss|talk|teach|engag|participat|agree|approv|comment|explain|describ|jok|insult|harm|hurt|promot|"
    r"go along|interested|comfortable|(?:do|doing) (?:that|this|it|so)|want (?:you )?to)(?:e|ing|ting)?"
)
_ITSELF = r"(?! (?:which|who|whether|how (?!to)|what an?)\b)"  # 'I can't tell which is the worse' refuses nothing
_WRONG = (
    "(?:not (?:okay|ok|appropriate|acceptable|right|nice|something i)|(?:(?:very|really|extremely|also) )?"
    "(?:inappropriate|unacceptable|wrong|illegal|offensive|hurtful|unethical|immoral|racist|a crime))"
)
_GOOD = "(?:a good idea|right|okay|ok|appropriate)"
_REFUSAL = re.compile(
    rf"\bi(?:(?: really| just| simply| also)? |(?='m)){_NEGATED} {_BEFORE}{_ACTS}\b{_ITSELF}|"
    r"\bi(?:'m| am) (?:sorry|afraid)[^.!?\n]{0,30}\b(?:can't|cannot|won't|unable|not (?:able|going|willing|allowed))\b|"
    r"\bi(?:'m| am) (?:unable|unwilling|uncomfortable)\b|\bi have no (?:interest|intention|desire)\b|\bthe answer is no\b|"
    rf"\bi (?:don't|do not) think (?:i (?:can|should|want)\b|(?:it|that|this)(?:'s| is| would be) {_GOOD}\b)|"
    rf"\b(?:that|this|it)(?:'s| is| would be) {_WRONG}\b|"
    r"\b(?:please|you should|you must) (?:don't|do not|not|never|stop)\b|\byou (?:shouldn't|must not|mustn't)\b"
)
_COMPLYING = re.compile(  # what comes after a refusal that is none
    r"\b(?:but|however|still|instead),? (?:i can (?:tell|say|give)|you (?:can|could|might)|if you (?:must|insist|really))\b|"
    r"\bhere(?:'s| is| are) (?:a|an|one|some|my|how|what)\b|\bhow about\b|\bsure[,!.]|\bok(?:ay)?,? (?:so|here|fine)\b"
)
# sentences that may say a word without meaning it: questions, denials, and talk about words
_MENTIONING = re.compile(
    r"\?|\b(?:no|not|never|nobody|no one|isn't|aren't|don't|doesn't|didn't|can't|cannot|won't|shouldn't|wouldn't|without|stop|"
    r"words?|terms?|phrases?|slurs?|insults?|insulting|called?|calling|derogatory|offensive|means?|meaning|name-calling)\b"
)
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*|[.!?\n]+")


class Toxic(ReadingFilter):
    """Toxic responses: insults, threats, hate, obscenity. Three cases are told apart: a toxic chosen response beside a
    rejected one that is not (the label is suspicious), both responses toxic (neither is worth learning from), and a toxic
    prompt met by a refusal, even one that repeats the prompt's words, which is no noise and is only shown where asked for.
    A toxic rejected response alone is the label being right. Detoxify judges (in English; its class 'toxicity' counts)
    where its weights are at hand, otherwise a list of words, which knows no meaning: it sees swear words and misses polite
    harm. Every finding says which of them it was."""

    name = "toxic"

    threshold: float = Field(0.5, ge=0, le=1, description="the toxicity from which a finding is a flag")
    model: str = Field(
        toxicity.AUTO,
        description="auto (Detoxify where it is on this machine, else the word list), words (the word list), original, "
        "unbiased or multilingual (these of Detoxify, downloaded once), or a folder with a Detoxify checkpoint",
    )
    refusals_too: bool = Field(False, description="also show toxic prompts met by a refusal, which are no noise")

    @field_validator("model")
    @classmethod
    def _known(cls, model: str) -> str:
        if model not in toxicity.NAMES and not (model.strip() and Path(model).expanduser().is_dir()):
            names = ", ".join(toxicity.NAMES)
            raise PydanticCustomError(
                "toxicity_model", "it should be one of {names}, or a folder that is there", {"names": names}
            )
        return model

    def reader(self) -> toxicity.Detoxify | toxicity.WordList:
        """Detoxify, or the word list where there is none."""
        return toxicity.chosen(self.model)

    def texts(self, pair: Pair) -> Sequence[str]:
        """The last turn before the responses, and both of these; for the word list without words they only mention."""
        return [text.read for text in self._texts(pair)]

    def judged(self, pairs: Iterable[Pair], read: Read, given: Path | None = None) -> Iterator[Flag]:
        for batch in several(pairs):
            texts = [self._texts(pair) for pair in batch]
            rows = iter(read([text.read for some in texts for text in some]).tolist())
            for pair, some in zip(batch, texts, strict=True):
                yield from self._about(pair, {text.of: self._judge(text, next(rows)) for text in some})

    def _texts(self, pair: Pair) -> "list[_Text]":
        reader = self.reader()
        found = [_Text("prompt", pair.prompt[-1].content, "")] if pair.prompt else []
        for side, text in pair.sides():
            hard = reader.hard_words(text) if isinstance(reader, toxicity.WordList) else ()
            found.append(_Text(side, _meant(text, hard, pair.prompt) if hard else text, text))
        return found

    def _judge(self, text: "_Text", row: list[float]) -> "_Judged":
        """How toxic a text is: Detoxify's class toxicity; of the word list, as much of its probability as counts."""
        scores = dict(zip(self.reader().classes, row, strict=True))
        toxic = insulting = scores.get(toxicity.TOXICITY, 0.0)
        if toxicity.PROFANITY in scores:
            hard = scores[toxicity.HARDEST] > 0
            toxic = scores[toxicity.PROFANITY] * (1 if hard else toxicity.EVERYDAY_WORTH)
            insulting = toxic if hard else 0.0
        elif "insult" in scores:
            insulting = max(scores.get(name, 0.0) for name in ("insult", "identity_attack", "threat"))
        refuses = (toxic >= _LEAST or self.refusals_too) and insulting < _INSULTING and _refuses(text.whole)
        return _Judged(0.0 if refuses else toxic, toxic, refuses, scores)

    def _about(self, pair: Pair, judged: "dict[str, _Judged]") -> Iterator[Flag]:
        chosen, rejected, prompt = judged["chosen"], judged["rejected"], judged.get("prompt")
        if chosen.toxic >= _LEAST and rejected.toxic >= min(chosen.toxic, _TOXIC):
            one, other = sorted((chosen, rejected), key=lambda side: -side.toxic)  # by score: the order tells no side
            told = f"both responses {_are(other.toxic, 'are')} toxic: {one.told}; {other.told}"
            yield self._finding(pair, "both", chosen.toxic, told, judged)
        elif chosen.toxic >= _LEAST:
            told = f"the chosen response {_are(chosen.toxic, 'is')} toxic: {chosen.told}"
            yield self._finding(pair, "chosen", chosen.toxic, told, judged)
        elif self.refusals_too and prompt and chosen.refuses:
            worst = max(prompt.unexcused, chosen.unexcused)
            if worst >= max(_LEAST, self.threshold):
                told = f"no noise: the chosen response refuses a toxic prompt: {prompt.told}"
                yield self._finding(pair, "pair", 0.1 * worst, told, judged)

    def _finding(self, pair: Pair, side: Side, score: float, told: str, judged: "dict[str, _Judged]") -> Flag:
        reader = self.reader()
        numbers = {of: {name: round(score, 3) for name, score in one.scores.items()} for of, one in judged.items()}
        return self.flag(pair, side, score, f"{told} ({reader.short})", json.dumps({**numbers, "read_by": reader.described}))


class _Text(NamedTuple):
    of: str  # prompt, chosen or rejected
    read: str  # what the model reads
    whole: str  # what it was made from; nothing for a prompt, which refuses nothing


class _Judged(NamedTuple):
    toxic: float  # 0 for a sound refusal
    unexcused: float
    refuses: bool
    scores: dict[str, float]

    @property
    def told(self) -> str:
        """The scores that matter, in words."""
        if toxicity.PROFANITY in self.scores:
            mild = "" if self.scores[toxicity.HARDEST] else ", by words of everyday use"
            return f"profanity {self.scores[toxicity.PROFANITY]:.2f}{mild}"
        others = [(score, name) for name, score in self.scores.items() if name != toxicity.TOXICITY and score >= _INSULTING]
        worst = [f"{name.replace('_', ' ')} {score:.2f}" for score, name in sorted(others, reverse=True)[:2]]
        return ", ".join([f"toxicity {self.scores[toxicity.TOXICITY]:.2f}", *worst])


def _are(score: float, verb: str) -> str:
    return verb if score >= 0.5 else "may be"


def _refuses(text: str) -> bool:
    """Whether a response begins with a refusal, or with disapproval, and does not comply after it."""
    return bool(_REFUSAL.search(_plain(text[:_OPENING]))) and not _COMPLYING.search(_plain(text[: 4 * _OPENING]))


def _meant(text: str, hard: Collection[str], prompt: Sequence[Turn]) -> str:
    """A response without the hard words that it only mentions: those of the prompt, in a refusal, a question, a denial or
    a sentence about words."""
    asked = "\n".join(one.content for one in prompt).lower()
    repeated = [word for word in sorted(hard) if word in asked]
    if not repeated:
        return text
    words = re.compile(rf"\b(?:{'|'.join(map(re.escape, repeated))})\b", re.IGNORECASE)
    refuses = _refuses(text)
    sentences = _SENTENCE.findall(text)
    return "".join(words.sub("…", one) if refuses or _MENTIONING.search(_plain(one)) else one for one in sentences)


def _plain(text: str) -> str:
    return text.lower().translate(_APOSTROPHES)
