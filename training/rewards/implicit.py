"""The reward that a policy trained with DPO stands for: beta (log pi(y|x) - log pi_ref(y|x)), arXiv 2305.18290 section 4.

The response y is every token after those of the prompt that awaits an answer, the end of the turn included.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from training import loading
from training.rewards import transcripts
from training.rewards.base import Batch, Conversation, Numbers, Scorer, Weighted, Work
from training.rewards.classifier import opening, window_of
from training.rewards.decoder import Machine, batch_of, dated, digest_of, spans
from training.rewards.packing import Ids, Row

if TYPE_CHECKING:
    import torch

_LOGITS = 1 << 25  # numbers computed at once: 128 MB


class Implicit(Weighted):
    """An implicit reward: beta x (log pi - log pi_ref) of the response under a DPO policy, which was not trained to score.

    It prefers what DPO made more likely, grows with a response's length unless averaged, and needs the policy's own reference.
    """

    name: ClassVar[str] = "implicit"
    template: ClassVar[str] = "the policy's own chat template, or HH's markers (conversation=hh)"
    tokenizer: ClassVar[str] = "the policy's, which has to be the reference's too"

    reference: str = Field(min_length=1, description="the model the policy began from: a folder, a built-in name, or an id")
    beta: float = Field(0.1, gt=0, description="DPO's beta, which the policy was trained with")
    average: bool = Field(False, description="whether log-probabilities are averaged over the response's tokens, not summed")
    conversation: str = Field("chat", pattern="^(chat|hh)$", description="how a conversation is written: chat template or HH's")

    def sources(self) -> Iterator[str]:
        yield from (self.source, self.reference)

    def memory(self) -> int | None:
        policy = super().memory()
        reference = loading.memory_of(self.reference, "", self.dtype)
        return None if policy is None or reference is None else policy + reference

    def load(self, *, device: str = "auto") -> Scorer:
        """Raises ValueError where the two do not read the same tokens, or where one is no causal model."""
        where, place, _ = opening(self, device)
        tokenizer = loading.tokenizer_of(place)
        policy = self._language_model(self.source, self.revision, where, tokenizer)
        reference = self._language_model(self.reference, "", where, tokenizer)
        if self.reference != self.source:
            _check_same_tokens(tokenizer, loading.tokenizer_named(self.reference), self)
        renders: tuple[transcripts.Render, transcripts.Render] = (transcripts.HH, _hh_asked)
        if self.conversation == "chat":
            renders = transcripts.chat_template(tokenizer), transcripts.chat_template(tokenizer, to_answer=True)
        return _ImplicitScorer(policy, reference, tokenizer, *renders, beta=self.beta, average=self.average)

    def _language_model(self, name: str, revision: str, where: "torch.device", tokenizer: Any) -> "LanguageModel":
        from transformers import AutoModelForCausalLM

        place = loading.place_of(name, revision=revision)
        model, missing = loading.opened(AutoModelForCausalLM, place, where, loading.dtype_of(self.dtype, where))
        if missing:
            raise ValueError(f"{name!r} is no causal model: its files lack {', '.join(missing[:3])}")
        loading.check_vocabulary(tokenizer, model.get_input_embeddings().weight.shape[0], name)
        longest = transcripts.limit_of(tokenizer, model.config, self.max_length)
        return LanguageModel(model, name, longest, self.batch_tokens)


class LanguageModel:
    """A causal model that gives log-probabilities of tokens in packed rows."""

    def __init__(self, model: Any, name: str, max_length: int, batch_tokens: int = 0) -> None:
        """Raises ValueError for a model whose logits are not its last states times its output weights."""
        decoder = model.base_model
        self._head = copy.deepcopy(model.get_output_embeddings()).float()  # of bfloat16 the sum over a response is too coarse
        self._cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)

        def hidden(**inputs: Any) -> Any:
            return decoder(**inputs, use_cache=False).last_hidden_state

        self.machine = Machine(
            hidden, device=model.device, dtype=model.dtype, max_length=max_length, window=window_of(model.config),
            batch_tokens=batch_tokens,
        )  # fmt: skip
        self._check(model, name)

    def log_probabilities(self, ids: Sequence[Ids], rows: Sequence[Row], starts: Sequence[int]) -> list["torch.Tensor"]:
        """For each text of these rows, in their order, the log-probabilities of its tokens from `starts[place]` on.

        A token that the text shares with others is counted for each of them.
        """
        import torch

        with torch.inference_mode():
            states = self.machine.states(ids, rows)
            read = [_before(ids, row, starts) for row in rows]
            sizes = [len(places) for found in read for places in found]
            rows_of = [number for number, found in enumerate(read) for places in found for _ in places]
            at = [place for found in read for places in found for place in places]
            tokens = [token for row in rows for place in row.places for token in ids[place][starts[place] :]]
            found = self._of(states[rows_of, at], torch.tensor(tokens, dtype=torch.long, device=states.device))
        return list(torch.split(found, sizes))

    def _of(self, states: "torch.Tensor", tokens: "torch.Tensor") -> "torch.Tensor":
        """Log-probabilities of these tokens after these states, (n,); logits are computed a piece at a time."""
        import torch

        size = max(1, _LOGITS // self._head.weight.shape[0])
        found = [torch.zeros(0, device=states.device)]
        for some, wanted in zip(torch.split(states, size), torch.split(tokens, size), strict=True):
            found.append(self._logits(some).float().log_softmax(-1).gather(1, wanted[:, None])[:, 0])
        return torch.cat(found)

    def _logits(self, states: "torch.Tensor") -> "torch.Tensor":
        import torch

        logits: torch.Tensor = self._head(states.float())
        return logits if self._cap is None else torch.tanh(logits / self._cap) * self._cap

    def _check(self, model: Any, name: str) -> None:
        import torch

        probe = torch.tensor([[5, 9, 3, 7]], device=model.device)
        with torch.inference_mode():
            expected = model(input_ids=probe, use_cache=False).logits[0].float()
            found = self._logits(model.base_model(input_ids=probe, use_cache=False).last_hidden_state)[0].float()
        tolerance = 0.05 if model.dtype == torch.bfloat16 else 1e-3
        if (found - expected).abs().max() > tolerance * expected.abs().max():
            raise ValueError(f"{name!r} changes its logits in a way that is not known here: it cannot be an implicit reward")


class _ImplicitScorer(Scorer):
    def __init__(
        self, policy: LanguageModel, reference: LanguageModel, tokenizer: Any, whole: transcripts.Render,
        asked: transcripts.Render, *, beta: float, average: bool,
    ) -> None:  # fmt: skip
        self._policy, self._reference, self._tokenizer = policy, reference, tokenizer
        self._whole, self._asked, self._beta, self._average = whole, asked, beta, average

    def prepare(self, prompts: Sequence[Conversation], responses: Sequence[Conversation]) -> Work:
        longest = min(self._policy.machine.max_length, self._reference.machine.max_length)
        texts = responses_in(self._tokenizer, self._whole, self._asked, prompts, responses, max_length=longest)
        plan = self._policy.machine.planned(texts.ids, share=self._reference.machine.fits(self._policy.machine))
        batches = [Batch(one.places, 2 * one.tokens) for one in map(batch_of, plan)]
        notes = [
            "implicit reward: beta x (log pi - log pi_ref), " + ("a token's mean" if self._average else "the response's sum")
        ]
        notes += self._policy.machine.notes() + dated(self._tokenizer)
        return Work(batches, lambda number: self._scores(texts, plan[number]), texts.truncated, notes, digest_of(texts.ids))

    def _scores(self, texts: "Responses", rows: Sequence[Row]) -> Numbers:
        policy = self._policy.log_probabilities(texts.ids, rows, texts.starts)
        reference = self._reference.log_probabilities(texts.ids, rows, texts.starts)
        found = []
        for ours, theirs in zip(policy, reference, strict=True):
            gained = (ours - theirs).double().sum().item()
            found.append(self._beta * (gained / max(1, len(ours)) if self._average else gained))
        return np.array(found, np.float64)


class Responses(NamedTuple):
    """Ids of texts, where each one's response starts in them (never before 1: a first token has no probability), and cuts."""

    ids: list[list[int]]
    starts: list[int]
    truncated: NDArray[np.bool_]


