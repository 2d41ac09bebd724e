"""Models of the hub that are easily read wrongly: each score against plain transformers code, each refusal a sentence."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, Phi3Config, PreTrainedModel

from curation.reward_models import register
from curation.workspace import Workspace
from tests.reward_checkpoints import ASKED, CLOSE, LONG, PROMPTS, RESPONSES, SAID, asked, chatml, loaded, refusal, said
from tests.tiny_models import (
    CHATML,
    change_config,
    tiny_classifier,
    tiny_headed,
    tiny_tokenizer,
    write_weights,
)
from training import score
from training.rewards.base import Batch, Conversation, Work
from training.rewards.packing import rows
from training.run import Run

OWN_CODE = """
import torch
from transformers import LlamaForSequenceClassification


class Own(LlamaForSequenceClassification):
    def forward(self, input_ids=None, attention_mask=None, **more):
        found = super().forward(input_ids=input_ids, attention_mask=attention_mask, **more)
        count = attention_mask.sum(-1, keepdim=True)
        found.logits = found.logits + BONUS
        return found
"""
DATED = "Today is {{ day }}. {% for one in messages %}{{ one['role'] }}: {{ one['content'] }}\n{% endfor %}"
FIXABLE = "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}" + DATED.replace(
    "{{ day }}", "{{ date_string }}"
)
UNFIXABLE = DATED.replace("{{ day }}", "{{ strftime_now('%d %b %Y') }}")


def classifier(folder: Path, **more: Any) -> Any:
    return loaded({"family": "classifier", "source": str(folder)}, **more)


def refused(folder: Path, family: str = "classifier", **more: Any) -> str:
    return refusal({"family": family, "source": str(folder)}, **more)


def plain(folder: Path, texts: Sequence[str], *, model: Any = None) -> list[float]:
    """The scores of texts one by one, as the model's card would say: tokenizer, model, logits."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = model or AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return [model(**tokenizer(text, return_tensors="pt")).logits.item() for text in texts]


def one_by_one(scorer: Any, prompts: Sequence[Conversation], responses: Sequence[Conversation]) -> list[float]:
    return [scorer.score([prompt], [response]).values[0] for prompt, response in zip(prompts, responses, strict=True)]


def check(folder: Path, texts: Sequence[str], **settings: Any) -> Any:
    """The classifier there gives PROMPTS and RESPONSES the numbers of plain code, together and one by one."""
    expected = plain(folder, texts)
    assert np.ptp(expected) > 0.1  # the texts are told apart
    scorer = classifier(folder, **settings)
    np.testing.assert_allclose(scorer.score(PROMPTS, RESPONSES).values, expected, **CLOSE)
    np.testing.assert_allclose(one_by_one(scorer, PROMPTS, RESPONSES), expected, **CLOSE)
    return scorer


CHATS = [chatml(*both) for both in zip(ASKED, SAID, strict=True)]


def saved(folder: Path, config: Any, *, seed: int = 0) -> PreTrainedModel:
    """A classifier of this configuration."""
    torch.manual_seed(seed)
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config).eval()
    model.save_pretrained(folder)
    return model


# ---- the end of a text, and its beginning


def test_a_template_that_ends_in_padding_is_scored_where_the_models_own_code_scores_it(tmp_path: Path) -> None:
    template = CHATML.replace("<|im_end|>\n", "<pad>")
    tokenizer = tiny_tokenizer(tmp_path, chat_template=template)
    tiny_classifier(tmp_path, pad_token_id=tokenizer.pad_token_id)
    check(tmp_path, [text.replace("<|im_end|>\n", "<pad>") for text in CHATS])


