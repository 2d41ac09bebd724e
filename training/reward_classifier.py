"""Makes a reward model of a causal model: a classifier with one score at the last token, whole or by LoRA.

Texts are tokenised by the code that scores them, so training and scoring read the same ids.
"""

import gc
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig
from transformers import AutoModelForSequenceClassification, set_seed

from training import loading, model_card, reward_loop
from training.reward_data import MODEL, Preference, Split, Trained
from training.reward_loop import Ids, Pairs
from training.rewards import transcripts
from training.rewards.base import Scorer
from training.rewards.classifier import Classifier
from training.run import Run, say

if TYPE_CHECKING:
    from training.reward_settings import Training

_AT_ONCE = 500  # pairs tokenised between two looks whether to stop
_PADS = ("<pad>", "[PAD]", "<|pad|>", "<|padding|>", "<|finetune_right_pad_id|>", "<|endoftext|>")


def train(run: Run, settings: "Training", pairs: Split) -> Trained:
    """Train, going on from the last whole checkpoint, and save a plain classifier as the run's model.

    Raises ValueError for a model that is no decoder, a loss that is no number, or where no pair is short enough.
    """
    set_seed(settings.seed)  # the head starts at random numbers
    place = loading.place_of(settings.base)
    model, tokenizer = _opened(settings.base, place)
    conversation = "chat" if tokenizer.chat_template else "hh"
    longest = min(settings.max_length, transcripts.limit_of(tokenizer, model.config, None))
    render = transcripts.chat_template(tokenizer) if conversation == "chat" else transcripts.HH
    reading = _Reading(run, tokenizer, render, longest, drop=settings.too_long == "drop")
    learned, tried = reading.part("train", pairs.train), reading.part("held_out", pairs.held_out)
    if not learned.pairs:
        raise ValueError(f"every pair is longer than {longest:,} tokens: raise max_length, or cut them (too_long=cut)")
    set_padding(tokenizer, model, [ids for part in (learned, tried) for ids in (*part.tokens.chosen, *part.tokens.rejected)])
    say(f"{len(learned.pairs):,} pairs to learn from, {len(tried.pairs):,} held out; {reading.told()}")
    lora = _lora(settings.lora_rank) if settings.lora_rank else None
    trained, steps = reward_loop.trained(run, settings, model, tokenizer, learned.tokens, tried.tokens, lora)
    _save(run, trained, tokenizer)
    del model, trained
    gc.collect()  # the trainer and its callbacks hold one another, and with them the optimiser's states
    torch.cuda.empty_cache()
    how = {"max_length": longest, "conversation": conversation}
    scorer = Classifier(source=str(run.folder / MODEL), **how).load()
    margins = margins_of(run, scorer, tried.pairs)
    base = model_card.base_of(settings.base, place)
    return Trained(Classifier.name, how, Split(learned.pairs, tried.pairs), margins, reading.too_long, base, steps)


def _opened(name: str, place: loading.Place) -> tuple[Any, Any]:
    """The model with a head, and its tokenizer. Weights are float32: small steps would be lost in bfloat16."""
    tokenizer = loading.tokenizer_of(place)
    device = loading.device_of("auto")
    model, missing = loading.opened(AutoModelForSequenceClassification, place, device, torch.float32, num_labels=1)
    if not hasattr(model, "score"):
        raise ValueError(f"{name!r} is a {model.config.model_type} model: expected a causal one, which reads a text to its end")
    lacking = [one for one in missing if not one.startswith("score.")]
    if lacking:
        raise ValueError(f"{name!r} cannot be trained: its files lack {', '.join(lacking[:3])}, which would be random")
    loading.check_vocabulary(tokenizer, model.get_input_embeddings().weight.shape[0], name)
    return model, tokenizer


def _lora(rank: int) -> LoraConfig:
    """Low-rank changes (arXiv 2106.09685) to every linear layer, scaled by 2; the head is trained whole."""
    return LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", modules_to_save=["score"], task_type="SEQ_CLS"
    )  # fmt: skip


