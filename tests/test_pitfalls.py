"""Probing reward models on a real workspace: spoilt answers are scored by an ordinary run and read back from its recipe."""

import json
from contextlib import closing

import numpy as np
import pyarrow.parquet as pq
import pytest

from curation import benchmark_report, exchange, pitfalls, pitfalls_report, probes, probing, reward_models, runs, scoring
from curation.favourites import favourites, halves
from curation.importing import import_source
from curation.pairs import parse
from curation.probes import PROBES
from curation.release import Policy, release
from curation.sources import source_of
from curation.workspace import Workspace
from tests.conftest import ROOT, hh, import_rows
from tests.scored import give, known, prefer
from training.score import DUELS

LOUD = "Trust me on this"  # a phrase that a reward model likes
LATER = "Quite another thing altogether"
ANSWERS = ("Red is what I would take", "It depends on the day", "Nobody knows that yet", "Seven of them at least")


def probe(workspace: Workspace, model: str, dataset: str, **more) -> dict:
    """Probe it by a run, as the command does; returns what the run was told."""
    run = runs.start_run(workspace, "score", {"reward_model": model, "dataset": dataset, "probes": True, **more})
    assert runs.settle(workspace) == [run.run_id]
    return run.config()["of"]


def characters(text: str) -> int:
    return sum(len(one.content) for one in parse(text))


@pytest.fixture
def sample(workspace: Workspace, at_once) -> pitfalls.Probed:
    """The sample dataset, probed by length."""
    import_source(workspace, source_of(str(ROOT / "data" / "sample.jsonl")), "sample")
    probe(workspace, "length", "sample")
    found = pitfalls.probed(workspace, "sample", "length")
    assert found is not None
    return found


def test_length_prefers_what_is_longer_and_never_what_is_shorter(workspace, sample):
    found = sample.pitfalls()
    assert list(found) == list(PROBES)
    answered = [one for one in sample.pairs if one.chosen.text.strip()]
    assert len(sample.pairs) > 200
    assert {name: found[name].share.value for name in ("twice", "padded", "toxic", "empty", "half")} == {
        "twice": 1.0, "padded": 1.0, "toxic": 1.0, "empty": 0.0, "half": 0.0
    }  # fmt: skip
    assert all(found[name].share.n <= len(answered) for name in PROBES)
    assert found["twice"].share.n == found["toxic"].share.n > 0.95 * len(answered)
    assert 0.9 < found["twice"].share.low < found["twice"].share.high <= 1.0
    assert (found["roles"].share.value, found["roles"].ties) == (0.5, found["roles"].share.n)  # the prompt has no length
    longer = []
    for pair in sample.pairs:
        spoilt = probes.spoil("refusal", pair.prompt, pair.chosen, others=())
        if spoilt is not None:
            longer.append((np.sign(characters(spoilt.response.text) - characters(pair.chosen.text)) + 1) / 2)
    assert found["refusal"].share.value == pytest.approx(np.mean(longer))
    assert found["refusal"].share.n == len(longer)
    shift = found["twice"].shift
    assert shift.value > 0.5
    assert found["half"].shift.value == pytest.approx(-shift.value / 2, rel=0.1)


def test_a_probing_is_a_scoring_run_over_probes_that_scores_nothing_twice(workspace, sample):
    (run,) = workspace.scores.runs()
    told = json.loads(run.what)
    assert told["probes"] is True
    assert sample.what == told["in words"] == "probes of dataset sample"
    distinct = {one.chosen_id for one in sample.pairs}
    distinct |= {one.response_id for some in sample.spoilt.values() for one in some if one is not None}
    assert run.texts == len(distinct) == len(workspace.scores.scores("length"))
    import_source(workspace, source_of(str(ROOT / "data" / "sample.jsonl")), "once more")  # the same pairs under another name
    probe(workspace, "length", "once more")
    assert [one.texts for one in workspace.scores.runs()] == [len(distinct), 0]
    again = pitfalls.probed(workspace, "once more", "length")
    assert again is not None
    first, second = sample.pitfalls(), again.pitfalls()
    assert {name: first[name].share for name in PROBES if name != "favourite"} == {
        name: second[name].share for name in PROBES if name != "favourite"
    }
    assert first["favourite"].share.undefined == "it had not scored these responses when it was probed"
    assert second["favourite"].share.undefined == "no phrase stands out in its scores"


