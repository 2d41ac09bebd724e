"""Sequence classifiers with one label: Skywork, OpenAssistant's deberta, GRM, what TRL trains, and most others."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from training import loading
from training.batches import by_budget
from training.rewards import transcripts
from training.rewards.base import Batch, Conversation, Numbers, Scorer, Weighted, Work
from training.rewards.decoder import DecoderScorer, Machine

_HEADS = ("score", "classifier", "classification_head")
_BUDGET = 4096


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

        where, place, trusted = opening(self, device)
        if place.gguf:
            raise ValueError(f"{self.source!r} is no reward model: a GGUF file holds a causal model, which has no score")
        labels = len(loading.read_config(place.folder).get("id2label") or [0])
        tokenizer = loading.tokenizer_of(place, **trusted)
        model, missing = loading.opened(
            AutoModelForSequenceClassification, place, where, loading.dtype_of(self.dtype, where), **trusted,
            **({"num_labels": 1} if labels == 1 else {}),
        )  # fmt: skip
        lacking = [one for one in missing if one.split(".")[0] in _HEADS or not _is_pooler(one)]
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
        if head is None or render is None:
            return EncoderScorer(model, tokenizer, render, max_length=longest, batch_tokens=self.batch_tokens)

        def hidden(**inputs: Any) -> Any:
            return decoder(**inputs, use_cache=False).last_hidden_state

        machine = Machine(
            hidden, device=where, dtype=model.dtype, max_length=longest, window=window_of(model.config),
            batch_tokens=self.batch_tokens,
        )  # fmt: skip
        return DecoderScorer(machine, head, tokenizer, render)

    def _render(self, tokenizer: Any, *, encoder: bool) -> transcripts.Render | None:
        """How a conversation becomes text; None where prompt and response are given as two texts."""
        wanted = self.conversation
        if wanted == "auto":
            wanted = "pair" if encoder and not tokenizer.chat_template else "chat"
        if wanted == "pair" and not encoder:
            raise ValueError(f"{self.source!r} is a decoder: conversation=pair is for encoders, expected chat or hh")
        return transcripts.HH if wanted == "hh" else transcripts.chat_template(tokenizer) if wanted == "chat" else None


class EncoderScorer(Scorer):
    """A classifier that reads the whole text at once: nothing can be shared; texts of like length are read together."""

    def __init__(
        self, model: Any, tokenizer: Any, render: transcripts.Render | None, *, max_length: int, batch_tokens: int = 0
    ) -> None:
        self._model, self._tokenizer, self._render = model, tokenizer, render
        self._max_length, self._budget = max_length, batch_tokens or _BUDGET

    def prepare(self, prompts: Sequence[Conversation], responses: Sequence[Conversation]) -> Work:
        if self._render is None:
            inputs, truncated = self._pairs(prompts, responses)
        else:
            ids, truncated = transcripts.encoded(self._tokenizer, self._render, prompts, responses, max_length=self._max_length)
            inputs = [{"input_ids": one} for one in ids]
        lengths = [len(one["input_ids"]) for one in inputs]
        plan = list(by_budget(lengths, budget=self._budget))
        batches = [Batch(tuple(places), len(places) * max(lengths[place] for place in places)) for places in plan]
        return Work(batches, lambda number: self._scores([inputs[place] for place in plan[number]]), truncated)

    def _pairs(self, prompts: Sequence[Conversation], responses: Sequence[Conversation]) -> tuple[list[dict[str, Any]], Any]:
        """Prompt and response as two texts, the turns of each joined by lines; of a long prompt the beginning is cut."""
        asked = ["\n".join(one.content for one in prompt) for prompt in prompts]
        said = ["\n".join(one.content for one in response) for response in responses]
        self._tokenizer.truncation_side = "left"
        whole = self._tokenizer(asked, said)["input_ids"] if asked else []
        truncated = np.array([len(one) > self._max_length for one in whole], dtype=np.bool_)
        found = []
        for one, other in zip(asked, said, strict=True):
            read = self._tokenizer(one, other, truncation="longest_first", max_length=self._max_length)
            if len(self._tokenizer(other)["input_ids"]) <= self._max_length - 3:
                read = self._tokenizer(one, other, truncation="only_first", max_length=self._max_length)
            found.append(dict(read))
        return found, truncated

    def _scores(self, inputs: list[dict[str, Any]]) -> Numbers:
        import torch

        if self._tokenizer.pad_token_id is None:
            name = self._tokenizer.name_or_path
            raise ValueError(f"the tokenizer of {name!r} has no padding token: expected one in its tokenizer_config.json")
        batch = self._tokenizer.pad(inputs, padding_side="right", return_tensors="pt").to(self._model.device)
        with torch.inference_mode():
            logits = self._model(**batch).logits
        return np.asarray(logits.float().cpu().numpy(), np.float64).reshape(-1)


def opening(family: Weighted, device: str) -> tuple[Any, loading.Place, dict[str, Any]]:
    """Device, place and consent of a model that is to be opened.

    Raises ValueError where its repository brings code that nobody consented to run, or the consent names another model.
    """
    if family.remote_code and family.remote_code != family.source:
        raise ValueError(f"remote_code is {family.remote_code!r}: expected the model's own name, {family.source!r}, as consent")
    trusted = bool(family.remote_code)
    place = loading.place_of(family.source, revision=family.revision, remote_code=trusted)
    if not trusted and not place.gguf and "auto_map" in loading.read_config(place.folder) and _unknown_type(place):
        raise ValueError(
            f"{family.source!r} brings code of its own: read it, and give remote_code={family.source} as consent to run it"
        )
    return loading.device_of(device), place, {"trust_remote_code": trusted}


def _unknown_type(place: loading.Place) -> bool:
    """Whether transformers itself does not know this kind of model."""
    from transformers import CONFIG_MAPPING

    return loading.read_config(place.folder).get("model_type") not in CONFIG_MAPPING


def window_of(config: Any) -> int | None:
    """The attention window of a model that has one in any layer, in tokens."""
    text = config.get_text_config()
    window = getattr(text, "sliding_window", None)
    if not isinstance(window, int) or getattr(text, "use_sliding_window", True) is False:
        return None
    kinds = getattr(text, "layer_types", None)
    return window if kinds is None or "sliding_attention" in kinds else None


def _is_pooler(name: str) -> bool:
    """Weights that some encoders never use."""
    return "pooler" in name or name.endswith("position_ids")