def set_padding(tokenizer: Any, model: Any, texts: Sequence[Ids]) -> None:
    """Give tokenizer and model a padding token that ends no text, and is not EOS where there is another.

    The score is read at the last token that is not padding: at a text that ends with it, the one before would be read.
    """
    ends = {ids[-1] for ids in texts}
    known = tokenizer.get_vocab()
    special = [str(one) for one in tokenizer.added_tokens_decoder.values() if one.special]
    names = [*_PADS, tokenizer.unk_token, *special, tokenizer.eos_token]
    if tokenizer.pad_token != tokenizer.eos_token:
        names.insert(0, tokenizer.pad_token)
    names = [name for name in names if name in known and known[name] not in ends]
    if not names:
        raise ValueError("the tokenizer has no special token that ends no text: expected one to pad with")
    tokenizer.pad_token = next((name for name in names if name != tokenizer.eos_token), names[0])
    model.config.get_text_config().pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id


# ---- texts to tokens


class _Part(NamedTuple):
    """The pairs of a part that are used, and the ids they are read as."""

    pairs: list[Preference]
    tokens: Pairs


class _Reading:
    """Tokenises pairs as the classifier family does, and counts those with a text that is too long."""

    def __init__(self, run: Run, tokenizer: Any, render: transcripts.Render, longest: int, *, drop: bool) -> None:
        self._run, self._tokenizer, self._render = run, tokenizer, render
        self._longest, self._drop = longest, drop
        self.too_long: dict[str, int] = {}

    def part(self, name: str, pairs: Sequence[Preference]) -> _Part:
        kept: list[Preference] = []
        chosen: list[Ids] = []
        rejected: list[Ids] = []
        self.too_long[name] = 0
        for start in range(0, len(pairs), _AT_ONCE):
            self._run.tell(start, len(pairs) + 1, "pairs", "reading them as tokens")
            some = pairs[start : start + _AT_ONCE]
            one, other = self._encoded(some, "chosen"), self._encoded(some, "rejected")
            long = one.truncated | other.truncated
            self.too_long[name] += int(long.sum())
            places = [place for place in range(len(some)) if not (self._drop and long[place])]
            kept += [some[place] for place in places]
            chosen += [one.ids[place] for place in places]
            rejected += [other.ids[place] for place in places]
        return _Part(kept, Pairs(chosen, rejected, [max(0.0, pair.margin or 0.0) for pair in kept]))

    def _encoded(self, pairs: Sequence[Preference], side: str) -> transcripts.Encoded:
        responses = [pair.chosen if side == "chosen" else pair.rejected for pair in pairs]
        prompts = [pair.prompt for pair in pairs]
        return transcripts.encoded(self._tokenizer, self._render, prompts, responses, max_length=self._longest)

    def told(self) -> str:
        """For people: how many pairs are too long, and what is done with them."""
        what = "left out" if self._drop else "cut at their beginning"
        return f"{sum(self.too_long.values()):,} pairs have a text of more than {self._longest:,} tokens and are {what}"


# ---- the model, and how it fares


def _save(run: Run, model: Any, tokenizer: Any) -> None:
    """Save the model's folder, which appears whole or not at all."""
    half = run.folder / f"{MODEL}.part"
    shutil.rmtree(half, ignore_errors=True)
    model.save_pretrained(half)
    tokenizer.save_pretrained(half)
    shutil.rmtree(run.folder / MODEL, ignore_errors=True)
    half.rename(run.folder / MODEL)


def margins_of(run: Run, scorer: Scorer, pairs: Sequence[Preference]) -> NDArray[np.float64]:
    """score(chosen) - score(rejected) of each pair, (pairs,), by a reward model opened as everybody will open it.

    Raises ValueError where a score is no number.
    """
    if not pairs:
        return np.empty(0)
    prompts = [pair.prompt for pair in pairs]
    work = scorer.prepare([*prompts, *prompts], [*(pair.chosen for pair in pairs), *(pair.rejected for pair in pairs)])
    scores = np.full(len(work.truncated), np.nan)
    for number, batch in enumerate(work.batches):
        scores[list(batch.places)] = work.run(number)
        done = int(len(pairs) * (number + 1) / (len(work.batches) + 1))
        run.tell(done, len(pairs), "pairs", "trying the finished model on the held-out pairs")
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum()):,} of {len(scores):,} held-out scores are no numbers")
    return np.asarray(scores[: len(pairs)] - scores[len(pairs) :])