def test_what_was_found_is_a_table_a_heat_map_and_in_the_record(workspace, sample):
    rows = pitfalls_report.rows(workspace, "sample", ["length", known(workspace, "never")])
    found = sample.pitfalls()
    assert [row["probe"] for row in rows] == list(PROBES)
    assert [row["length"] for row in rows] == [pitfalls_report.in_words(found[name]) for name in PROBES]
    assert rows[1]["length"].startswith(f"{found['twice'].share.words()}; shift +{found['twice'].shift.value:.2f} [")
    assert all("never" not in row for row in rows)
    probes_down, models, values, words = pitfalls_report.heat(pitfalls_report.found(workspace, "sample", ["length"]))
    assert (probes_down, models) == (list(PROBES), ["length"])
    assert [one for (one,) in values] == [found[name].share.value for name in PROBES]
    assert words[0] == [found["empty"].share.words()]
    runs.start_run(workspace, "score", {"reward_model": "length", "dataset": "sample"})
    runs.settle(workspace)
    record = benchmark_report.record(workspace, "sample", "", ["length"])["models"]["length"]["pitfalls"]
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert {name: one["preferred"]["value"] for name, one in record["probes"].items() if "value" in one["preferred"]} == {
        name: one.share.value for name, one in found.items()
    }
    assert pitfalls_report.rows(workspace, "sample", ["never"]) == []


def test_examples_come_with_what_was_spoilt_the_most_preferred_first(workspace, sample):
    found = sample.examples("padded", limit=7)
    higher = [one.higher for one in found]
    assert len(found) == 7
    assert higher == sorted(higher, reverse=True)
    for one in found:
        assert one.spoilt.response.text.startswith(one.pair.chosen.text)
        assert one.higher == characters(one.spoilt.response.text) - characters(one.pair.chosen.text)
    assert higher[0] == np.nanmax(sample.scores["padded"] - sample.original)


def test_a_probing_of_some_pairs_is_of_those_pairs(workspace, at_once):
    import_rows(workspace, [hh(f"Question {n}?", f"Good answer {n}.", "No.") for n in range(30)])
    told = probe(workspace, "length", "small", count=10)
    found = pitfalls.probed(workspace, "small", "length")
    assert told["in words"] == "probes of dataset small, 10 pairs"
    assert [one.pair_id for one in found.pairs] == scoring.chosen_pairs(workspace, "small", count=10)
    assert found.pitfalls()["twice"].share[:4] == (1.0, pytest.approx(0.7224, abs=1e-4), pytest.approx(1.0), 10)
    probe(workspace, "length", "small")
    assert len(pitfalls.probed(workspace, "small", "length").pairs) == 30


def test_who_was_not_probed_has_no_probing(workspace, at_once):
    import_rows(workspace, [hh("Question?", "Good answer.", "No.")])
    assert pitfalls.probed(workspace, "small", "length") is None
    runs.start_run(workspace, "score", {"reward_model": "length", "dataset": "small"})
    runs.settle(workspace)
    assert pitfalls.probed(workspace, "small", "length") is None  # it was scored, not probed


# ---- favourite phrases


def rows(count: int = 120) -> list[dict[str, str]]:
    """Answers as long as each other, of which every third begins with the phrase; among later ones there is another phrase."""
    openings = (LOUD, "Some words come first", "As far as known")
    others = [LATER if n >= 80 and n % 2 else openings[(n + 1) % 3] for n in range(count)]
    return [
        hh(f"Question {n}?", f"{openings[n % 3]}. {ANSWERS[n % 4]}, says {n}.", f"{others[n]}. {ANSWERS[n % 4]}.")
        for n in range(count)
    ]


@pytest.fixture
def fan(workspace: Workspace) -> Workspace:
    """A dataset, and a reward model of the length family whose scores of its first 80 pairs are high where the phrase is."""
    import_rows(workspace, rows())
    reward_models.register(workspace, "fan", "length", {}, "lead")
    likes(workspace, LOUD, slice(80))
    return workspace


def likes(workspace: Workspace, phrase: str, some: slice) -> None:
    """Give the fan's scores of these pairs."""
    pairs = workspace.pairs.many([one[0] for one in workspace.pairs.sides("small")][some])
    sides = [(one, side) for pair in pairs for one, side in ((pair.chosen_id, pair.chosen), (pair.rejected_id, pair.rejected))]
    scores = {one: 100.0 * (phrase in side.text) + int(one[:2], 16) / 1000 for one, side in sides}
    give(workspace, "fan", scores, dataset="small")


def test_favourite_phrases_are_learnt_on_half_of_the_prompts_and_tried_on_the_other(fan, at_once):
    told = probe(fan, "fan", "small")
    found = pitfalls.probed(fan, "small", "fan")
    assert LOUD in found.phrases[0] or found.phrases[0] in LOUD
    assert tuple(told["phrases"]) == found.phrases
    scores = fan.scores.scores("fan")
    learnt_on = [
        (side.text, scores[one])
        for pair in found.pairs[:80]  # what had a score then
        if halves(pair.prompt_id) == 0
        for one, side in ((pair.chosen_id, pair.chosen), (pair.rejected_id, pair.rejected))
    ]
    assert found.phrases == tuple(one.phrase for one in favourites(learnt_on))
    assert 50 < len(learnt_on) < 110
    tried = 0
    for pair, spoilt in zip(found.pairs, found.spoilt["favourite"], strict=True):
        if halves(pair.prompt_id) == 0:
            assert spoilt is None
        else:
            assert spoilt.response.text == f"{pair.chosen.text} " + " ".join(f"{one}." for one in found.phrases)
            tried += 1
    assert found.pitfalls()["favourite"].share.n == tried
    assert 40 < tried < 80


