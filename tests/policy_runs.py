"""Small runs that train policies: prompts and pairs to hand over, runs that are stopped half way, what they wrote."""

import gc
import json
import random
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from training import policy_data, reward_data
from training.policy_data import Prompt, Prompts
from training.policy_settings import Named
from training.rewards.base import Message
from training.run import Cancelled, Run

WORDS = ("flour", "water", "salt", "yeast", "bread", "dog", "fox")
LENGTH = Named(name="characters", family="length")
QUICK = {"max_tokens": 6, "max_prompt": 48, "lora_rank": 4, "data": "a toy", "scored_by": (LENGTH,), "learning_rate": 1e-2}


@contextmanager
def little_to_collect():
    """Within it the garbage collector passes over all that was imported, which takes it longer than a tiny run lasts."""
    gc.freeze()
    yield
    gc.unfreeze()


def words(rng, count):
    return " ".join(rng.choice(WORDS) for _ in range(count))


def pair(pair_id, chosen, rejected, *, split="train", prompt="how do I make bread?"):
    """A row of pairs.parquet; sides that are texts are one answer each."""
    sides = [[["assistant", one]] if isinstance(one, str) else one for one in (chosen, rejected)]
    return (pair_id, split, "", *(json.dumps(one) for one in ([["user", prompt]], *sides)), None)


def pairs_of(count, *, held_out=0, seed=0):
    """Pairs whose chosen response says "good" where the rejected, a longer one, says "bad"; prompts of many lengths."""
    rng = random.Random(seed)
    return [
        pair(
            f"pair-{number}", f"{words(rng, 2)} good", f"{words(rng, rng.randrange(3, 6))} bad",
            split="train" if number < count else "held out", prompt=words(rng, rng.randrange(1, 8)),
        )
        for number in range(count + held_out)
    ]  # fmt: skip


def prompts_of(train, held_out, *, seed=1):
    rng = random.Random(seed)
    some = [
        Prompt(f"prompt-{number}", (Message("user", words(rng, rng.randrange(1, 8))),)) for number in range(train + held_out)
    ]
    return Prompts(some[:train], some[train:])


def new_run(folder, module, settings, *, pairs=None, prompts=None):
    """A run of training.MODULE, handed what it needs."""
    run = Run.create(folder, kind=module, module=f"training.{module}", title="toy", config=settings)
    policy_data.write_prompts(run.input, prompts or prompts_of(0, 0))
    if pairs is not None:
        columns = dict(zip(reward_data.COLUMNS, map(list, zip(*pairs, strict=True)), strict=True))
        pq.write_table(pa.table(columns), run.input / reward_data.PAIRS)
    return run


def trained(run):
    import_module(run.state().module).train(run)
    return run


class Stopped(Run):
    """A run that somebody asks to stop when it says these words."""

    def __init__(self, folder: Path, *, at: str) -> None:
        super().__init__(folder)
        self.at = at

    def tell(self, done, total, unit, message="", *, seconds=0.0, **more):
        if self.at in message:
            self.stop.touch()
        super().tell(done, total, unit, message, seconds=0.0, **more)


def stopped_and_resumed(run, at):
    """Train until the run says `at`, then go on; returns how many steps were done when it stopped."""
    with pytest.raises(Cancelled):
        trained(Stopped(run.folder, at=at))
    assert not (run.output / "summary.json").exists()
    run.stop.unlink()
    reached = len(lines_of(run))
    trained(run)
    return reached


def lines_of(run):
    file = run.folder / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def curve(run, name):
    return [line[name] for line in lines_of(run) if name in line]


def summary_of(run):
    return json.loads((run.output / "summary.json").read_text())


def weights_of(run):
    return load_file(run.folder / "model" / "model.safetensors")


def check_same(run, other):
    """Two runs made the same policy and wrote the same, but for time and memory."""
    ours, theirs = weights_of(run), weights_of(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert [{**line, "seconds": 0} for line in lines_of(run)] == [{**line, "seconds": 0} for line in lines_of(other)]
    answers = [pq.read_table(one.output / "responses.parquet") for one in (run, other)]
    assert answers[0].equals(answers[1])
    timed = ("seconds", "tokens_per_second", "peak_memory")
    ours, theirs = ({name: one for name, one in summary_of(each).items() if name not in timed} for each in (run, other))
    assert ours == theirs


def opened(folder):
    """Model and tokenizer as anybody opens them."""
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def said(tokenizer, prompt, response):
    """Ids of a prompt in ChatML as it awaits its answer, and of the answer with its end, tokenised apart."""
    asked = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    return tokenizer(asked)["input_ids"], tokenizer(f"{response}<|im_end|>", add_special_tokens=False)["input_ids"]


def log_probabilities(model, prompt, response):
    """log p of each token of the response, computed by itself, without padding."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
    return logits.double().log_softmax(-1).gather(1, torch.tensor(response)[:, None])[:, 0]
