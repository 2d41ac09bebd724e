"""A policy at hand: a causal language model that answers prompts, and the start it is compared with.

Prompts are written by the tokenizer's chat template with the opening of the answer; a tokenizer without one writes HH text.
What is a token and what is padding is known from lengths, never from ids: a text may hold the padding token.
"""

import copy
import inspect
import shutil
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from training import loading
from training.log_probabilities import log_probs as log_probs
from training.policy_tokens import set_padding, stops_of
from training.rewards import transcripts
from training.rewards.base import Conversation
from training.rewards.packing import Ids

HUMAN = "\n\nHuman:"  # what ends a response in HH text, where the model has no chat template and maybe no token for it


@dataclass
class Policy:
    """A causal model in eval mode (no dropout, in training neither), its tokens, and the start it is held against.

    Where it is a PeftModel, its start is the same weights with the adapter switched off; else a frozen copy, or itself.
    """

    model: Any
    tokenizer: Any  # its pad token is none of the stops
    device: torch.device
    dtype: torch.dtype  # of the computation; weights that are trained are float32
    stops: tuple[int, ...]  # tokens that end a response: EOS, and the chat template's end of a turn
    stop_text: str  # a text that ends a response as well; "" where there is a chat template
    longest: int  # tokens it reads at most
    pad: int
    start: Any = None  # the frozen copy, where there is one
    own_pad: str | None = None  # what its tokenizer padded with before

    def prompt_ids(self, prompts: Sequence[Conversation], max_prompt: int) -> list[list[int]]:
        """The ids of each prompt with the opening of its answer, at most `max_prompt`: of a longer one the beginning is cut,
        BOS stays."""
        return self.prompts_read(prompts, max_prompt).ids

    def prompts_read(self, prompts: Sequence[Conversation], max_prompt: int) -> transcripts.Encoded:
        """The same, with which of them were cut."""
        render = transcripts.chat_template(self.tokenizer, to_answer=True) if not self.stop_text else _asked_in_hh
        texts = [render(prompt, ()) for prompt in prompts]
        found = transcripts.tokenized(self.tokenizer, texts)
        if self._appends_eos():
            found = [ids[:-1] for ids in found]
        return transcripts.cut(found, max_prompt, bos=transcripts.begin_of(self.tokenizer))

    def ended(self, ids: Ids) -> int | None:
        """How many of these tokens are the response, its end included; None where it has not ended."""
        first = next((place + 1 for place, token in enumerate(ids) if token in self.stops), None)
        if self.stop_text and self.stop_text in self._decoded(ids[:first]):
            return 1 + bisect_left(range(1, len(ids)), True, key=lambda count: self.stop_text in self._decoded(ids[:count]))
        return first

    def text(self, ids: Ids) -> str:
        """The text of a response, without what ends it and without special tokens."""
        text = self._decoded(ids[:-1] if len(ids) and ids[-1] in self.stops else ids)
        return text.partition(self.stop_text)[0].removeprefix(" ") if self.stop_text else text

    def check_fits(self, prompt: int, response: int) -> None:
        """Raise ValueError where a prompt and a response of so many tokens would be longer than the model reads."""
        if prompt + response > self.longest:
            raise ValueError(
                f"a prompt of {prompt:,} tokens (max_prompt) and a response of up to {response:,} (max_tokens) are "
                f"{prompt + response:,}: expected no more than the {self.longest:,} the model reads"
            )

    @property
    def start_model(self) -> Any:
        """The module that computes as the start within `as_start`."""
        return self.model if self.start is None else self.start

    @contextmanager
    def as_start(self) -> Iterator[None]:
        """Within it `start_model` computes as what the policy began from: a LoRA adapter is switched off."""
        with self.model.disable_adapter() if _is_lora(self.model) else nullcontext():
            yield

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Within it the model is in eval mode, whatever a trainer has made of it, and float32 weights are cast to the
        computation's type once, not in every forward pass."""
        training = self.model.training
        self.model.eval()
        try:
            with _autocast(self.device, self.dtype) if _weights(self.model) != self.dtype else nullcontext():
                yield
        finally:
            self.model.train(training)

    def save(self, folder: Path) -> None:
        """Write the policy as a plain model with its tokenizer, LoRA merged into a copy. The folder appears whole or not at
        all; weights are of the computation's type."""
        half = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(half, ignore_errors=True)
        plain = _on_cpu(self.model)
        plain.__dict__.pop("forward", None)  # of a model that is trained whole: see _computed_in
        plain = plain.to(torch.float32)  # in bfloat16 a small change would be lost in the sum
        if _is_lora(plain):
            plain = plain.merge_and_unload()
        plain.to(self.dtype).save_pretrained(half)
        tokenizer = copy.deepcopy(self.tokenizer)
        tokenizer.pad_token = self.own_pad
        tokenizer.save_pretrained(half)
        shutil.rmtree(folder, ignore_errors=True)
        half.rename(folder)

    def _decoded(self, ids: Ids) -> str:
        text = self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    def _appends_eos(self) -> bool:
        """Whether the tokenizer puts EOS after every text by itself: a prompt goes on."""
        eos = self.tokenizer.eos_token_id
        return eos is not None and self.tokenizer("a")["input_ids"][-1:] == [eos]


