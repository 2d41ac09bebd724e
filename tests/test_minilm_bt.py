"""The head on sentence embeddings: it learns, reads nothing twice, and its scores are what its features and weights say."""

import json
import random

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.linear_model import LogisticRegression

from tests.test_reward_training import Stopped, hand_over, lines_of, summary_of
from training import reward, reward_data, reward_head
from training.embeddings import Embedder, asked
from training.reward_head import Problem
from training.reward_settings import Training
from training.rewards import minilm_bt
from training.rewards.base import Message
from training.rewards.registry import family
from training.rewards.sentence_features import counted, manner, side
from training.run import Cancelled, Run

TOPICS = ("rice", "trains", "whales", "paint", "chess", "bread", "Mars", "bees")
GOOD = ("It works like this: {} first, then slowly the rest.", "Here is how {} are done well.", "Take your time with {}.")
BAD = ("I hate you for asking about {}.", "You are stupid, and so are {}.", "Shut up about {}, you idiot.")


def pairs_of(count, split, *, seed):
    """Pairs in which the chosen response is friendly and the rejected one rude."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        topic = rng.choice(TOPICS)
        prompt = [["user", f"Tell me about {topic}, part {number} for {split}."]]
        sides = [[["assistant", rng.choice(texts).format(f"{topic} {number}")]] for texts in (GOOD, BAD)]
        rows.append((f"{split}-{number}", split, "", *(json.dumps(one) for one in (prompt, *sides)), None))
    return rows


def new_run(folder, rows, **settings):
    config = Training(model="head", base="minilm-bt", **settings)
    run = Run.create(folder, kind="reward", module="training.reward", title="head", config=config)
    hand_over(run, rows)
    return run


@pytest.fixture(scope="module")
def rows():
    return pairs_of(60, "train", seed=1) + pairs_of(40, "held out", seed=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, rows):
    run = new_run(tmp_path_factory.mktemp("heads") / "run", rows)
    reward.train(run)
    return run


def scorer_of(run):
    return family("minilm-bt", {"source": str(run.folder / "model")}).load()


def texts_of(run):
    pairs = reward_data.read(run.input).held_out
    return [pair.prompt for pair in pairs], [pair.chosen for pair in pairs], [pair.rejected for pair in pairs]


def test_it_learns_what_can_be_learned(trained):
    found = summary_of(trained)
    assert (found["family"], found["settings"], found["licence"]) == ("minilm-bt", {"source": "model"}, "apache-2.0")
    assert (found["held_out"]["n"], found["too_long"]) == (40, 0)
    assert found["held_out"]["accuracy"] > 0.9
    lines = lines_of(trained)
    assert [line["step"] for line in lines] == list(range(1, found["steps"] + 1))
    assert lines[-1]["loss"] < lines[0]["loss"] < np.log(2)
    assert lines[-1]["held_out_accuracy"] == found["held_out"]["accuracy"]
    card = (trained.folder / "model" / "README.md").read_text()
    assert 'license: "apache-2.0"' in card
    assert found["notes"][0] in card


def test_the_loaded_head_scores_as_its_training_said(trained):
    prompts, chosen, rejected = texts_of(trained)
    scorer = scorer_of(trained)
    margins = scorer.score(prompts, chosen).values - scorer.score(prompts, rejected).values
    assert int((margins > 0).sum()) == summary_of(trained)["held_out"]["right"]


def test_a_score_is_the_weighted_sum_of_features_batch_by_batch_and_one_by_one(trained, monkeypatch):
    prompts, chosen, rejected = texts_of(trained)
    prompts, responses = prompts[:8] * 2, [*chosen[:8], *rejected[:8]]
    weights = load_file(trained.folder / "model" / "head.safetensors")["weights"]
    embedder = Embedder()
    expected = []
    for prompt, response in zip(prompts, responses, strict=True):
        question, answer = asked(prompt), response[0].content
        vectors = embedder.read([question]), embedder.read([answer])
        row = np.concatenate([side([answer], *vectors)[0], manner(question, answer)])
        expected.append(row @ weights)
    scorer = scorer_of(trained)
    np.testing.assert_allclose(scorer.score(prompts, responses).values, expected, atol=1e-4)
    monkeypatch.setattr(minilm_bt, "_BUDGET", 60)
    work = scorer.prepare(prompts, responses)
    assert len(work.batches) > 3
    assert sorted(place for batch in work.batches for place in batch.places) == list(range(16))
    np.testing.assert_allclose(work.all(), expected, atol=1e-4)


def test_responses_to_one_prompt_stand_in_one_batch_and_their_prompt_is_counted_once(trained):
    prompt = (Message("user", "How do I cook rice so that it does not stick to the pot?"),)
    responses = [(Message("assistant", text),) for text in ("Rinse it.", "Use more water, and let it rest.")]
    scorer = scorer_of(trained)
    (both,) = scorer.prepare([prompt] * 2, responses).batches
    (one,) = scorer.prepare([prompt], responses[:1]).batches
    (other,) = scorer.prepare([prompt], responses[1:]).batches
    (asked_only,), _ = Embedder().lengths([asked(prompt)])
    assert both.tokens == one.tokens + other.tokens - asked_only


def test_a_text_beyond_the_embeddings_length_is_counted(trained, tmp_path):
    prompt = (Message("user", "Tell me about rice."),)
    responses = [(Message("assistant", " ".join(["rice"] * count)),) for count in (254, 255)]  # with two marks 256 and 257
    scored = scorer_of(trained).score([prompt] * 2, responses)
    assert scored.truncated == 1
    assert list(scorer_of(trained).prepare([prompt] * 2, responses).truncated) == [False, True]
    long = ("long", "train", "", json.dumps([["user", "Rice?"]]), json.dumps(responses[1]), json.dumps(responses[0]), None)
    run = new_run(tmp_path / "run", [long, *pairs_of(4, "train", seed=3)], penalty=0.3)
    reward.train(run)
    assert summary_of(run)["too_long_by_split"] == {"train": 1, "held_out": 0}


def test_cancelled_amid_reading_it_reads_nothing_twice_and_comes_to_the_same_head(tmp_path, rows, trained, monkeypatch):
    monkeypatch.setattr(reward_head, "_PART", 40)
    run = new_run(tmp_path / "cancelled", rows)
    with pytest.raises(Cancelled):
        reward.train(Stopped(run.folder, after=5))
    kept = {part.name: part.stat().st_mtime_ns for part in run.checkpoints.glob("*.npz")}
    assert 0 < len(kept) < 5
    run.stop.unlink()
    reward.train(run)
    parts = {part.name: part.stat().st_mtime_ns for part in run.checkpoints.glob("*.npz")}
    assert {name: parts[name] for name in kept} == kept
    undisturbed = new_run(tmp_path / "undisturbed", rows)
    reward.train(undisturbed)
    weights = [load_file(one.folder / "model" / "head.safetensors")["weights"] for one in (run, undisturbed)]
    np.testing.assert_array_equal(*weights)
    assert lines_of(run) == lines_of(undisturbed)


# ---- the fit


def drawn(count=200, width=7, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, width))
    return x * np.sign(x @ rng.normal(size=width) + rng.normal(size=count))[:, None]


@pytest.mark.parametrize("penalty", [0.01, 1.0, 30.0])
def test_the_head_is_scikit_learns_logistic_regression(penalty):
    x = drawn()
    signs = np.where(np.arange(len(x)) % 2, 1.0, -1.0)
    theirs = LogisticRegression(C=penalty, fit_intercept=False, tol=1e-10, max_iter=5000).fit(x * signs[:, None], signs)
    np.testing.assert_allclose(Problem(x).solved(penalty), theirs.coef_[0], atol=1e-4)


def test_smoothing_is_a_share_of_labels_turned_round():
    x = drawn()
    doubled = np.concatenate([x, -x])
    signs = np.ones(len(doubled))
    signs[::2] = -1
    weights = np.repeat([0.8, 0.2], len(x))
    theirs = LogisticRegression(C=0.5, fit_intercept=False, tol=1e-10, max_iter=5000)
    theirs.fit(doubled * signs[:, None], signs, sample_weight=weights)
    np.testing.assert_allclose(Problem(x, smoothing=0.2).solved(0.5), theirs.coef_[0], atol=1e-4)


def test_the_gradient_is_that_of_the_loss_and_a_margin_asks_for_more():
    x, rng = drawn(50), np.random.default_rng(1)
    problem, weights = Problem(x, rng.uniform(0, 2, 50), 0.1), rng.normal(size=7)
    steps = 1e-6 * np.eye(7)
    numeric = [(problem.loss(weights + one)[0] - problem.loss(weights - one)[0]) / 2e-6 for one in steps]
    np.testing.assert_allclose(problem.loss(weights)[1], numeric, atol=1e-6)
    assert (x @ Problem(x, np.full(50, 2.0)).solved(1.0)).mean() > (x @ Problem(x).solved(1.0)).mean()


def test_the_penalty_is_chosen_over_whole_conversations():
    x = drawn(400, 30)
    penalty, note = reward_head.chosen_penalty(Problem(x), np.arange(400) // 2, seed=0)
    assert penalty in reward_head.PENALTIES
    assert note.startswith(f"penalty {penalty:g} had the least loss in 5 parts by prompt")
    noise = np.random.default_rng(3).normal(size=(60, 50))
    strong, _ = reward_head.chosen_penalty(Problem(noise), np.arange(60), seed=0)
    assert strong == min(reward_head.PENALTIES)  # where nothing can be learned, the strongest is best
    _, note = reward_head.chosen_penalty(Problem(x[:9]), np.arange(9), seed=0)
    assert note == "penalty 0.3: 9 prompts are too few to choose one by cross-validation"


def test_pairs_that_share_their_first_turn_are_one_conversation():
    def pair(*turns):
        prompt = tuple(Message("user", text) for text in turns)
        return reward_data.Preference("x", "train", "", prompt, (), ())

    assert list(reward_head.groups_of([pair("a"), pair("b", "c"), pair("a", "d")])) == [0, 1, 0]


# ---- features


def test_what_is_counted_is_what_the_words_say():
    text = 'I can\'t say, maybe. Do you mean rice?\n- "one"\n- 2'
    found = dict(
        zip(
            ("characters", "squared", "sentences", "words a sentence", "commas", "letters a word", "items", "quotes",
             "ends asking", "questions", "asks back", "refusals", "doubts", "me", "you", "digits", "of the question",
             "of the answer"),
            manner("Do you eat rice or bread?", text), strict=True,
        )
    )  # fmt: skip
    assert found["characters"] == pytest.approx(np.log1p(len(text)))
    assert found["sentences"] == pytest.approx(np.log1p(2))
    assert found["items"] == pytest.approx(np.log1p(2))
    assert (found["ends asking"], found["asks back"]) == (0.0, 1.0)
    assert found["questions"] == found["refusals"] == found["doubts"] == pytest.approx(np.log(2))
    assert found["of the question"] == pytest.approx(2 * 1 / 3)  # rice, of eat, rice and bread
    assert (len(manner("", "")), len(counted(""))) == (18, 7)
    assert np.isfinite(manner("", "") + counted("")).all()


# ---- what goes wrong


def test_a_folder_that_holds_no_such_head_is_refused(tmp_path, trained):
    with pytest.raises(ValueError, match=r"is no head on embeddings: expected head\.json"):
        family("minilm-bt", {"source": str(tmp_path)}).load()
    about = json.loads((trained.folder / "model" / "head.json").read_text())
    save_file({"weights": np.ones(3)}, tmp_path / "head.safetensors")
    for changed, sentence in (
        ({"key": "embedding 2 other@1"}, "was trained on the embeddings 'embedding 2 other@1'"),
        ({"features": 0}, "weighs features 0, here they are 1: train it anew"),
        ({}, "has 3 weights: expected 410"),
    ):
        (tmp_path / "head.json").write_text(json.dumps({**about, **changed}))
        with pytest.raises(ValueError, match=sentence):
            family("minilm-bt", {"source": str(tmp_path)}).load()


def test_embeddings_that_are_not_there_are_named(tmp_path, rows):
    run = new_run(tmp_path / "run", rows, embeddings=str(tmp_path))
    with pytest.raises(ValueError, match="no sentence-transformers model"):
        reward.train(run)
