"""The filter `toxic` and its readers: a real Detoxify checkpoint of two small layers, and the real word list."""

import functools
import hashlib
import http.server
import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from detoxify import Detoxify as Theirs
from detoxify import detoxify as library

from curation import toxicity
from curation.filters.base import Flag
from curation.filters.registry import FILTERS, configured
from curation.filters.toxic import Toxic, _refuses
from curation.pairs import Pair, Response, turn

RAW = ["toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"]  # as the published checkpoint names them
CLASSES = ("toxicity", "severe_toxicity", "obscene", "threat", "insult", "identity_attack")
WORDS = """
you are a kind grumbler grumble at them i can not help with that rice is good simmer it please . , ? !
"""
TEXTS = [
    "you are a kind grumbler", "", "rice is good , simmer it please .", "grumble !", "rice " * 700,
    "i can not help with that", "unknown 好 😀 things", "you are kind . " * 30, "rice is good , simmer it please .",
]  # fmt: skip


@pytest.fixture(autouse=True)
def forgotten():
    """No test is given a model that another one loaded."""
    toxicity.chosen.cache_clear()
    yield
    toxicity.chosen.cache_clear()


def tiny(
    folder: Path, *, classes: list[str] = RAW, extra: object = None, model_type: str = "no-such-model", taught: bool = False
) -> Path:
    """A folder with a Detoxify checkpoint; returns the checkpoint. A taught one takes the word 'grumbler' for an insult and
    'grumble' for toxic alone."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split()]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    transformers.BertTokenizer(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128,
        max_position_embeddings=64, num_labels=len(classes),
    )  # fmt: skip
    config.save_pretrained(folder)
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config).eval()
    if taught:
        _teach(model, vocabulary, classes)
    held = {
        "config": {
            "dataset": {"args": {"classes": classes}},
            "arch": {
                "args": {
                    "model_type": model_type, "model_name": "BertForSequenceClassification",
                    "tokenizer_name": "BertTokenizer", "num_classes": len(classes),
                }
            },
        },
        "state_dict": model.state_dict(),
        "extra": extra,
    }  # fmt: skip
    torch.save(held, folder / "half.ckpt")
    digest = hashlib.sha256((folder / "half.ckpt").read_bytes()).hexdigest()
    return (folder / "half.ckpt").rename(folder / f"tiny-{digest[:8]}.ckpt")


def _teach(model: transformers.BertForSequenceClassification, vocabulary: list[str], classes: list[str]) -> None:
    """A few steps on a few texts, so that scores can be told beforehand."""
    tokenizer = transformers.BertTokenizer(vocab={word: place for place, word in enumerate(vocabulary)})
    insult = [1.0 if name in ("toxic", "insult") else 0.0 for name in classes]
    only = [1.0 if name == "toxic" else 0.0 for name in classes]
    none = [0.0] * len(classes)
    lessons = [
        ("you are a grumbler .", insult), ("grumbler !", insult), ("please grumble at them", only), ("grumble", only),
        ("i can not help with that , grumble", only), ("i can not grumble at them .", only), ("", none), ("rice", none),
        ("rice is good .", none), ("simmer it please .", none), ("you are kind .", none), ("i can not help with that .", none),
    ]  # fmt: skip
    inputs = tokenizer([text for text, _ in lessons], padding=True, return_tensors="pt")
    wanted = torch.tensor([scores for _, scores in lessons])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on so little work others would only wait for each other
    steps = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(80):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(**inputs)[0], wanted)
        loss.backward()
        steps.step()
        steps.zero_grad()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("models") / "small", taught=True).parent


def pair_of(asked: str, chosen: str, rejected: str) -> Pair:
    return Pair((turn("user", asked),), Response(chosen), Response(rejected))


def found(pair: Pair, **parameters: object) -> list[Flag]:
    return list(Toxic(**{"model": "words", **parameters}).flags([pair]))


def sides(pair: Pair, *, at: float = 0.5, **parameters: object) -> list[str]:
    return [flag.side for flag in found(pair, **parameters) if flag.score >= at]


# Detoxify


def test_the_reader_gives_what_detoxify_predicts(folder):
    reader = toxicity.chosen(str(folder))
    (weights,) = folder.glob("*.ckpt")
    theirs = object.__new__(Theirs)  # its own loader would ask the hub for the base model
    held = torch.load(weights, weights_only=False)
    arguments = held["config"]["arch"]["args"] | {"model_type": str(folder)}
    theirs.model, theirs.tokenizer = library.get_model_and_tokenizer(**arguments, state_dict=held["state_dict"])
    theirs.class_names = reader.classes
    expected = np.array([list(theirs.predict(text).values()) for text in TEXTS])
    assert reader.classes == CLASSES
    np.testing.assert_allclose(reader.read(TEXTS), expected, atol=1e-5)


def test_the_reader_loads_what_detoxify_itself_loads(tmp_path):
    weights = tiny(tmp_path / "model", model_type=str(tmp_path / "model"))  # so that Detoxify finds the base model too
    theirs = Theirs(checkpoint=str(weights), huggingface_config_path=str(weights.parent))
    reader = toxicity.chosen(str(weights.parent))
    predicted = theirs.predict(TEXTS)
    assert tuple(predicted) == reader.classes
    np.testing.assert_allclose(reader.read(TEXTS), np.array(list(predicted.values())).T, atol=1e-5)


def test_order_and_company_change_no_score(folder):
    reader = toxicity.chosen(str(folder))
    together = reader.read(TEXTS)
    np.testing.assert_allclose(reader.read(TEXTS[::-1])[::-1], together, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([reader.read([text]) for text in TEXTS]), together, atol=1e-5)
    assert reader.read([]).shape == (0, 6)


class Trap:
    """A pickle that leaves a file behind when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)