def opened(
    name: str, *, precision: str = "auto", device: str = "auto", lora_rank: int = 0, trainable: bool = False, seed: int = 0
) -> Policy:
    """The policy of this name: a folder, a built-in name, or an id on the hub.

    With `lora_rank` it is given a new adapter, drawn with `seed`, that changes nothing yet. A `trainable` one without is
    trained whole, in float32, and a frozen copy of it is its start. Raises ValueError for what is no causal model.
    """
    where = loading.device_of(device)
    dtype = loading.dtype_of(precision, where)
    whole = trainable and not lora_rank
    model, tokenizer = _causal(name, where, torch.float32 if whole else dtype)
    rows = model.get_input_embeddings().weight.shape[0]
    stops = stops_of(tokenizer, model, rows)
    own_pad = tokenizer.pad_token
    pad = set_padding(tokenizer, model, stops, rows)
    longest = transcripts.limit_of(tokenizer, model.config, None)
    start = None
    if whole:
        start = _computed_in(copy.deepcopy(model), where, dtype)
        model = _computed_in(model, where, dtype).requires_grad_(True)
    elif lora_rank:
        model = with_adapter(model, lora_rank, seed)
        for weight, one in model.named_parameters():
            one.requires_grad_(trainable and "lora_" in weight)
    stop_text = "" if tokenizer.chat_template else HUMAN
    return Policy(model.eval(), tokenizer, where, dtype, stops, stop_text, longest, pad, start, own_pad)


def _causal(name: str, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    """The causal model of this name, frozen, and its tokenizer."""
    place = loading.place_of(name)
    tokenizer = loading.tokenizer_of(place)
    model, missing = loading.opened(AutoModelForCausalLM, place, device, dtype)
    if missing:
        raise ValueError(f"{name!r} is no causal model: its files lack {', '.join(missing[:3])}")
    if "position_ids" not in inspect.signature(model.forward).parameters:
        raise ValueError(f"{name!r} is a {model.config.model_type} model: expected one that is told its tokens' positions")
    loading.check_vocabulary(tokenizer, model.get_input_embeddings().weight.shape[0], name)
    return model.requires_grad_(False), tokenizer


def _computed_in(model: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A float32 model whose forward passes are computed in this type, whoever calls it."""
    if dtype != torch.float32:
        model.forward = _autocast(device, dtype)(model.forward)
    return model


def with_adapter(model: Any, rank: int, seed: int) -> Any:
    """The model under low-rank changes (arXiv 2106.09685) of every linear layer, scaled by 2, in float32, without dropout.

    They change nothing at first; the global random state is left as it was.
    """
    from peft import LoraConfig, get_peft_model

    turned = any(isinstance(one, Conv1D) for one in model.modules())  # as in GPT-2, whose weights are (in, out)
    wanted = LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM",
        fan_in_fan_out=turned,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(model, wanted)


def _on_cpu(model: Any) -> Any:
    """A copy of the model on the CPU, made there: at the end of training a GPU may have no room for a second one."""
    copies: dict[int, Any] = {}
    for one in model.parameters():
        copies[id(one)] = torch.nn.Parameter(one.detach().to("cpu", copy=True), requires_grad=False)
    for one in model.buffers():
        copies[id(one)] = one.detach().to("cpu", copy=True)
    return copy.deepcopy(model, copies)


def _asked_in_hh(prompt: Conversation, response: Conversation) -> str:
    return transcripts.HH(prompt, response) + "\n\nAssistant:"


def _is_lora(model: Any) -> bool:
    from peft import PeftModel

    return isinstance(model, PeftModel)


def _weights(model: Any) -> torch.dtype:
    found = model.get_input_embeddings().weight.dtype
    assert isinstance(found, torch.dtype)
    return found


def _autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    return torch.autocast(device.type, dtype)
