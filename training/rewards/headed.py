"""Models whose head has a name of its own: the body is one that transformers knows, the head stands beside it in the files."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from training import loading
from training.rewards import transcripts
from training.rewards.base import Weighted
from training.rewards.classifier import opening, window_of
from training.rewards.decoder import DecoderScorer, Head, Machine

if TYPE_CHECKING:
    import torch


class Headed(NamedTuple):
    """A body on its device, the weights beside it by name (float32), and the tokenizer."""

    body: Any
    beside: dict[str, "torch.Tensor"]
    tokenizer: Any
    where: "torch.device"


def opened(
    family: Weighted,
    device: str,
    *,
    body: str,
    heads: Sequence[str],
    optional: Sequence[str] = (),
    ignored: str = "",
    tokenizer: str = "",
) -> Headed:
    """The body whose weights begin with `body`, and the heads of these names, of which `optional` ones may lack.

    `ignored` begins the names of weights that the model does not use, `tokenizer` names one that is not in its folder. Raises
    ValueError where the files lack a weight or hold an unknown one: then they are of another model.
    """
    from transformers import AutoModel

    where, place, _ = opening(family, device)
    if place.gguf:
        raise ValueError(f"{family.source!r} is a GGUF file, which carries no head: expected .safetensors files")
    read = loading.tokenizer_named(tokenizer) if tokenizer else loading.tokenizer_of(place)
    beside = {name: one.float().to(where) for name, one in loading.tensors(place, {*heads, *optional})}
    model, told = loading.opened_and_told(
        AutoModel, place, where, loading.dtype_of(family.dtype, where), key_mapping={f"^{re.escape(body)}": ""}
    )
    lacking = [*(name for name in heads if name not in beside), *(body + name for name in sorted(told["missing_keys"]))]
    if lacking:
        raise ValueError(f"{family.source!r} is no {family.name} model: its files lack {_some(lacking)}")
    unknown = sorted(
        name for name in told["unexpected_keys"] if name not in beside and not (ignored and name.startswith(ignored))
    )
    if unknown:
        raise ValueError(
            f"{family.source!r} is no {family.name} model: its files hold {_some(unknown)}, which it does not have"
        )
    loading.check_vocabulary(read, model.get_input_embeddings().weight.shape[0], tokenizer or family.source)
    return Headed(model, beside, read, where)


def scorer(found: Headed, family: Weighted, head: Head, render: transcripts.Render) -> DecoderScorer:
    """A scorer of texts written by `render`, read at their last tokens by `head`, which is given float32."""
    body, config = found.body, found.body.config

    def hidden(**inputs: Any) -> Any:
        return body(**inputs, use_cache=False).last_hidden_state

    longest = transcripts.limit_of(found.tokenizer, config, family.max_length)
    machine = Machine(
        hidden, device=found.where, dtype=body.dtype, max_length=longest, window=window_of(config),
        batch_tokens=family.batch_tokens,
    )  # fmt: skip
    return DecoderScorer(machine, head, found.tokenizer, render)


def linear(weight: "torch.Tensor", bias: "torch.Tensor | None" = None) -> Head:
    """A head that is one linear map; one of several rows gives their mean."""
    from torch.nn.functional import linear as mapped

    return lambda states: mapped(states, weight, bias).mean(-1)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
