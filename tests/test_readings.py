"""Readings: each text is read once, kept by content and model, and a reading that was stopped goes on where it was."""

import random

import numpy as np
import pytest

from curation.pairs import turn
from curation.readings import Readings
from training.batches import by_budget
from training.embeddings import Embedder, asked
from training.models import located


class Counting:
    """A reader whose rows are known beforehand; it remembers what it read and can be stopped."""

    key, described, cost = "counting 1", "counting", 1.0

    def __init__(self, stop_after=None):
        self.seen, self.stop_after = [], stop_after

    def read(self, texts):
        if self.stop_after is not None and len(self.seen) >= self.stop_after:
            raise InterruptedError("stopped")
        self.seen += texts
        return np.array([[len(text) / 64, text.count("b")] for text in texts], np.float32)


TEXTS = ["a" * n + "b" for n in range(200)] + ["a" * 70_000, "", " ", "née", "\udc80 half"]


def test_every_text_is_read_once_and_rows_come_in_the_order_asked_for():
    reader = Counting()
    readings = Readings(reader)
    readings.fill([*TEXTS, *TEXTS])
    readings.fill(TEXTS)
    assert sorted(reader.seen) == sorted(TEXTS)
    shuffled = random.Random(0).sample(TEXTS, len(TEXTS))
    kept = np.float16([[len(text) / 64, text.count("b")] for text in shuffled])
    np.testing.assert_array_equal(readings(shuffled), kept.astype(np.float32))
    with pytest.raises(KeyError):
        readings(["never read"])


def test_a_second_reading_of_the_same_texts_reads_nothing_and_says_the_same(tmp_path):
    first, second = Counting(), Counting()
    before = Readings(first, tmp_path)
    before.fill(TEXTS)
    again = Readings(second, tmp_path)
    again.fill(TEXTS)
    assert (len(first.seen), second.seen) == (len(TEXTS), [])
    np.testing.assert_array_equal(before(TEXTS), again(TEXTS))


def test_another_model_has_readings_of_its_own(tmp_path):
    Readings(Counting(), tmp_path).fill(TEXTS)
    other = Counting()
    other.key = "counting 2"
    Readings(other, tmp_path).fill(TEXTS)
    assert len(other.seen) == len(TEXTS)


def test_a_stopped_reading_goes_on_where_it_was(tmp_path):
    texts = [f"{n} " + "word " * 400 for n in range(300)]  # several files
    stopped = Counting(stop_after=100)
    with pytest.raises(InterruptedError):
        Readings(stopped, tmp_path).fill(texts)
    resumed, undisturbed = Counting(), Counting()
    readings = Readings(resumed, tmp_path)
    readings.fill(texts)
    assert 0 < len(stopped.seen) < len(texts)
    assert sorted(stopped.seen + resumed.seen) == sorted(texts)
    whole = Readings(undisturbed)
    whole.fill(texts)
    assert stopped.seen + resumed.seen == undisturbed.seen  # in the same parts, so a model says the very same
    np.testing.assert_array_equal(readings(texts), whole(texts))


def test_half_a_file_is_thrown_away_and_its_texts_are_read_again(tmp_path):
    Readings(Counting(), tmp_path).fill(TEXTS)
    files = sorted(tmp_path.rglob("*.npz"))
    assert len(files) > 1
    files[0].write_bytes(files[0].read_bytes()[:50])
    again = Counting()
    readings = Readings(again, tmp_path)
    readings.fill(TEXTS)
    assert 0 < len(again.seen) < len(TEXTS)
    np.testing.assert_array_equal(readings(["aab"]), [[3 / 64, 1]])


def test_numbers_that_are_none_are_refused_in_a_sentence(tmp_path):
    broken = Counting()
    broken.read = lambda texts: np.full((len(texts), 2), np.nan)
    with pytest.raises(ValueError, match="counting gave numbers that cannot be used for 1 texts"):
        Readings(broken, tmp_path).fill(["a"])
    assert list(tmp_path.rglob("*.npz")) == []