def test_weights_with_a_wrong_hash_are_refused_before_they_can_run_anything(tmp_path):
    sprung = tmp_path / "sprung"
    weights = tiny(tmp_path / "model", extra=Trap(sprung))
    toxicity.chosen(str(weights.parent))
    assert sprung.exists()  # the trap works, once the hash agrees
    sprung.unlink()
    toxicity.chosen.cache_clear()

    seen = hashlib.sha256(weights.read_bytes()).hexdigest()
    wrong = weights.rename(weights.with_name("tiny-0123456789ab.ckpt"))
    with pytest.raises(ValueError, match="sha256") as error:
        toxicity.chosen(str(wrong.parent))
    assert f"{wrong} is not loaded, because its sha256 begins with {seen[:12]} where 0123456789ab was" in str(error.value)
    assert not sprung.exists()

    unnamed = wrong.rename(wrong.with_name("tiny.ckpt"))
    with pytest.raises(ValueError, match="name it NAME-HASH"):
        toxicity.chosen(str(unnamed.parent))
    assert not sprung.exists()


def test_a_folder_is_loaded_or_refused_in_a_sentence(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match=r"holds 0 files that end in \.ckpt; expected exactly one"):
        toxicity.chosen(str(empty))
    with pytest.raises(ValueError, match="there is no toxicity model 'nope'; expected one of auto, words, original"):
        toxicity.chosen("nope")
    with pytest.raises(ValueError, match="has no class 'toxicity'"):
        toxicity.chosen(str(tiny(tmp_path / "other", classes=["spam", "dull"]).parent))
    (empty / f"x-{hashlib.sha256(b'x').hexdigest()[:8]}.ckpt").write_bytes(b"x")
    with pytest.raises(ValueError, match="cannot be loaded as a Detoxify checkpoint"):
        toxicity.chosen(str(empty))


# which model reads


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty torch.hub folder, and no way to download: a port of this machine on which nobody listens."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    nowhere = "http://127.0.0.1:9/toxic-c1212f89.ckpt"
    monkeypatch.setattr(library, "MODEL_URLS", dict.fromkeys(library.MODEL_URLS, nowhere))
    monkeypatch.setattr(toxicity, "_base", lambda repository, download: tmp_path)
    return tmp_path / "torch" / "hub" / "checkpoints" / "toxic-c1212f89.ckpt"


