"""Pairs as the ids a policy learns from.

Responses are written by the policy's chat template and end in the token that ends what it samples, so that training and
sampling read the same ids. Of a prompt that is too long the beginning is cut, of a response the end.
"""

from collections.abc import Sequence
from typing import NamedTuple

from training.policies import Policy
from training.policy_settings import Learning
from training.reward_data import Preference
from training.rewards import transcripts
from training.rewards.base import Conversation
from training.run import Run

_AT_ONCE = 256  # pairs tokenised between two looks whether to stop
_UNCUT = 1 << 30  # tokens


class Texts(NamedTuple):
    """A prompt and two responses to it, as ids; SFT learns the chosen one."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


class Reading:
    """Reads pairs as ids, and counts what was cut and what was left out. With one side, the other is []."""

    def __init__(self, run: Run, policy: Policy, settings: Learning, *, sides: Sequence[str] = ("chosen", "rejected")) -> None:
        self._run, self._policy, self._settings, self._sides = run, policy, settings, sides
        self._prompts_cut = self._responses_cut = self._same = 0

    def part(self, pairs: Sequence[Preference]) -> list[Texts]:
        """The pairs whose two responses differ, in their order."""
        found: list[Texts] = []
        for start in range(0, len(pairs), _AT_ONCE):
            self._run.tell(start, len(pairs), "pairs", "reading them as tokens")
            found += self._some(pairs[start : start + _AT_ONCE])
        return found

    def _some(self, pairs: Sequence[Preference]) -> list[Texts]:
        prompts = [pair.prompt for pair in pairs]
        read = self._policy.prompts_read(prompts, self._settings.max_prompt)
        self._prompts_cut += int(read.truncated.sum())
        texts = [Texts(prompt, [], []) for prompt in read.ids]
        for side in self._sides:
            ids = response_ids(self._policy, prompts, [getattr(pair, side) for pair in pairs])
            texts = [one._replace(**{side: self._within(one.prompt, more)}) for one, more in zip(texts, ids, strict=True)]
        kept_ones = [one for one in texts if one.chosen != one.rejected]
        self._same += len(texts) - len(kept_ones)
        return kept_ones

    def _within(self, prompt: list[int], response: list[int]) -> list[int]:
        room = self._policy.longest - len(prompt)
        self._responses_cut += len(response) > room
        return response[:room]

    def notes(self) -> list[str]:
        """Sentences for people."""
        counts = {
            f"prompts were longer than {self._settings.max_prompt:,} tokens and lost their beginning": self._prompts_cut,
            "responses were longer than the model reads and lost their end": self._responses_cut,
            "pairs were left out, as both their responses are the same tokens": self._same,
        }
        return [f"{count:,} {what}" for what, count in counts.items() if count]


def response_ids(policy: Policy, prompts: Sequence[Conversation], responses: Sequence[Conversation]) -> list[list[int]]:
    """What the policy would have sampled to give these responses: the ids after those of the prompt that awaits an answer, up
    to the token that ends it. Further turns of a response are written as the chat template has them."""
    asked_as, whole_as = _renders(policy)
    asked = [asked_as(prompt, ()) for prompt in prompts]
    whole = [whole_as(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]
    before = policy.prompt_ids(prompts, _UNCUT)
    after = transcripts.tokenized(policy.tokenizer, whole)
    return [_ended(policy, _rest(policy, *one)) for one in zip(asked, whole, before, after, strict=True)]


def _renders(policy: Policy) -> tuple[transcripts.Render, transcripts.Render]:
    """How the policy reads a prompt that awaits an answer, and one with its answer."""
    if policy.stop_text:  # it has no chat template
        return lambda prompt, response: transcripts.HH(prompt, response) + "\n\nAssistant:", transcripts.HH
    return transcripts.chat_template(policy.tokenizer, to_answer=True), transcripts.chat_template(policy.tokenizer)


def _rest(policy: Policy, asked: str, whole: str, before: list[int], after: list[int]) -> list[int]:
    """The ids after the prompt's; where a token runs across its end, those of the response by itself, as sampling has them."""
    if after[: len(before)] == before:
        return after[len(before) :]
    same = next((place for place, (one, other) in enumerate(zip(asked, whole, strict=False)) if one != other), len(asked))
    found: list[int] = policy.tokenizer(whole[same:], add_special_tokens=False)["input_ids"]
    return found


def _ended(policy: Policy, ids: list[int]) -> list[int]:
    """These ids up to the last stop token, where nothing but what the template writes between turns follows; else with one."""
    last = max((place for place, token in enumerate(ids) if token in policy.stops), default=None)
    if last is not None and not policy.tokenizer.decode(ids[last + 1 :]).strip():
        return ids[: last + 1]
    if policy.stops:
        return [*ids, policy.stops[0]]
    end: list[int] = policy.tokenizer(policy.stop_text, add_special_tokens=False)["input_ids"]
    return ids + end