def responses_in(
    tokenizer: Any, whole: transcripts.Render, asked: transcripts.Render, prompts: Sequence[Conversation],
    responses: Sequence[Conversation], *, max_length: int,
) -> Responses:  # fmt: skip
    """Texts and their responses: the ids after those of the prompt as `asked` writes it, as far as the two agree."""
    uncut = transcripts.tokenized(tokenizer, [whole(one, other) for one, other in zip(prompts, responses, strict=True)])
    before = transcripts.tokenized(tokenizer, [asked(prompt, ()) for prompt in prompts])
    cut = transcripts.cut(uncut, max_length, bos=tokenizer.bos_token_id)
    starts = [
        max(1, _agreed(text, prompt) - (len(text) - len(left)))
        for text, prompt, left in zip(uncut, before, cut.ids, strict=True)
    ]
    return Responses(cut.ids, starts, cut.truncated)


def _agreed(text: Ids, prompt: Ids) -> int:
    """How many tokens both begin with."""
    for place, (one, other) in enumerate(zip(text, prompt, strict=False)):
        if one != other:
            return place
    return min(len(text), len(prompt))


def _before(ids: Sequence[Ids], row: Row, starts: Sequence[int]) -> list[list[int]]:
    """For each text of the row, where in the row the tokens before those of its response stand."""
    return [
        [at if at < row.shared else start + at - row.shared for at in range(starts[place] - 1, len(ids[place]) - 1)]
        for place, (start, _) in zip(row.places, spans(ids, row), strict=True)
    ]


def _hh_asked(prompt: Conversation, response: Conversation) -> str:
    return transcripts.HH(prompt, response) + "\n\nAssistant:"


def _check_same_tokens(tokenizer: Any, reference: Any, family: Implicit) -> None:
    """Raise ValueError where a token that both know has another id in the reference."""
    theirs = reference.get_vocab()
    for token, number in sorted(tokenizer.get_vocab().items(), key=lambda one: one[1]):
        if theirs.get(token, number) != number:
            raise ValueError(
                f"{family.reference!r} cannot be the reference of {family.source!r}: its tokenizer gives {token!r} the id "
                f"{theirs[token]:,}, the policy's {number:,}; expected one tokenizer"
            )
