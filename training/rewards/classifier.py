"""Sequence classifiers with one label: Skywork, OpenAssistant's deberta, what TRL trains, and most others."""

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from training import loading
from training.batches import by_budget
from training.rewards import transcripts
from training.rewards.base import Batch, Conversation, Numbers, Scorer, Weighted, Work
from training.rewards.both_orders import budget_of
from training.rewards.decoder import DecoderScorer, Machine, dated, digest_of

_WINDOWS = ("sliding_window", "window_size", "attention_window_size", "attention_chunk_size")  # as configurations name it
_PROBE = (5, 9, 3, 7, 2, 8)


class Classifier(Weighted):
    """A sequence classifier with one label: most reward models on the hub, and those trained here."""

    name: ClassVar[str] = "classifier"
    template: ClassVar[str] = "the model's own chat template; encoders without one read prompt and response as a pair of texts"

    conversation: str = Field(
        "auto", pattern="^(auto|chat|pair|hh)$",
        description="how a conversation is written: auto, the chat template (chat), two texts (pair), or HH's markers (hh)",
    )  # fmt: skip

    def load(self, *, device: str = "auto") -> Scorer:
        """Raises ValueError for a model without a trained head of one label, and for a tokenizer that does not fit it."""
        from transformers import AutoModelForSequenceClassification

        auto = AutoModelForSequenceClassification
        where, place, trusted = opening(self, device, auto=auto.__name__)
        if place.gguf:
            raise ValueError(f"{self.source!r} is no reward model: a GGUF file holds a causal model, which has no score")
        labels = len(loading.read_config(place.folder).get("id2label") or [0])
        tokenizer = loading.tokenizer_of(place, **trusted)
        model, missing = loading.opened(
            auto, place, where, loading.dtype_of(self.dtype, where), **trusted, **({"num_labels": 1} if labels == 1 else {}),
        )  # fmt: skip
        lacking = [one for one in missing if not one.endswith("position_ids")]
        if lacking:
            raise ValueError(
                f"{self.source!r} is no reward model: its files lack {', '.join(lacking[:3])}, so its scores would be random. "
                "A causal model can be trained into one (elephant run reward) or be read as an implicit reward"
            )
        if model.config.num_labels != 1:
            raise ValueError(f"{self.source!r} has {model.config.num_labels} labels: a reward model has one, the score")
        loading.check_vocabulary(tokenizer, model.get_input_embeddings().weight.shape[0], self.source)
        longest = transcripts.limit_of(tokenizer, model.config, self.max_length)
        head, decoder = getattr(model, "score", None), model.base_model
        render = self._render(tokenizer, encoder=head is None)
        if head is None or render is None or _has_own_code(place, auto.__name__) or not _ends_in(model, head):
            return WholeScorer(model, tokenizer, render, max_length=longest, batch_tokens=self.batch_tokens)

        def hidden(**inputs: Any) -> Any:
            return decoder(**inputs, use_cache=False).last_hidden_state

        machine = Machine(
            hidden, device=where, dtype=model.dtype, max_length=longest, window=window_of(model.config),
            batch_tokens=self.batch_tokens,
        )  # fmt: skip
        pad = model.config.get_text_config().pad_token_id
        return DecoderScorer(machine, copy.deepcopy(head).float(), tokenizer, render, pad=pad)

    def _render(self, tokenizer: Any, *, encoder: bool) -> transcripts.Render | None:
        """How a conversation becomes text; None where prompt and response are given as two texts."""
        wanted = self.conversation
        if wanted == "auto":
            wanted = "pair" if encoder and not tokenizer.chat_template else "chat"
        if wanted == "pair" and not encoder:
            raise ValueError(f"{self.source!r} is a decoder: conversation=pair is for encoders, expected chat or hh")
        return transcripts.HH if wanted == "hh" else transcripts.chat_template(tokenizer) if wanted == "chat" else None