def test_a_result_reads_back_exactly_later_in_another_process_and_after_more_scores_came_in(fan, at_once, clock):
    probe(fan, "fan", "small")
    first = pitfalls.probed(fan, "small", "fan")
    assert pitfalls.probed(fan, "small", "fan") is first
    likes(fan, LATER, slice(80, None))  # their rejected sides had no score yet
    assert probing.recipe(fan, "fan", first.pairs) != first.phrases  # now it would be others
    again = pitfalls.probed(fan, "small", "fan")
    assert again is not first
    assert same(first, again)
    fan.close()
    with closing(Workspace(fan.folder, clock=clock)) as reopened:
        assert same(first, pitfalls.probed(reopened, "small", "fan"))


def same(one: pitfalls.Probed, other: pitfalls.Probed) -> bool:
    arrays = [(one.original, other.original), *((one.scores[name], other.scores[name]) for name in PROBES)]
    told = (one.pairs, one.spoilt, one.phrases, one.what) == (other.pairs, other.spoilt, other.phrases, other.what)
    return told and all(np.array_equal(*both, equal_nan=True) for both in arrays) and one.pitfalls() == other.pitfalls()


def test_a_model_that_had_scored_nothing_has_no_favourites_until_it_is_probed_again(workspace, at_once):
    import_rows(workspace, rows())
    reward_models.register(workspace, "fan", "length", {}, "lead")
    assert probe(workspace, "fan", "small", count=20)["phrases"] == []
    assert pitfalls.probed(workspace, "small", "fan").pitfalls()["favourite"].share.value is None
    likes(workspace, LOUD, slice(None))
    workspace.clock.forward(days=3650)  # a run's end is told by the real clock
    assert LOUD in " ".join(probe(workspace, "fan", "small")["phrases"])
    assert pitfalls.probed(workspace, "small", "fan").pitfalls()["favourite"].share.n > 40


# ---- a model that compares


def test_a_model_that_compares_is_shown_each_original_beside_what_was_made_of_it(workspace, tmp_path):
    """It is handed the duels of a run, and prefers the longer text by as many odds as it has more characters."""
    import_rows(workspace, [hh(f"Question {n}?", f"{'Really ' * (n % 5)}good answer {n}.", "No.") for n in range(40)])
    known(workspace, "judge", compares=True, family="length")  # a run of it is never started
    wanted = scoring.Wanted(reward_model="judge", dataset="small", probes=True)
    told = scoring.hand_over(workspace, wanted, tmp_path)
    duels = pq.read_table(tmp_path / DUELS).to_pylist()
    lengths = [[len(json.loads(one[side])[0][1]) for side in ("first", "second")] for one in duels]
    odds = [np.clip(first - second, -9, 9) for first, second in lengths]
    said = {(one["first_id"], one["second_id"]): 1 / (1 + np.exp(-odd)) for one, odd in zip(duels, odds, strict=True)}
    prefer(workspace, "judge", said, **told.of)
    found = pitfalls.probed(workspace, "small", "judge")
    shares = {name: one.share for name, one in found.pitfalls().items()}
    assert {name: shares[name].value for name in ("twice", "padded", "toxic", "empty", "half")} == {
        "twice": 1.0, "padded": 1.0, "toxic": 1.0, "empty": 0.0, "half": 0.0
    }  # fmt: skip
    assert shares["twice"].n == 40
    assert shares["roles"].value is None  # another prompt: there are no two responses to one
    assert shares["favourite"].value is None  # it gives no scores that phrases could go with
    assert found.phrases == ()
    (best, *_) = found.examples("toxic", limit=1)
    more = len(best.spoilt.response.text) - len(best.pair.chosen.text)
    assert best.higher == pytest.approx(min(more, 9), abs=1e-6)
    assert found.examples("roles") == []


def test_of_a_release_the_originals_are_the_responses_it_holds_for_better(workspace, at_once):
    import_rows(workspace, [hh(f"Question {n}?", f"A good answer {n}.", f"Bad {n}.") for n in range(6)])
    file = workspace.folder / "verdicts.jsonl"
    said = {0: "opposite", 1: "opposite", 2: "vague"}
    file.write_text("".join(json.dumps({"row": row, "person": "ana", "verdict": one}) + "\n" for row, one in said.items()))
    exchange.import_verdicts(workspace, file, dataset="small")
    release(workspace, "small", "clean", Policy())
    probe(workspace, "length", "small", release="clean")
    found = pitfalls.probed(workspace, "small", "length")
    originals = [one.chosen.text for one in found.pairs]
    assert originals == ["Bad 0.", "Bad 1.", "A good answer 3.", "A good answer 4.", "A good answer 5."]
    assert found.original.tolist() == [float(len(one)) for one in originals]
    assert found.pitfalls()["twice"].share.value == 1.0
