"""Every family that scores, on a tiny random checkpoint of its architecture, against plain transformers code."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from tests.reward_checkpoints import (
    ASKED,
    CLOSE,
    DECODERS,
    LONG,
    PROMPTS,
    RESPONSES,
    SAID,
    Decoder,
    beaver,
    by_hand,
    classifier,
    eurus,
    ids_by_hand,
    loaded,
    said,
    starling,
    steam_shp,
    ultra,
    ziya,
)
from tests.tiny_models import tiny_classifier, tiny_tokenizer
from training.rewards.base import Comparer, Message, Scorer
from training.rewards.registry import FAMILIES, family


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest, tmp_path: Path) -> Decoder:
    made: Decoder = DECODERS[request.param](tmp_path)
    return made._replace(settings={**made.settings, "source": str(tmp_path)})


def test_a_family_gives_the_numbers_of_plain_code_in_batches_and_one_by_one(decoder: Decoder) -> None:
    expected = [by_hand(decoder, ids_by_hand(decoder, decoder.text(*both))) for both in zip(ASKED, SAID, strict=True)]
    assert np.ptp(expected) > 0.1  # the texts are told apart
    scorer = loaded(decoder.settings)
    found = scorer.score(PROMPTS, RESPONSES)
    np.testing.assert_allclose(found.values, expected, **CLOSE)
    assert found.truncated == 0
    alone = [scorer.score([prompt], [response]).values[0] for prompt, response in zip(PROMPTS, RESPONSES, strict=True)]
    np.testing.assert_allclose(alone, expected, **CLOSE)


def test_small_batches_and_unshared_prompts_change_no_number(decoder: Decoder) -> None:
    scorer = loaded(decoder.settings)
    small = loaded(decoder.settings, batch_tokens=64)
    work = small.prepare(PROMPTS, RESPONSES)
    assert len(work.batches) > 2
    np.testing.assert_allclose(work.all(), scorer.score(PROMPTS, RESPONSES).values, **CLOSE)
    small.machine.shares = False
    np.testing.assert_allclose(small.score(PROMPTS, RESPONSES).values, work.all(), **CLOSE)


def test_a_text_that_is_too_long_loses_its_beginning_and_is_counted(decoder: Decoder) -> None:
    uncut = [ids_by_hand(decoder, decoder.text(*both)) for both in zip(ASKED, SAID, strict=True)]
    kept = [one if len(one) <= 40 else [*one[: decoder.bos], *one[len(one) - 40 + decoder.bos :]] for one in uncut]
    found = loaded(decoder.settings, max_length=40).score(PROMPTS, RESPONSES)
    assert found.truncated == sum(len(one) > 40 for one in uncut) == 3
    np.testing.assert_allclose(found.values, [by_hand(decoder, one) for one in kept], **CLOSE)


def test_prompts_are_computed_once_for_their_responses(tmp_path: Path) -> None:
    made = ultra(tmp_path)
    scorer = loaded(made.settings, source=str(tmp_path))
    work = scorer.prepare(PROMPTS, RESPONSES)
    assert scorer.machine.shares
    scorer.machine.shares = False
    assert work.tokens < 0.8 * scorer.prepare(PROMPTS, RESPONSES).tokens


def test_a_window_is_never_shared_across(tmp_path: Path) -> None:
    made = classifier("mistral", sliding_window=24)(tmp_path)
    scorer = loaded(made.settings, source=str(tmp_path))
    assert [len(row.places) for rows in scorer.machine.planned([list(range(1, 40))] * 2) for row in rows] == [1, 1]


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (starling, "[INST] Be kind.\n\nHi </s> [/INST] Hello.</s><s>[INST] Why? </s> [/INST] Because.</s>"),
        (ultra, "Be kind.\nHuman: Hi\nAssistant: Hello.\nHuman: Why?\nAssistant: Because."),
        (eurus, "[INST] Be kind.\n\nHi [/INST] Hello.</s>[INST] Why? [/INST] Because."),
        (ziya, "Be kind.\n\nHuman:Hi\n\nAssistant:Hello.\n\nHuman:Why?\n\nAssistant:Because.</s>"),
        (
            beaver,
            "BEGINNING OF CONVERSATION: USER: Be kind.\n\nHi ASSISTANT:Hello.</s>USER: Why? ASSISTANT:Because.</s>",
        ),
    ],
)
def test_a_conversation_of_several_turns_keeps_them_all(made: Callable[[Path], Decoder], expected: str, tmp_path: Path) -> None:
    decoder = made(tmp_path)
    decoder.settings["source"] = str(tmp_path)
    turns = [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello."), ("user", "Why?")]
    prompt = tuple(Message(role, content) for role, content in turns)
    ids = loaded(decoder.settings).encode([prompt], [said("Because.")]).ids[0]
    assert ids == ids_by_hand(decoder, expected)


# ---- encoders


def test_an_encoder_reads_prompt_and_response_as_two_texts(tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path, adds="pair", chat_template="")
    model = tiny_classifier(tmp_path, kind="deberta-v2", seed=8)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    with torch.no_grad():
        expected = [
            model(**tokenizer(one, other, return_tensors="pt")).logits.item() for one, other in zip(ASKED, SAID, strict=True)
        ]
    scorer = loaded({"family": "classifier", "source": str(tmp_path)})
    np.testing.assert_allclose(scorer.score(PROMPTS, RESPONSES).values, expected, **CLOSE)
    alone = [scorer.score([prompt], [response]).values[0] for prompt, response in zip(PROMPTS, RESPONSES, strict=True)]
    np.testing.assert_allclose(alone, expected, **CLOSE)


def test_an_encoder_cuts_the_prompt_from_its_beginning_and_keeps_the_response(tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path, adds="pair", chat_template="")
    model = tiny_classifier(tmp_path, kind="deberta-v2", seed=8)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    begin, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    prompt, answer = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (LONG, SAID[1]))
    ids = [begin, *prompt[len(prompt) - (30 - 3 - len(answer)) :], end, *answer, end]
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits.item()
    found = loaded({"family": "classifier", "source": str(tmp_path)}, max_length=30).score(PROMPTS[1:3], RESPONSES[1:3])
    assert found.truncated == 1
    assert found.values[0] == pytest.approx(expected, abs=1e-5)


def test_every_family_says_what_it_is_and_its_memory(tmp_path: Path) -> None:
    made = ultra(tmp_path)
    weights = sum(one.numel() for one in made.body.state_dict().values()) * 4
    needed = family("ultra", {"source": str(tmp_path), "dtype": "float32"}).memory()
    assert needed is not None
    assert weights < needed < 1.1 * weights
    twice = family("ensemble", {"members": [{"family": "ultra", "source": str(tmp_path), "dtype": "float32"}] * 2}).memory()
    assert twice == 2 * needed
    for name, one in FAMILIES.items():
        assert one.name == name
        assert one.description().endswith(".")
        assert one.template


def test_only_scorers_score_and_only_comparers_compare(tmp_path: Path) -> None:
    steam_shp(tmp_path / "t5")
    ultra(tmp_path / "ultra")
    assert isinstance(loaded({"family": "steam_shp", "source": str(tmp_path / "t5")}), Comparer)
    assert isinstance(loaded({"family": "ultra", "source": str(tmp_path / "ultra")}), Scorer)
    assert [name for name, one in FAMILIES.items() if one.compares] == ["pair_rm", "steam_shp", "judge"]


def test_no_texts_are_no_work(tmp_path: Path) -> None:
    made = ultra(tmp_path)
    assert loaded({**made.settings, "source": str(tmp_path)}).prepare([], []).batches == []