def test_progress_is_told_in_characters_and_ends_at_the_whole():
    told = []
    texts = [f"{n} " + "word " * 400 for n in range(100)]
    Readings(Counting()).fill(texts, lambda done, total: told.append((done, total)))
    total = sum(map(len, texts))
    assert told[0] == (0, total)
    assert told[-1] == (total, total)
    assert sorted(told) == told


# batches


def test_batches_hold_every_place_once_within_the_budget():
    rng = random.Random(1)
    lengths = [rng.randint(0, 600) for _ in range(500)]
    batches = list(by_budget(lengths, budget=2048, at_most=64))
    assert sorted(place for batch in batches for place in batch) == list(range(500))
    assert all(len(batch) == 1 or len(batch) * max(lengths[place] for place in batch) <= 2048 for batch in batches)
    assert max(map(len, batches)) <= 64
    longest = [max(lengths[place] for place in batch) for batch in batches]
    assert longest == sorted(longest, reverse=True)


# embeddings


def test_embeddings_are_those_of_sentence_transformers_whatever_the_order_or_the_company():
    from sentence_transformers import SentenceTransformer

    texts = ["A river in Europe.", "The Danube.", "", "Rinse the rice. " * 200, "Tomatoes 番茄 and eggs", "a  b\n\nc"]
    mine = Embedder().read(texts)
    assert mine.shape == (6, 384)
    theirs = SentenceTransformer(located("minilm").place).encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(mine, theirs, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(mine, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(Embedder().read(texts[::-1]), mine[::-1], atol=2e-6)


def test_close_meanings_are_close_and_others_are_not():
    one, same, other = Embedder().read(
        ["How do I boil an egg?", "What is the way to cook an egg in water?", "The stock market fell."]
    )
    assert one @ same > 0.7 > 0.2 > one @ other


def test_a_text_in_a_script_the_model_cannot_read_is_near_to_nothing():
    khmer, other, english = "ខ្ញុំចូលចិត្តអាន", "មេឃថ្ងៃនេះស្រស់ស្អាត", "The Danube is a river."
    rows = Embedder().read([khmer, other, english, "Danube ខ្ញុំ is a river in Europe and it is long."])
    assert np.abs(rows[:2]).max() == 0
    np.testing.assert_allclose(np.linalg.norm(rows[2:], axis=1), 1, atol=1e-5)


def test_a_model_that_is_not_there_is_named_in_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no sentence-transformers model '.*empty' could be loaded: "):
        Embedder(str(tmp_path / "empty")).read(["a"])
    with pytest.raises(ValueError, match="a model's name is empty: expected a folder, minilm, smollm2 or an id on the hub"):
        Embedder(" ")


def test_a_name_is_a_folder_first_then_a_built_in_then_an_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert located("minilm").built_in
    assert located("some/model") == ("some/model", "some/model", False, False)
    reference = tmp_path / "hub" / "models--some--model" / "refs" / "main"
    reference.parent.mkdir(parents=True)
    reference.write_text("0123abcd")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert located("some/model").key == "some/model@0123abcd"  # another revision is another model
    (tmp_path / "minilm").mkdir()
    assert located("minilm").place == str(tmp_path / "minilm")
    before = located("minilm").key
    (tmp_path / "minilm" / "model.safetensors").write_bytes(b"new weights")
    after = located("minilm").key
    (tmp_path / "minilm" / "1_Pooling").mkdir()
    (tmp_path / "minilm" / "1_Pooling" / "config.json").write_text("{}")
    assert len({before, after, located("minilm").key}) == 3


def test_what_is_asked_is_the_last_turn_with_what_a_short_one_rests_on():
    alone = (turn("user", "Tell me how the Danube got its name and which languages call it what."),)
    assert asked(alone) == alone[0].content
    short = (turn("user", "Name a river."), turn("assistant", "word " * 100 + "The Danube."), turn("user", "Why that one?"))
    assert asked(short).endswith("word The Danube. Why that one?")
    assert len(asked(short).split()) == 60
    assert (
        asked((turn("user", "Name a river."), turn("assistant", "No."), turn("user", "Please."))) == "Name a river. No. Please."
    )
    assert asked(()) == ""
