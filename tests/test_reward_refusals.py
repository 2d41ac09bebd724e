"""Files and settings that are not what a family expects: one sentence each."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.reward_checkpoints import (
    ASKED,
    CLOSE,
    PROMPTS,
    RESPONSES,
    SAID,
    Decoder,
    beaver_cost,
    by_hand,
    chatml,
    ids_by_hand,
    loaded,
    pair_rm,
    refusal,
    starling,
)
from tests.tiny_models import change_config, tiny_causal, tiny_classifier, tiny_headed, tiny_tokenizer, write_weights
from training.rewards.registry import family


def test_a_causal_model_is_no_classifier(tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path)
    tiny_causal(tmp_path)
    words = refusal({"family": "classifier", "source": str(tmp_path)})
    assert "is no reward model: its files lack score.weight, so its scores would be random" in words


def test_a_classifier_of_several_labels_is_no_reward_model(tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path)
    tiny_classifier(tmp_path, labels=3)
    assert "has 3 labels: a reward model has one" in refusal({"family": "classifier", "source": str(tmp_path)})


def test_an_encoder_without_a_padding_token_is_refused(tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path, adds="pair", chat_template="", pad="")
    tiny_classifier(tmp_path, kind="deberta-v2")
    scorer = loaded({"family": "classifier", "source": str(tmp_path)})
    with pytest.raises(ValueError, match="has no padding token: expected one in its tokenizer_config"):
        scorer.score(PROMPTS, RESPONSES)


def test_a_decoder_needs_no_padding_token(tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path, pad="")
    model = tiny_classifier(tmp_path, pad_token_id=None)
    decoder = Decoder(
        {"family": "classifier", "source": str(tmp_path)}, chatml, model.base_model, lambda state: model.score(state)[0]
    )
    expected = [by_hand(decoder, ids_by_hand(decoder, chatml(*both))) for both in zip(ASKED, SAID, strict=True)]
    np.testing.assert_allclose(loaded(decoder.settings).score(PROMPTS, RESPONSES).values, expected, **CLOSE)


@pytest.mark.parametrize("name", ["classifier", "ultra"])
def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(name: str, tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path)
    if name == "classifier":
        tiny_classifier(tmp_path, vocab_size=384)
    else:
        tiny_headed(tmp_path, prefix="model.", heads={"regression_head.weight": (1, 64)}, vocab_size=384)
    words = refusal({"family": name, "source": str(tmp_path)})
    assert "gives ids up to 388, but the model knows 384 tokens: expected the tokenizer it was trained with" in words


@pytest.mark.parametrize("name", ["classifier", "starling", "ultra", "beaver", "ziya", "pair_rm", "steam_shp"])
def test_a_folder_without_weights_is_refused(name: str, tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert "holds no weights: expected .safetensors files" in refusal({"family": name, "source": str(tmp_path)})


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path)
    model = tiny_classifier(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    words = refusal({"family": "classifier", "source": str(tmp_path)})
    assert "holds its weights as pickles, which can run code when they are opened: expected .safetensors" in words


@pytest.mark.parametrize(("name", "words"), [("classifier", "holds a causal model"), ("ultra", "carries no head")])
def test_a_gguf_file_has_no_score(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    assert words in refusal({"family": name, "source": str(tmp_path)})


def test_code_of_a_model_is_run_only_on_consent(tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path)
    tiny_classifier(tmp_path)
    ran = tmp_path / "ran"
    (tmp_path / "modeling_own.py").write_text(f"open({str(ran)!r}, 'w')\n")
    auto = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForSequenceClassification": "modeling_own.Own"}
    change_config(tmp_path, model_type="own", auto_map=auto)
    words = refusal({"family": "classifier", "source": str(tmp_path)})
    assert "brings code of its own: read it, and give remote_code=" in words
    words = refusal({"family": "classifier", "source": str(tmp_path)}, remote_code="another")
    assert "remote_code is 'another': expected the model's own name" in words
    assert not ran.exists()


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("starling", "v_head.weight"),
        ("ultra", "regression_head.weight"),
        ("beaver", "score_head.weight"),
        ("ziya", "value_head.weight"),
    ],
)
def test_a_causal_model_lacks_a_familys_head(name: str, head: str, tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path)
    tiny_causal(tmp_path)
    assert f"is no {name} model: its files lack {head}" in refusal({"family": name, "source": str(tmp_path)})


def test_weights_that_a_family_does_not_have_are_named(tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path)
    body, beside = tiny_headed(tmp_path, prefix="model.", heads={"regression_head.weight": (1, 64), "adapter.weight": (2, 2)})
    settings = {"family": "ultra", "source": str(tmp_path)}
    assert "its files hold adapter.weight, which it does not have" in refusal(settings)
    weights = {f"model.{name}": one for name, one in body.state_dict().items()}
    head = {"regression_head.weight": beside["regression_head.weight"]}
    write_weights(tmp_path, {**weights, **head, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)})
    assert np.isfinite(loaded(settings).score(PROMPTS, RESPONSES).values).all()  # old files' buffers are no harm
    del weights["model.layers.1.mlp.up_proj.weight"]
    write_weights(tmp_path, {**weights, **head})
    assert "its files lack model.layers.1.mlp.up_proj.weight" in refusal(settings)


def test_starlings_checkpoint_may_hold_its_body_twice(tmp_path: Path) -> None:
    made = starling(tmp_path)
    settings = {**made.settings, "source": str(tmp_path)}
    once = loaded(settings).score(PROMPTS, RESPONSES).values
    weights = {f"transformer.{name}": one for name, one in made.body.state_dict().items()}
    twice = {f"model.model.{name}": torch.zeros_like(one) for name, one in made.body.state_dict().items()}
    head = torch.stack([made.number(one) for one in torch.eye(64)])[None]
    write_weights(tmp_path, {**weights, **twice, "model.lm_head.weight": torch.zeros(512, 64), "v_head.weight": head})
    np.testing.assert_allclose(loaded(settings).score(PROMPTS, RESPONSES).values, once, **CLOSE)


def test_starling_takes_a_tokenizer_from_elsewhere_and_checks_that_it_fits(tmp_path: Path) -> None:
    made = starling(tmp_path / "both")
    expected = loaded({**made.settings, "source": str(tmp_path / "both")}).score(PROMPTS, RESPONSES).values
    tiny_headed(tmp_path / "weights", prefix="transformer.", heads={"v_head.weight": (1, 64)})
    tiny_tokenizer(tmp_path / "tokenizer")
    settings = {**made.settings, "source": str(tmp_path / "weights"), "tokenizer_source": str(tmp_path / "tokenizer")}
    np.testing.assert_allclose(loaded(settings).score(PROMPTS, RESPONSES).values, expected, **CLOSE)
    tiny_tokenizer(tmp_path / "tokenizer", bos="[CLS]", eos="[SEP]")
    assert "does not know '<s>': expected that of Llama-2-7b-chat-hf" in refusal(settings)


def test_beaver_says_which_of_reward_and_cost_it_is(tmp_path: Path) -> None:
    beaver_cost(tmp_path)
    words = refusal({"family": "beaver", "source": str(tmp_path)})
    assert "says it is a cost model (score_type in its config.json): expected cost=true" in words
    change_config(tmp_path, score_type="reward")
    assert "says it is a reward model" in refusal({"family": "beaver", "source": str(tmp_path)}, cost=True)


def test_pair_rm_with_another_tokenizer_is_refused(tmp_path: Path) -> None:
    pair_rm(tmp_path)
    change_config(tmp_path, cand1_prefix_id=5)
    assert "its tokenizer reads <|candidate1|> as" in refusal({"family": "pair_rm", "source": str(tmp_path)})


def test_a_decoder_is_no_steam_shp(tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path)
    tiny_causal(tmp_path)
    assert "cannot be opened" in refusal({"family": "steam_shp", "source": str(tmp_path)})


def test_a_family_that_is_none_and_settings_it_does_not_have_are_named() -> None:
    with pytest.raises(ValueError, match="no family of reward models 'oracle': expected one of classifier, starling"):
        family("oracle", {})
    with pytest.raises(ValueError, match="ultra: there is no setting 'sauce': expected one of source, "):
        family("ultra", {"source": "y", "sauce": "x"})