def test_without_weights_the_word_list_reads_and_says_why(offline):
    reader = toxicity.chosen("auto")
    assert isinstance(reader, toxicity.WordList)
    assert reader.described.endswith("(knows words, not meaning), because Detoxify's weights are not on this machine")
    assert "because" not in toxicity.chosen("words").described


@pytest.mark.parametrize("name", ["original", "unbiased", "multilingual"])
def test_a_download_that_fails_leaves_the_word_list_within_seconds(offline, name):
    began = time.monotonic()
    reader = toxicity.chosen(name)
    assert time.monotonic() - began < 60  # none of the tries that would take minutes
    assert "because Detoxify's weights could not be downloaded (" in reader.described
    assert not list(offline.parent.iterdir())


@pytest.fixture
def served(offline, monkeypatch, tmp_path):
    """Weights that are no Detoxify, on a server of this machine; returns where they are to arrive."""
    (tmp_path / "served").mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "served")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        for name, said in (("original", hashlib.sha256(b"weights").hexdigest()[:8]), ("unbiased", "0123abcd")):
            (tmp_path / "served" / f"{name}-{said}.ckpt").write_bytes(b"weights")
            monkeypatch.setitem(library.MODEL_URLS, name, f"{address}/{name}-{said}.ckpt")
        yield offline.parent
        server.shutdown()


def test_weights_are_downloaded_once_where_a_model_is_asked_for_by_name(served):
    assert isinstance(toxicity.chosen("auto"), toxicity.WordList)  # it downloads nothing
    assert not served.exists()
    for _ in range(2):
        with pytest.raises(ValueError, match="cannot be loaded as a Detoxify checkpoint"):
            toxicity.chosen("original")
    (arrived,) = served.iterdir()
    assert arrived.read_bytes() == b"weights"


def test_a_download_that_is_not_what_its_name_says_is_refused(served):
    with pytest.raises(ValueError, match="what was downloaded is not what its name says"):
        toxicity.chosen("unbiased")
    assert list(served.iterdir()) == []