@pytest.mark.parametrize("adds", ["bos", "eos", "pair"])
def test_what_template_and_tokenizer_both_put_at_an_end_is_there_once(adds: str, tmp_path: Path) -> None:
    inside = "{% for one in messages %}{{ one['content'] }}|{% endfor %}"
    tokenizer = tiny_tokenizer(tmp_path, chat_template=f"<s>{inside}</s>", adds=adds)
    if adds == "pair":  # a decoder whose tokenizer adds both
        tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
        tokenizer.save_pretrained(tmp_path)
    model = tiny_classifier(tmp_path)
    scorer, bare = classifier(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    texts = [f"<s>{one}|{other}|</s>" for one, other in zip(ASKED, SAID, strict=True)]
    ids = [bare(text, add_special_tokens=False)["input_ids"] for text in texts]
    assert scorer.encode(PROMPTS, RESPONSES).ids == ids
    with torch.no_grad():
        expected = [model(torch.tensor([one])).logits.item() for one in ids]
    np.testing.assert_allclose(scorer.score(PROMPTS, RESPONSES).values, expected, **CLOSE)


def test_an_encoder_that_reads_a_chat_template_keeps_its_first_token_when_a_text_is_cut(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path, adds="pair")
    assert tokenizer.bos_token_id is None
    model = tiny_classifier(tmp_path, kind="deberta-v2", seed=8)
    whole = tokenizer(CHATS[0])["input_ids"]
    with torch.no_grad():
        expected = model(torch.tensor([[tokenizer.cls_token_id, *whole[-29:]]])).logits.item()
        without = model(torch.tensor([whole[-30:]])).logits.item()
    found = classifier(tmp_path, max_length=30).score(PROMPTS[:1], RESPONSES[:1])
    assert found.truncated == 1
    assert found.values[0] == pytest.approx(expected, abs=1e-5) != pytest.approx(without, abs=1e-3)


# ---- code of its own


def own_code(folder: Path, bonus: str, **changed: Any) -> None:
    """A llama classifier whose repository brings a class for it, which adds to the plain score."""
    tiny_tokenizer(folder)
    tiny_classifier(folder, **changed)
    (folder / "modeling_own.py").write_text(OWN_CODE.replace("BONUS", bonus))
    change_config(folder, auto_map={"AutoModelForSequenceClassification": "modeling_own.Own"})


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of a model's code go here, not into the home of whoever runs the tests."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))


BONUSES = {
    "always": ("count / 5", lambda count: count / 5),
    "long": ("(count - 40).clamp(min=0)", lambda count: max(0, count - 40)),
}


@pytest.mark.parametrize("pad", [380, None, 382])  # the tokenizer's own, none, another one
@pytest.mark.parametrize("when", BONUSES)
@pytest.mark.usefixtures("modules")
def test_a_class_that_a_repository_brings_for_a_known_kind_scores_by_its_own_forward(
    when: str, pad: int | None, tmp_path: Path
) -> None:
    written, added = BONUSES[when]
    own_code(tmp_path / "model", written, pad_token_id=pad)
    folder = tmp_path / "model"
    assert "brings code of its own: read it, and give remote_code=" in refused(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    counts = [len(tokenizer(text)["input_ids"]) for text in CHATS]
    expected = np.array(plain(folder, CHATS)) + [added(count) for count in counts]
    scorer = classifier(folder, remote_code=str(folder))
    np.testing.assert_allclose(scorer.score(PROMPTS, RESPONSES).values, expected, rtol=0, atol=3e-5)
    np.testing.assert_allclose(one_by_one(scorer, PROMPTS, RESPONSES), expected, rtol=0, atol=3e-5)


# ---- attention windows and scaled positions


WINDOWS: dict[str, dict[str, Any]] = {
    "gpt_neo": {"window_size": 48, "attention_types": [[["local"], 2]], "num_layers": 2, "num_heads": 4},
    "mistral": {"sliding_window": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
}


@pytest.mark.parametrize("kind", WINDOWS)
def test_local_attention_is_never_widened_nor_narrowed_by_shared_rows(kind: str, tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path)
    config = AutoConfig.for_model(
        kind, vocab_size=512, hidden_size=64, intermediate_size=96, max_position_embeddings=512, initializer_range=0.15,
        num_labels=1, pad_token_id=380, bos_token_id=381, eos_token_id=382, **WINDOWS[kind],
    )  # fmt: skip
    saved(tmp_path, config)
    questions = ["Why is the dog lazy?", "how do I make bread?", LONG]
    answers = ["it is not", "Human: it depends", "then wait", "mix flour", "the quick fox", LONG[:40], LONG]
    both = [(one, other) for one in questions for other in answers]
    texts = [chatml(*one) for one in both]
    lengths = [len(one) for one in AutoTokenizer.from_pretrained(tmp_path)(texts)["input_ids"]]
    assert min(lengths) + 10 < 48 < max(lengths) - 10
    scorer = classifier(tmp_path)
    assert scorer.machine.shares
    prompts, responses = [asked(one) for one, _ in both], [said(other) for _, other in both]
    np.testing.assert_allclose(scorer.score(prompts, responses).values, plain(tmp_path, texts), **CLOSE)


def long_rope(folder: Path) -> None:
    """A Phi-3 of 512 positions that was trained on 64 first, its configuration as the hub has it."""
    tiny_tokenizer(folder)
    scaling = {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [7.0] * 8}
    config = Phi3Config(
        vocab_size=512, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, num_labels=1,
        max_position_embeddings=512, original_max_position_embeddings=64, initializer_range=0.15, pad_token_id=380,
        bos_token_id=381, eos_token_id=382, rope_parameters={**scaling, "original_max_position_embeddings": 64},
    )  # fmt: skip
    saved(folder, config)


@pytest.mark.parametrize("written", ["rope_parameters", "rope_scaling"])
def test_positions_that_change_with_the_longest_text_are_read_up_to_where_they_do_not(written: str, tmp_path: Path) -> None:
    long_rope(tmp_path)
    if written == "rope_scaling":  # as files of older versions have it
        path = tmp_path / "config.json"
        config = json.loads(path.read_text())
        scaling = config.pop("rope_parameters")
        factors = {name: scaling[name] for name in ("short_factor", "long_factor")}
        path.write_text(json.dumps({**config, "rope_scaling": {"type": "longrope", **factors}}))
    assert "max_length is 65: the model reads at most 64 tokens" in refused(tmp_path, max_length=65)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    whole = [tokenizer(text)["input_ids"] for text in CHATS]
    assert min(map(len, whole)) < 64 < max(map(len, whole))
    kept = [ids if len(ids) <= 64 else [ids[0], *ids[-63:]] for ids in whole]
    with torch.no_grad():
        expected = [model(torch.tensor([ids])).logits.item() for ids in kept]
    scorer = classifier(tmp_path)
    found = scorer.score(PROMPTS, RESPONSES)
    assert found.truncated == sum(len(ids) > 64 for ids in whole)
    np.testing.assert_allclose(found.values, expected, **CLOSE)
    np.testing.assert_allclose(one_by_one(scorer, PROMPTS, RESPONSES), expected, **CLOSE)


# ---- what changes from day to day


def test_a_template_that_writes_the_date_is_given_the_same_one_every_day(tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path, chat_template=FIXABLE)
    tiny_classifier(tmp_path)
    scorer = classifier(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    today = datetime.now().strftime("%d %b %Y")
    for ids in scorer.encode(PROMPTS, RESPONSES).ids:
        text = tokenizer.decode(ids)
        assert "Today is 26 Jul 2024." in text
        assert today not in text
    assert not any("date" in one for one in scorer.prepare(PROMPTS, RESPONSES).notes)


@pytest.mark.parametrize("kind", ["llama", "deberta-v2"])
def test_a_template_whose_date_cannot_be_fixed_is_told(kind: str, tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path, chat_template=UNFIXABLE, adds="pair" if kind == "deberta-v2" else "bos")
    tiny_classifier(tmp_path, kind=kind)
    notes = classifier(tmp_path).prepare(PROMPTS, RESPONSES).notes
    assert "the chat template writes today's date: scores of another day will differ" in notes


@pytest.mark.parametrize("kind", ["llama", "deberta-v2"])
def test_numbers_kept_of_other_tokens_are_not_taken_up_again(kind: str, tmp_path: Path) -> None:
    works, joined = {}, []
    for day in ("01 Nov 2026", "02 Nov 2026"):
        tiny_tokenizer(tmp_path, chat_template=DATED.replace("{{ day }}", day), adds="pair" if kind == "deberta-v2" else "bos")
        tiny_classifier(tmp_path, kind=kind)
        works[day] = classifier(tmp_path).prepare(PROMPTS, RESPONSES)
        members = [{"family": "classifier", "source": str(tmp_path)}, {"family": "length"}]
        joined.append(loaded({"family": "ensemble", "members": members}).prepare(PROMPTS, RESPONSES).digest)
    first, second = works.values()
    assert [one.places for one in first.batches] == [one.places for one in second.batches]
    assert first.digest != second.digest
    again = classifier(tmp_path)
    assert again.prepare(PROMPTS, RESPONSES).digest == second.digest
    assert again.prepare(PROMPTS, RESPONSES[::-1]).digest != second.digest
    assert len({*joined}) == 2
    path = tmp_path / "done.jsonl"
    kept = score._Kept(path, first)
    numbers = first.run(0).tolist()
    kept.add(0, numbers, {})
    kept.close()
    same = score._Kept(path, first)
    same.close()
    other = score._Kept(path, second)
    other.close()
    assert (same.values, other.values) == ({0: numbers}, {})


# ---- rows and batches


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The machine of a model that reads 8,192 tokens, 65,536 at once as on a GPU."""
    folder = tmp_path_factory.mktemp("roomy")
    tiny_tokenizer(folder)
    tiny_classifier(folder, max_position_embeddings=8192)
    return classifier(folder, batch_tokens=65536).machine


def texts_after(header: list[int], *, count: int, length: int, seed: int = 0) -> list[list[int]]:
    rng = Random(seed)
    return [header + [rng.randrange(3, 380) for _ in range(length + rng.randrange(20))] for _ in range(count)]


def test_texts_that_share_only_a_header_stay_alone_and_the_sides_of_a_pair_do_not(roomy: Any) -> None:
    header = list(range(3, 23))
    unrelated = texts_after(header, count=300, length=280)
    assert {len(row.places) for batch in roomy.planned(unrelated) for row in batch} == {1}
    pairs = [
        prompt + answer
        for prompt in texts_after(header, count=50, length=200)
        for answer in texts_after([], count=2, length=60, seed=len(prompt))
    ]
    found = [row for batch in roomy.planned(pairs) for row in batch]
    assert sorted(tuple(sorted(row.places)) for row in found) == [(at, at + 1) for at in range(0, 100, 2)]


def test_a_row_of_several_texts_stays_within_4096_tokens(roomy: Any) -> None:
    header = list(range(3, 103))
    texts = [[*header, 3 + number, *text] for number, text in enumerate(texts_after([], count=300, length=200))]
    found = [row for batch in roomy.planned(texts) for row in batch]
    assert sorted(place for row in found for place in row.places) == list(range(300))
    assert 2000 < max(row.length for row in found) <= 4096


def test_a_long_pair_shares_a_row_all_the_same(roomy: Any) -> None:
    prompt = texts_after([], count=1, length=5500)[0][:5500]
    sides = [one[:6000] for one in texts_after(prompt, count=2, length=500)]
    [[row]] = roomy.planned(sides)
    assert (row.places, row.shared, row.length) == ((0, 1), 5500, 6500)
    assert [one.places for one in rows(sides)] == [(0, 1)]


def test_the_mask_of_a_batch_bounds_it_where_texts_are_long(roomy: Any) -> None:
    texts = texts_after([], count=30, length=6000)
    plan = roomy.planned(texts)
    assert sorted(place for batch in plan for row in batch for place in row.places) == list(range(30))
    held = [len(batch) * max(row.length for row in batch) ** 2 for batch in plan]
    assert max(held) <= 1 << 28  # numbers: 1 GiB of float32
    assert max(map(len, plan)) == 7 < 65536 // 6000


# ---- what is refused, and what is not


def test_a_deberta_without_its_pooler_is_refused(tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path, adds="pair", chat_template="")
    model = tiny_classifier(tmp_path, kind="deberta-v2")
    write_weights(tmp_path, {name: one for name, one in model.state_dict().items() if "pooler" not in name})
    assert "its files lack pooler.dense.bias, pooler.dense.weight, so its scores would be random" in refused(tmp_path)


@pytest.mark.parametrize("family", ["classifier", "ultra"])
def test_weights_that_were_cut_off_are_one_sentence(family: str, tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path)
    if family == "classifier":
        tiny_classifier(tmp_path)
    else:
        tiny_headed(tmp_path, prefix="model.", heads={"regression_head.weight": (1, 64)})
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    assert str(tmp_path) in refused(tmp_path, family)
    file.write_bytes(file.read_bytes()[:20])
    assert str(tmp_path) in refused(tmp_path, family)


def test_a_tokenizer_that_cannot_be_parsed_is_one_sentence(tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path)
    tiny_classifier(tmp_path)
    file = tmp_path / "tokenizer.json"
    whole = json.loads(file.read_text())
    whole["model"]["merges"] = [["zzz", "yyy"]]
    for written in (json.dumps(whole), file.read_text()[:-200]):
        file.write_text(written)
        assert f"the tokenizer in {str(tmp_path)!r} cannot be read: " in refused(tmp_path)


@pytest.mark.parametrize("kind", ["llama", "deberta-v2"])
def test_a_padding_token_beyond_the_embeddings_is_no_reason_to_refuse(kind: str, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path, pad="", adds="pair" if kind == "deberta-v2" else "bos")
    known = len(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(tmp_path)
    tiny_classifier(tmp_path, kind=kind, vocab_size=known, pad_token_id=0 if kind == "deberta-v2" else None)
    assert tokenizer.pad_token_id == known
    check(tmp_path, CHATS)


@pytest.mark.parametrize("source", ["/nowhere/at/all", "./nowhere", "~/nowhere-at-all", "models/of/mine"])
def test_a_path_that_is_none_is_not_registered(source: str, workspace: Workspace) -> None:
    with pytest.raises(ValueError, match=r"no folder .*: expected a folder, a built-in name, or an id on the hub"):
        register(workspace, "mine", "classifier", {"source": source}, "ana")
    assert workspace.scores.models() == []


# ---- numbers and memory


def test_in_bfloat16_a_score_is_finer_than_bfloat16(tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path)
    tiny_classifier(tmp_path)
    expected = np.array(plain(tmp_path, CHATS))
    found = classifier(tmp_path, dtype="bfloat16").score(PROMPTS, RESPONSES).values
    assert np.abs(found - expected).max() < 0.1 * np.ptp(expected)
    coarse = torch.tensor(found).to(torch.bfloat16).double().numpy()
    assert (found != coarse).sum() >= len(found) - 1


def test_a_full_memory_says_what_to_change(tmp_path: Path) -> None:
    settings = score.Scoring(reward_model="mine", family="classifier", settings={}, pairs=1)

    def computed(error: Exception) -> None:
        def run(number: int) -> Any:
            raise error

        folder = Run.create(tmp_path / type(error).__name__, kind="score", module="training.score", title="", config=settings)
        score._computed(folder, settings, Work([Batch((0,), 8000)], run, np.zeros(1, np.bool_)), [["one"]])

    with pytest.raises(MemoryError, match=r"with 8,000 tokens of mine at once: .* batch_tokens \(2,000, say\)"):
        computed(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"))
    with pytest.raises(RuntimeError, match=r"^another one$"):
        computed(RuntimeError("another one"))
