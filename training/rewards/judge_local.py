"""A judge on this machine: a causal model that writes nothing, but is asked how likely "A" and "B" are as its next token."""

import copy
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from training import loading
from training.batches import by_budget
from training.rewards import judge_question, transcripts
from training.rewards.base import Batch, Comparer, Conversation, Message, Numbers, Weighted, Work
from training.rewards.both_orders import Read, budget_of, fitted, padded
from training.rewards.classifier import opening
from training.rewards.decoder import dated, digest_of
from training.rewards.judge_question import Material, joined, material, question

_BEFORE, _AFTER = "[the beginning is left out]\n", "\n[the rest is left out]"
_PROBE = (5, 9, 3, 7)


class LocalJudge(Comparer):
    """A causal model that reads the question by its chat template, or without one as plain text that ends in "Answer:"."""

    def __init__(self, family: Weighted, instructions: str, *, device: str) -> None:
        """Raises ValueError for what is no causal model, and for a tokenizer in which A or B is no single token."""
        from transformers import AutoModelForCausalLM

        where, place, trusted = opening(family, device, auto=AutoModelForCausalLM.__name__)
        self._tokenizer = loading.tokenizer_of(place, **trusted)
        model, missing = loading.opened(AutoModelForCausalLM, place, where, loading.dtype_of(family.dtype, where), **trusted)
        if missing:
            raise ValueError(f"{family.source!r} is no causal model: its files lack {', '.join(missing[:3])}")
        loading.check_vocabulary(self._tokenizer, model.get_input_embeddings().weight.shape[0], family.source)
        self._instructions, self._name = instructions, family.source
        self._max_length = transcripts.limit_of(self._tokenizer, model.config, family.max_length)
        self._budget = budget_of(family.batch_tokens, where.type)
        self._body, self._head = model.base_model, copy.deepcopy(model.get_output_embeddings()).float()
        self._cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
        self._check(model)
        self._render = transcripts.chat_template(self._tokenizer, to_answer=True) if self._tokenizer.chat_template else _plain
        self._special = _special(self._tokenizer)
        self._letters = self._found_letters()

    def prepare(self, prompts: Sequence[Conversation], first: Sequence[Conversation], second: Sequence[Conversation]) -> Work:
        found = [self._harmless(material(*three)) for three in zip(prompts, first, second, strict=True)]
        ahead, behind = [self._read(one) for one in found], [self._read(one.turned()) for one in found]
        lengths = [max(len(one.ids), len(other.ids)) for one, other in zip(ahead, behind, strict=True)]
        plan = list(by_budget(lengths, budget=self._budget // 2))
        batches = [Batch(tuple(places), 2 * len(places) * max(lengths[place] for place in places)) for places in plan]
        cut = np.array([one.truncated or other.truncated for one, other in zip(ahead, behind, strict=True)], np.bool_)
        turned, unwilling = judge_question.turned(len(found)), _unwilling(2 * len(found))
        counted = Counter({turned: 0, unwilling: 0})

        def run(number: int) -> Numbers:
            places = plan[number]
            better, willing = self._better([*(ahead[place] for place in places), *(behind[place] for place in places)])
            counted[unwilling] += int((~willing).sum())
            return joined(better[: len(places)], better[len(places) :], counted, turned)

        notes = ["judged by P(A) against P(B) as the next token", "each pair is compared in both orders, and the mean counts"]
        digest = digest_of([one.ids for both in zip(ahead, behind, strict=True) for one in both])
        return Work(batches, run, cut, notes + dated(self._tokenizer), digest, counted)

    def _better(self, texts: Sequence[Read]) -> tuple[Numbers, np.ndarray[Any, np.dtype[np.bool_]]]:
        """P(A) among A and B after each text, and whether no other token is likelier than both."""
        import torch

        tokens, mask = padded([one.ids for one in texts], self._tokenizer.pad_token_id, self._body.device)
        with torch.inference_mode():
            states = self._body(input_ids=tokens, attention_mask=mask, use_cache=False).last_hidden_state
            logits = self._logits(states[torch.arange(len(texts), device=states.device), mask.sum(1) - 1])
        letters = logits[:, self._letters]  # (texts, A and B, ways to write them)
        willing = letters.amax((1, 2)) >= logits.amax(-1)
        a, b = letters.logsumexp(-1).T
        return np.asarray(torch.sigmoid((a - b).double()).cpu().numpy(), np.float64), willing.cpu().numpy()

    def _logits(self, states: Any) -> Any:
        """Of the next token after these states, (n, tokens known), in float32 whatever the weights are."""
        import torch

        logits = self._head(states.float())
        return logits if self._cap is None else torch.tanh(logits / self._cap) * self._cap

    def _check(self, model: Any) -> None:
        """Raise ValueError for a model whose logits are not its last states times its output weights."""
        import torch

        probe = torch.tensor([_PROBE], device=model.device)
        with torch.inference_mode():
            expected = model(input_ids=probe, use_cache=False).logits[0, -1].float()
            found = self._logits(self._body(input_ids=probe, use_cache=False).last_hidden_state[0, -1])
        tolerance = 0.05 if model.dtype != expected.dtype else 1e-3
        if (found - expected).abs().max() > tolerance * expected.abs().max():
            raise ValueError(f"{self._name!r} changes its logits in a way that is not known here: it cannot be a judge")

    # ---- the question as tokens

    def _read(self, of: Material) -> Read:
        """The question's tokens. Where they are too many the beginning of the conversation is left out, then the ends of the
        responses, and the text says so."""
        whole = self._ids(self._asked(of))
        if len(whole) <= self._max_length:
            return Read(whole, False)
        parts = of.conversation, of.first, of.second
        source, first, second = (self._tokenizer(part, add_special_tokens=False)["input_ids"] for part in parts)
        room = self._max_length - len(self._ids(self._asked(of._replace(conversation="", first="", second=""))))
        while room >= 0:
            kept = fitted(len(source), len(first), len(second), room)
            left = of._replace(
                conversation=of.conversation
                if kept[0] == len(source)
                else _BEFORE + self._text(source[len(source) - kept[0] :]),
                first=of.first if kept[1] == len(first) else self._text(first[: kept[1]]) + _AFTER,
                second=of.second if kept[2] == len(second) else self._text(second[: kept[2]]) + _AFTER,
            )
            ids = self._ids(self._asked(left))
            if len(ids) <= self._max_length:
                return Read(ids, True)
            room -= len(ids) - self._max_length  # texts that were cut are told, and their ends read otherwise than before
        raise ValueError(
            f"the question to {self._name!r} alone is longer than the {self._max_length:,} tokens it reads: expected shorter "
            "instructions, or a larger max_length"
        )

    def _asked(self, of: Material) -> str:
        asked = question(self._instructions, of, judge_question.LETTER)
        return self._render((Message("user", asked),), ())

    def _ids(self, text: str) -> list[int]:
        """Its tokens, without the end that some tokenizers put after every text: the answer is still to come."""
        (ids,) = transcripts.tokenized(self._tokenizer, [text])
        eos = self._tokenizer.eos_token_id
        return ids[:-1] if ids[-1:] == [eos] and not text.endswith(self._tokenizer.eos_token) else ids

    def _text(self, ids: Sequence[int]) -> str:
        """What these tokens say; a character of which a part was cut off is left out."""
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text.strip("\N{REPLACEMENT CHARACTER}")

    def _found_letters(self) -> list[list[int]]:
        """The tokens that answer with A and those that answer with B: the letter alone, and after a space, where both have a
        token of their own for that."""
        asked = self._asked(Material("", "", "", "#"))
        before = self._ids(asked)
        read = {written: self._ids(asked + written) for letter in "AB" for written in (letter, f" {letter}")}
        own = {written: ids[-1] for written, ids in read.items() if ids[:-1] == before}
        ways = [way for way in ("{}", " {}") if all(way.format(letter) in own for letter in "AB")]
        if not ways:
            raise ValueError(f"the tokenizer of {self._name!r} has no token for A and for B: it cannot be a judge")
        return [[*dict.fromkeys(own[way.format(letter)] for way in ways)] for letter in "AB"]

    def _harmless(self, of: Material) -> Material:
        """The same, with a space in each special token that is written out in a text: it would end the question."""

        def apart(text: str) -> str:
            return self._special.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)

        return of._replace(conversation=apart(of.conversation), first=apart(of.first), second=apart(of.second))


def _special(tokenizer: Any) -> re.Pattern[str]:
    written = {one.content for one in tokenizer.added_tokens_decoder.values() if one.special and len(one.content) > 1}
    return re.compile("|".join(map(re.escape, sorted(written, key=len, reverse=True))) or r"(?!)")


def _unwilling(answers: int) -> str:
    return f"of {answers:,} answers: neither A nor B was its likeliest beginning"


def _plain(prompt: Conversation, response: Conversation) -> str:
    """For a model without a chat template."""
    return f"{prompt[0].content}\n\nAnswer:"