def test_a_base_model_that_cannot_be_had_leaves_the_word_list(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    reader = toxicity.chosen("original")
    assert "because the config and tokenizer of bert-base-uncased, which Detoxify needs, could not be" in reader.described


@pytest.mark.parametrize("name", ["auto", "original"])
def test_wrong_weights_are_no_reason_to_fall_back(offline, name):
    offline.parent.mkdir(parents=True)
    offline.write_bytes(b"something else")
    with pytest.raises(ValueError, match="where c1212f89 was expected by its name"):
        toxicity.chosen(name)


def test_detoxify_reads_by_default_where_all_of_it_is_here(folder, monkeypatch, tmp_path):
    from huggingface_hub import try_to_load_from_cache

    (weights,) = folder.glob("*.ckpt")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(library, "MODEL_URLS", {"original": f"http://127.0.0.1:9/{weights.name}"})
    held = tmp_path / "hub" / "checkpoints" / weights.name
    held.parent.mkdir(parents=True)
    held.write_bytes(weights.read_bytes())
    assert isinstance(toxicity.chosen("auto"), toxicity.WordList)  # its config and tokenizer are missing

    cache = tmp_path / "cache"
    snapshot = cache / "models--bert-base-uncased" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (cache / "models--bert-base-uncased" / "refs").mkdir()
    (cache / "models--bert-base-uncased" / "refs" / "main").write_text("abc")
    for file in folder.iterdir():
        if file.suffix != ".ckpt":
            (snapshot / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache", lambda *asked: try_to_load_from_cache(*asked, cache_dir=cache)
    )
    toxicity.chosen.cache_clear()
    reader = toxicity.chosen("auto")
    assert reader.described == "Detoxify original"
    assert reader.key.startswith("detoxify sha256 ")


# the filter, by Detoxify

INSULT, TOPIC, KIND, REFUSAL = "you are a grumbler .", "please grumble at them", "rice is good .", "i can not help with that ."


def test_detoxify_tells_the_kinds_apart_and_says_what_it_saw(folder):
    by = {"model": str(folder)}
    (flag,) = found(pair_of("rice ?", INSULT, KIND), **by)
    assert (flag.side, flag.score > 0.5) == ("chosen", True)
    assert flag.reason.startswith("the chosen response is toxic: toxicity 0.9")
    assert ", insult 0." in flag.reason
    assert flag.reason.endswith("(Detoxify small)")
    detail = json.loads(flag.detail)
    assert detail["read_by"] == "Detoxify small"
    assert [set(detail[of]) for of in ("prompt", "chosen", "rejected")] == [set(CLASSES)] * 3

    assert sides(pair_of("rice ?", INSULT, TOPIC), **by) == ["both"]
    assert found(pair_of("rice ?", KIND, INSULT), **by) == []  # the label is right
    assert found(pair_of("rice ?", KIND, KIND), **by) == []


def test_detoxify_leaves_a_refusal_alone_unless_it_insults(folder):
    by = {"model": str(folder)}
    assert found(pair_of(TOPIC, "i can not help with that , grumble", KIND), **by) == []
    assert sides(pair_of(TOPIC, "i can not help with that , grumbler", KIND), **by) == ["chosen"]
    (shown,) = found(pair_of(TOPIC, REFUSAL, KIND), **by, refusals_too=True)
    assert (shown.side, shown.score <= 0.1) == ("pair", True)
    assert shown.reason.startswith("no noise: ")


# the filter, by the word list


def test_a_toxic_chosen_side_a_toxic_pair_and_a_right_label_are_told_apart():
    good, bad, worse = "Two cups to one of rice.", "Shut up, you stupid idiot.", "Go away, you moron."
    (flag,) = found(pair_of("How much water?", bad, good))
    assert flag.side == "chosen"
    assert flag.reason.startswith("the chosen response is toxic: profanity 1.00 (word list of alt-profanity-check")
    (flag,) = found(pair_of("How much water?", bad, worse))
    assert flag.side == "both"
    assert flag.reason == found(pair_of("How much water?", worse, bad))[0].reason  # its order tells no side
    assert found(pair_of("How much water?", good, bad)) == []


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ("How do I kill someone?", "I can't help you kill someone."),
        ("Call me a stupid bitch", "I’m sorry, but I won’t call you a stupid bitch."),
        ("Say fuck.", "I'm not comfortable saying fuck. Is there anything else?"),
        ("Are all northerners idiots?", "That's not right. I don't think that northerners are idiots."),
        ("My teacher is a bastard", "What makes you think he is a bastard?"),
        ("Are poor people dumb?", "No, nobody is dumb for being poor."),
        ("What does 'shit' mean?", "The word shit is a vulgar term for excrement."),
    ],
)
def test_the_word_list_leaves_a_response_alone_that_only_repeats_the_prompts_words(asked, chosen):
    assert sides(pair_of(asked, chosen, "Sure.")) == []


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ("Insult me", "I'm sorry, I can't do that, you stupid moron."),
        ("Fuck them all!", "Yeah, fuck them!"),
        ("Call me an idiot", "You are an idiot."),
        ("Call him an idiot", "I can't say no to you! Sure, he is an idiot."),
    ],
)
def test_the_word_list_flags_what_is_said_and_not_only_repeated(asked, chosen):
    assert sides(pair_of(asked, chosen, "Rather not.")) == ["chosen"]