class WholeScorer(Scorer):
    """A classifier that is run as a whole, encoders and models with code of their own: nothing can be shared; texts of like
    length are read together."""

    def __init__(
        self, model: Any, tokenizer: Any, render: transcripts.Render | None, *, max_length: int, batch_tokens: int = 0
    ) -> None:
        self._model, self._tokenizer, self._render = model, tokenizer, render
        self._max_length, self._budget = max_length, budget_of(batch_tokens, model.device.type)
        self._pad = model.config.get_text_config().pad_token_id  # without it transformers' classifiers read one text at a time

    def prepare(self, prompts: Sequence[Conversation], responses: Sequence[Conversation]) -> Work:
        if self._render is None:
            inputs, truncated = self._pairs(prompts, responses)
        else:
            ids, truncated = transcripts.encoded(self._tokenizer, self._render, prompts, responses, max_length=self._max_length)
            inputs = [{"input_ids": one} for one in ids]
        lengths = [len(one["input_ids"]) for one in inputs]
        plan = list(by_budget(lengths, budget=self._budget, at_most=256 if self._pad is not None else 1))
        batches = [Batch(tuple(places), len(places) * max(lengths[place] for place in places)) for places in plan]
        notes = [] if self._render is None else dated(self._tokenizer)
        return Work(
            batches, lambda number: self._scores([inputs[place] for place in plan[number]]), truncated, notes,
            digest_of([one["input_ids"] for one in inputs]),
        )  # fmt: skip

    def _pairs(self, prompts: Sequence[Conversation], responses: Sequence[Conversation]) -> tuple[list[dict[str, Any]], Any]:
        """Prompt and response as two texts, the turns of each joined by lines; of a long prompt the beginning is cut."""
        asked = ["\n".join(one.content for one in prompt) for prompt in prompts]
        said = ["\n".join(one.content for one in response) for response in responses]
        self._tokenizer.truncation_side = "left"
        read = dict(self._tokenizer(asked, said)) if asked else {"input_ids": []}
        truncated = np.array([len(one) > self._max_length for one in read["input_ids"]], dtype=np.bool_)
        found = []
        for place, (one, other) in enumerate(zip(asked, said, strict=True)):
            if truncated[place] or not other:  # of nothing said, a list of texts is encoded otherwise than one
                fits = len(self._tokenizer(other)["input_ids"]) <= self._max_length - 3
                how = "only_first" if fits else "longest_first"
                found.append(dict(self._tokenizer(one, other, truncation=how, max_length=self._max_length)))
            else:
                found.append({name: column[place] for name, column in read.items()})
        return found, truncated

    def _scores(self, inputs: list[dict[str, Any]]) -> Numbers:
        import torch

        if self._tokenizer.pad_token_id is None:
            name = self._tokenizer.name_or_path
            raise ValueError(f"the tokenizer of {name!r} has no padding token: expected one in its tokenizer_config.json")
        batch = self._tokenizer.pad(inputs, padding_side="right", return_attention_mask=True, return_tensors="pt")
        if self._pad is not None:  # the tokenizer's may be another, or one that the model has no embedding for
            batch["input_ids"].masked_fill_(batch["attention_mask"] == 0, self._pad)
        batch = batch.to(self._model.device)
        with torch.inference_mode():
            logits = self._model(**batch).logits
        return np.asarray(logits.float().cpu().numpy(), np.float64).reshape(-1)


def opening(family: Weighted, device: str, *, auto: str = "") -> tuple[Any, loading.Place, dict[str, Any]]:
    """Device, place and consent of a model that is to be opened; `auto` is the class it would be opened by.

    Raises ValueError where its repository brings code that nobody consented to run, or the consent names another model.
    """
    if family.remote_code and family.remote_code != family.source:
        raise ValueError(f"remote_code is {family.remote_code!r}: expected the model's own name, {family.source!r}, as consent")
    trusted = bool(family.remote_code)
    place = loading.place_of(family.source, revision=family.revision, remote_code=trusted)
    if not trusted and not place.gguf and _has_own_code(place, auto):
        raise ValueError(
            f"{family.source!r} brings code of its own: read it, and give remote_code={family.source} as consent to run it"
        )
    return loading.device_of(device), place, {"trust_remote_code": trusted}


def _has_own_code(place: loading.Place, auto: str) -> bool:
    """Whether a model means to be opened by code of its own: transformers does not know its type, or it brings this class."""
    from transformers import CONFIG_MAPPING

    config = loading.read_config(place.folder)
    own = config.get("auto_map") or {}
    return bool(own) and (auto in own or config.get("model_type") not in CONFIG_MAPPING)


def window_of(config: Any) -> int | None:
    """The attention window of a model that has one in any layer, in tokens: the smallest its configuration names."""
    text = config.get_text_config()
    if getattr(text, "use_sliding_window", True) is False:
        return None
    kinds = getattr(text, "layer_types", None)
    if kinds is not None and set(kinds) == {"full_attention"}:
        return None
    named = [getattr(text, name, None) for name in _WINDOWS]
    return min((one for one in named if isinstance(one, int) and one > 0), default=None)


def _ends_in(model: Any, head: Any) -> bool:
    """Whether the model's own scores are its head on the last state, and nothing besides: code of its own may do more."""
    import torch

    pad = model.config.get_text_config().pad_token_id
    probe = torch.tensor([[one for one in _PROBE if one != pad]], device=model.device)
    with torch.inference_mode():
        own = model(input_ids=probe, attention_mask=torch.ones_like(probe)).logits.float().reshape(-1)
        ours = head(model.base_model(input_ids=probe, use_cache=False).last_hidden_state[:, -1]).float().reshape(-1)
    tolerance = 0.05 if model.dtype == torch.bfloat16 else 1e-3
    return own.shape == ours.shape and bool((own - ours).abs().max() <= tolerance * own.abs().max().clamp(min=1e-3))