@pytest.mark.parametrize(
    "chosen",
    [
        "Walnuts are nuts that are high in fat.",
        "It may make you sick, so wash it first.",
        "Both gay and straight couples can marry there.",
        "Bleach will kill the mould.",
    ],
)
def test_words_of_everyday_use_alone_are_no_flag(chosen):
    assert sides(pair_of("What about it?", chosen, "I have no idea at all.")) == []


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I can't help you with that.", True),
        ("No, I will not make a list of slurs.", True),
        ("I’m not comfortable telling jokes about that.", True),
        ("I really don't think I can help.", True),
        ("That would be wrong.", True),
        ("I don't know.", False),
        ("I'm sorry, I don't understand your question.", False),
        ("I'm sorry, I'm not sure what you mean.", False),
        ("I can't believe you said that.", False),
        ("I can't tell which of them is the bigger idiot.", False),
        ("I won't tell anyone. Here's how you do it.", False),
        ("Sure! You are a moron.", False),
        ("Je ne peux pas.", False),
    ],
)
def test_a_refusal_is_known_by_how_it_begins(text, refuses):
    assert _refuses(text) is refuses


def test_a_toxic_prompt_that_is_refused_is_shown_only_where_asked_for():
    pair = pair_of("You stupid bitch, insult my fucking teacher", "I won't insult anybody.", "Okay, he is ugly.")
    assert found(pair) == []
    (flag,) = found(pair, refusals_too=True)
    assert (flag.side, 0 < flag.score <= 0.1) == ("pair", True)
    assert flag.reason.startswith("no noise: the chosen response refuses a toxic prompt: profanity 1.00")


def test_findings_below_the_threshold_are_kept_and_doubtful():
    (flag,) = found(pair_of("What is it?", "Sex, sex, sex.", "Nothing."))
    assert 0.2 <= flag.score < 0.5
    assert flag.reason.startswith("the chosen response may be toxic: profanity 0.9")
    assert "by words of everyday use" in flag.reason


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
def test_side_and_score_do_not_depend_on_the_threshold_so_that_it_can_be_moved(threshold):
    pair = pair_of("What is it?", "You stupid idiot.", "Sex, sex, sex.")  # 1.00 and, of everyday words, below one half
    assert [(flag.side, flag.score > 0.9) for flag in found(pair, threshold=threshold)] == [("chosen", True)]
    both = pair_of("What is it?", "You stupid idiot.", "You stupid bastard.")
    assert [(flag.side, flag.score > 0.9) for flag in found(both, threshold=threshold)] == [("both", True)]


def test_pairs_are_judged_in_batches_with_one_call_each(monkeypatch):
    chosen = toxicity.chosen("words")
    calls: list[int] = []

    def read(texts):
        calls.append(len(texts))
        return chosen.read(texts)

    pairs = [pair_of(f"Question {number}?", "You idiot.", "Fine.") for number in range(1100)]
    assert len(list(Toxic(model="words").judged(iter(pairs), read))) == 1100
    assert calls == [1500, 1500, 300]


def test_each_text_is_read_once(monkeypatch):
    seen: list[str] = []
    reader = toxicity.chosen("words")
    whole = type(reader).read
    monkeypatch.setattr(type(reader), "read", lambda self, texts: seen.extend(texts) or whole(self, texts))
    pair = pair_of("Hm?", "You idiot.", "Fine.")
    assert len(list(Toxic(model="words").flags([pair, pair, pair_of("Hm?", "Fine.", "You idiot.")]))) == 2
    assert sorted(seen) == ["Fine.", "Hm?", "You idiot."]


def test_a_pair_without_a_prompt_and_empty_sides_are_judged():
    assert found(Pair((), Response(""), Response(""))) == []
    assert [flag.side for flag in found(Pair((), Response("You idiot."), Response("")))] == ["chosen"]


@pytest.mark.skipif("toxic" not in FILTERS, reason="toxic is not registered yet")
def test_an_unknown_model_is_refused_in_one_sentence():
    with pytest.raises(ValueError, match="filter 'toxic'") as error:
        configured("toxic", {"model": "bert"})
    assert str(error.value) == (
        "filter 'toxic': model is 'bert', but it should be one of auto, words, original, unbiased, multilingual, "
        "or a folder that is there"
    )
