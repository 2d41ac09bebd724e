"""The planted-noise benchmark: what is planted is what the key says, and the baselines do what they say."""

import re
from collections import Counter
from random import Random

import pytest

from curation.filters.registry import FILTERS
from curation.pairs import Pair
from tests.bench import filters, noise, simplest
from tests.bench.filters import Kinds, Screened, Share, precision, recall
from tests.bench.noise import KINDS
from tests.bench.planted import Plant, Planted, drawn, most_each, plant, sample_pairs, swap

NEGATIONS = re.compile(r"\b(?:not|no|never|none|nothing|nobody|without|cannot)\b|n['’]t\b")
TEXT = (
    "You don't need a big pan, for example. I'm sure it is fine with 2 small ones. You can't burn it on a low flame. "
    "It's usually ready in 10 minutes because the dough is thin."
)


def hh_pair(asked: str, chosen: str, rejected: str) -> Pair:
    context = f"\n\nHuman: {asked}\n\nAssistant: "
    return Pair.of_texts(context + chosen, context + rejected)


@pytest.fixture(scope="module")
def clean() -> list[Pair]:
    return sample_pairs()


@pytest.fixture(scope="module")
def planted(clean) -> Planted:
    return plant(clean, each=most_each(len(clean)), seed=1)


def noisy(planted: Planted, clean: list[Pair], kind: str) -> list[tuple[str, str]]:
    """Each text of a side this kind was planted on, as it was and as it is."""
    sides = {"chosen": ["chosen"], "rejected": ["rejected"], "both": ["chosen", "rejected"]}
    return [
        (dict(clean[row].sides())[side], dict(planted.pairs[row].sides())[side])
        for row in planted.rows(kind)
        for side in sides[planted.key[row].side]
    ]


# ---- planting


def test_planting_hangs_on_the_seed_alone(clean, planted):
    each = most_each(len(clean))
    assert plant(clean, each=each, seed=1) == planted
    assert plant(clean, each=each, seed=2).key != planted.key


def test_every_kind_is_planted_as_often_as_asked_and_exactly_where_the_key_says(clean, planted):
    assert Counter(plant.kind for plant in planted.key.values()) == {kind.name: most_each(len(clean)) for kind in KINDS}
    changed = {row for row, (one, other) in enumerate(zip(clean, planted.pairs, strict=True)) if one != other}
    assert changed == set(planted.key)


def test_background_is_neither_planted_in_nor_copied_from(clean, planted):
    originals = {plant.of for plant in planted.key.values() if plant.of is not None}
    copies = [kind.name for kind in KINDS if kind.copies]
    assert len(originals) == sum(len(planted.rows(kind)) for kind in copies)
    assert not originals & planted.key.keys()
    assert planted.background == set(range(len(clean))) - originals - planted.key.keys()


def test_noise_lies_on_the_side_the_key_names_and_on_no_other(clean, planted):
    for row, one in planted.key.items():
        if one.side in ("chosen", "rejected") and one.kind != "other context":
            other = "rejected" if one.side == "chosen" else "chosen"
            assert dict(planted.pairs[row].sides())[other] == dict(clean[row].sides())[other]
            assert planted.pairs[row].prompt == clean[row].prompt


def test_all_sides_are_drawn(clean):
    kinds = [kind for kind in KINDS if kind.name == "blanked"]
    sides = [one.side for one in plant(clean, each=60, seed=0, kinds=kinds).key.values()]
    assert set(sides) == {"chosen", "rejected", "both"}


def test_where_too_few_pairs_lend_themselves_only_those_are_planted_in():
    pairs = [hh_pair("Hi?", "Yes.", "No."), hh_pair("How?", TEXT, "No."), hh_pair("Why?", "Hm.", "No.")]
    kinds = [kind for kind in KINDS if kind.name == "paraphrase"]
    assert plant(pairs, each=3, seed=0, kinds=kinds).rows("paraphrase") == {1}


def test_what_is_planted_reads_back_as_it_was_written(planted):
    for pair in planted.pairs:
        again = Pair.of_texts(*pair.transcripts())
        assert (again, again.pair_id) == (pair, pair.pair_id)


def test_the_background_is_drawn_by_seed_and_keeps_its_order(clean):
    some = drawn(clean, 50, seed=3)
    assert (len(some), some) == (50, drawn(clean, 50, seed=3))
    assert some != drawn(clean, 50, seed=4)
    assert [pair for pair in clean if pair in some] == some
    assert drawn(clean, 10_000, seed=3) == clean


# ---- what each kind claims


def test_blanked_is_blank(clean, planted):
    assert all(before.strip() and not after.strip() for before, after in noisy(planted, clean, "blanked"))


@pytest.mark.parametrize("seed", range(30))
def test_looped_says_three_words_or_more_twice_running(seed):
    words = noise.looped(TEXT, Random(seed)).split()
    runs = [
        size for size in range(3, len(words) // 2 + 1) for start in range(len(words) - 2 * size + 1)
        if words[start : start + size] == words[start + size : start + 2 * size]
    ]  # fmt: skip
    assert runs
    assert set(words) <= set(TEXT.split())


@pytest.mark.parametrize("seed", range(30))
def test_truncated_is_the_beginning_and_ends_inside_a_sentence(seed):
    cut = noise.truncated(TEXT, Random(seed))
    assert TEXT.startswith(cut)
    assert 0.25 <= len(cut) / len(TEXT) <= 0.75
    assert cut[-1] not in ".!?,:;"
    assert TEXT[len(cut)] == " "


@pytest.mark.parametrize("seed", range(10))
def test_shuffled_has_the_same_words_in_another_order(seed):
    mixed = noise.shuffled(TEXT, Random(seed)).split()
    assert mixed != TEXT.split()
    assert Counter(mixed) == Counter(TEXT.split())


@pytest.mark.parametrize("seed", range(30))
def test_a_paraphrase_differs_in_letters_and_keeps_numbers_and_negations(seed):
    new = noise.paraphrased(TEXT, Random(seed))
    letters = [re.sub(r"\W", "", text.lower()) for text in (TEXT, new)]
    assert letters[0] != letters[1]
    assert re.findall(r"\d+", new) == re.findall(r"\d+", TEXT)
    assert len(NEGATIONS.findall(new)) == len(NEGATIONS.findall(TEXT)) == 2


def test_paraphrases_of_the_sample_keep_numbers_and_negations(clean):
    done = 0
    for number, pair in enumerate(clean):
        text = pair.chosen.text
        new = noise.paraphrased(text, Random(number))
        if new is not None:
            done += 1
            assert re.findall(r"\d+", new) == re.findall(r"\d+", text)
            assert len(NEGATIONS.findall(new)) == len(NEGATIONS.findall(text))
    assert done > len(clean) / 2


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Don't you think they're nice, and isn't it odd?", "Don't you"),  # not "do not you"
        ("It's been a while since we've met, but it's fine.", "It's been"),  # not "it is been"
        ("I don't know who you are and they're not here at all.", "who you are and"),  # not "who you're and"
    ],
)
def test_a_paraphrase_leaves_alone_what_would_no_longer_be_english(text, kept):
    found = [noise.paraphrased(text, Random(seed)) for seed in range(30)]
    assert all(kept in new for new in found if new)
    assert any(found)


def test_a_paraphrase_keeps_the_apostrophe_of_its_text():
    found = [noise.paraphrased("It is fine, and you’ll see that they are very happy here.", Random(seed)) for seed in range(20)]
    assert any("’s" in new for new in found if new)
    assert not any("'" in new for new in found if new)


def test_a_paraphrase_stands_in_place_of_the_rejected_side(clean, planted):
    for row in planted.rows("paraphrase"):
        assert planted.pairs[row].chosen == clean[row].chosen
        assert planted.pairs[row].rejected != clean[row].rejected


def test_off_topic_answers_are_answers_to_another_prompt(clean, planted):
    asked: dict[str, set[str]] = {}
    for pair in clean:
        for _, text in pair.sides():
            asked.setdefault(text, set()).add(pair.prompt_id)
    for row in planted.rows("off topic"):
        own = clean[row].prompt_id
        new = [text for side, text in planted.pairs[row].sides() if planted.key[row].side in (side, "both")]
        assert all(asked[text] and own not in asked[text] for text in new)


def test_other_context_gives_the_two_sides_different_ones(clean, planted):
    for row in planted.rows("other context"):
        contexts = [text[: text.rfind("\n\nAssistant:")] for text in planted.pairs[row].transcripts()]
        assert contexts[0] != contexts[1]
        moved = planted.key[row].side
        before, after = (
            dict(zip(("chosen", "rejected"), pairs[row].transcripts(), strict=True)) for pairs in (clean, planted.pairs)
        )
        assert [side for side in before if before[side] != after[side]] == [moved]
        assert after[moved].endswith(dict(clean[row].sides())[moved])


def test_insults_are_added_to_the_chosen_side_or_stand_in_its_place(clean, planted):
    for before, after in noisy(planted, clean, "insult added"):
        (insult,) = [one for one in noise.INSULTS if one in after]
        assert "".join(after.replace(insult, "").split()) == "".join(before.split())
    for _, after in noisy(planted, clean, "insult instead"):
        assert not re.sub("|".join(map(re.escape, noise.INSULTS)), "", after).strip()
    assert {planted.key[row].side for kind in ("insult added", "insult instead") for row in planted.rows(kind)} == {"chosen"}


def test_a_near_copy_differs_from_its_original_in_a_word_or_two(clean, planted):
    for kind in ("near copy", "near copy, swapped"):
        for row in planted.rows(kind):
            original, copy = clean[planted.key[row].of], planted.pairs[row]
            copy = copy.swapped() if kind == "near copy, swapped" else copy
            parts = [[pair.prompt[-1].content, pair.chosen.text, pair.rejected.text] for pair in (original, copy)]
            gone = sum((Counter(one.split()) - Counter(other.split())).total() for one, other in zip(*parts, strict=True))
            assert 1 <= gone <= 2
            assert copy.subset == original.subset
            assert planted.pairs[planted.key[row].of] == original


# ---- swapped labels


@pytest.mark.parametrize("share", filters.SHARES)
def test_exactly_the_asked_share_of_each_subset_is_swapped(clean, share):
    planted = swap(clean, share=share, seed=0)
    changed = {row for row, (one, other) in enumerate(zip(clean, planted.pairs, strict=True)) if one != other}
    assert changed == set(planted.key)
    assert all(planted.pairs[row] == clean[row].swapped() for row in changed)
    of = Counter(clean[row].subset for row in changed)
    assert of == {subset: round(share * n) for subset, n in Counter(pair.subset for pair in clean).items()}
    assert swap(clean, share=share, seed=0) == planted


def test_a_pair_with_two_equal_sides_is_never_swapped():
    pairs = [hh_pair(f"{n}?", "Same.", "Same.") for n in range(8)] + [hh_pair("x?", "A.", "B."), hh_pair("y?", "A.", "B.")]
    assert set(swap(pairs, share=0.2, seed=0).key) == {8, 9}


# ---- baselines

LONG = "The ferry leaves from the eastern pier at noon and takes about an hour to reach the island across the bay."
PLAIN = [
    hh_pair(f"When does ferry {n} leave?", LONG, f"Ferry {n} leaves later, I think, but do look at the board.")
    for n in range(60)
]


def test_each_simplest_form_flags_its_own_example():
    odd = {
        "empty": hh_pair("a?", " ", LONG),
        "transcript": hh_pair("b?", LONG, LONG[:60] + "\n\nHuman: And then?\n\nAssistant: Rest."),
        "repetitive": hh_pair("c?", "so it goes on and on " * 12, LONG),
        "vague": hh_pair("d?", "I don't know when the ferry leaves, or from where it does.", LONG),
        "indistinct": hh_pair("e?", LONG, LONG.replace("noon", "Noon")),
        "toxic": hh_pair("f?", LONG, "What a stupid thing to ask, the board is over there, is it not?"),
        "contested": hh_pair("g?", LONG, LONG * 3),
    }
    pairs = [*PLAIN, *odd.values()]
    found = simplest.flagged(pairs)
    for number, name in enumerate(odd):
        assert len(PLAIN) + number in found[name]
    exact = ("empty", "transcript", "indistinct", "toxic")
    assert [found[name] for name in exact] == [{len(PLAIN) + list(odd).index(name)} for name in exact]
    assert found["duplicate"] == set()


def test_the_simplest_duplicate_is_the_exact_one():
    near = hh_pair("When does ferry 0 leave?", LONG, "Ferry 0 leaves later, I think, but do look at a board.")
    assert simplest.flagged([*PLAIN, PLAIN[3], near], ["duplicate"]) == {"duplicate": {3, 60}}


def test_there_is_a_simplest_form_of_every_filter():
    assert set(FILTERS) <= set(simplest.DESCRIBED) == set(simplest.flagged(PLAIN))


def test_repeated_share_of_four_grams_is_the_one_counted_by_hand():
    assert simplest.repeated("a b c d a b c d") == pytest.approx(1 / 5)
    assert simplest.repeated("one two three") == 0.0


def test_the_length_rule_is_the_best_of_all_by_trying_each():
    rng = Random(0)
    pairs = [hh_pair("?", "x" * rng.randint(1, 30), "y" * rng.randint(1, 30)) for _ in range(60)]
    key, background = set(range(0, 60, 5)), set(range(60)) - set(range(0, 60, 5)) - {1, 2}

    def f1(rule):
        flagged = rule.flagged(pairs) & (key | background)
        return 2 * len(flagged & key) / (len(flagged) + len(key))

    every = [
        simplest.LengthRule(measure, below, line)
        for measure in ("shorter side", "longer side", "difference", "chosen - rejected")
        for below in (True, False)
        for line in range(-32, 33)
    ]
    assert f1(simplest.best_length_rule(pairs, key, background)) == pytest.approx(max(map(f1, every)))


def test_the_length_rule_finds_a_line_that_parts_them():
    pairs = [hh_pair("?", "x" * n, "y" * 50) for n in (*range(20, 40), 3, 5)]
    rule = simplest.best_length_rule(pairs, {20, 21}, set(range(20)))
    assert rule.flagged(pairs) == {20, 21}
    assert str(rule) == "shorter side <= 6"  # with the space after the marker


def test_so_many_of_the_shortest_chosen_sides():
    pairs = [hh_pair("?", "x" * n, "y" * 10) for n in (12, 1, 9, 4)]
    assert simplest.shortest_chosen(pairs, 2) == {1, 3}


def test_every_kind_is_meant_for_a_filter_with_a_simplest_form_or_for_none():
    assert {kind.filter for kind in KINDS} - {None} <= set(simplest.DESCRIBED)
    assert len({kind.name for kind in KINDS}) == len(KINDS)


# ---- screening and counting


def test_what_is_screened_is_what_a_user_gets_row_for_row(tmp_path):
    place = filters.Place(tmp_path, tmp_path / "cache", set())
    place.cache.mkdir()
    pairs = [PLAIN[0], hh_pair("a?", "", LONG), PLAIN[1], hh_pair("a?", "", LONG), hh_pair("b?", "", " ")]
    found = filters.screened(place, "small", pairs, ["empty", "transcript"])
    both = {"chosen", "rejected"}
    assert found.sides == {"empty": {1: {"chosen"}, 3: {"chosen"}, 4: both}, "transcript": {}}
    assert found.scores == {"empty": {1: 1.0, 3: 1.0, 4: 1.0}}
    assert found.reasons["empty", 1] == "the chosen response is empty"
    assert (found.rows("empty"), found.any(), found.failed) == ({1, 3, 4}, {1, 3, 4}, "")


def test_recall_and_precision_are_over_what_was_planted_and_the_background():
    flagged, planted, background = {1, 2, 3, 9}, {1, 2, 5, 6}, {3, 4, 7}  # 9 carries another kind
    assert recall(flagged, planted) == Share(2, 4)
    assert precision(flagged, planted, background) == Share(2, 3)
    assert precision(set(), planted, background) == Share(0, 0)


def test_a_share_says_its_interval_or_that_it_has_none():
    assert str(Share(90, 100)) == "90% [83, 94]"
    assert str(Share(0, 0)) == "undefined: 0 of 0"
    assert Share(5, 1000).fine() == "0.5% [0.2, 1.2]"


def test_tables_count_what_the_filters_flagged(capsys):
    pairs = [hh_pair("a?", "", LONG), hh_pair("b?", LONG, ""), *PLAIN[:8]]
    key = {0: Plant("blanked", "chosen"), 1: Plant("blanked", "rejected")}
    sides = {"empty": {0: {"chosen"}, 1: {"chosen"}, 2: {"chosen"}}, "vague": {}}
    Kinds(Planted(pairs, key), Screened(sides, {("empty", 2): "because"}, "")).print()
    tables = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    (beside,) = [row for row in tables if row[:3] == ["| blanked", "2", "empty"]]
    assert beside[3:6] == ["100% [34, 100]", "67% [21, 94]", "50% [9, 91]"]
    (ours,) = [row for row in tables if row[:2] == ["| empty", "ours"]]
    assert ours[2:] == ["3", "100% [34, 100]", "2", "67% [21, 94]", "12.5% [2.2, 47.1] |"]
    assert not [row for row in tables if row[:2] == ["| toxic", "ours"]]


def test_swapped_labels_are_counted_by_subset(clean):
    planted = swap(clean, share=0.1, seed=0)
    scores = {row: 0.9 if row in planted.key else 0.1 for row in range(len(clean))}
    found = Screened({filters.SWAPS: {row: {"pair"} for row in planted.key}}, {}, "", {filters.SWAPS: scores})
    rows = filters.swapped_rows(planted, found, 0.1)
    ours = [row for row in rows if row[4] == "ours"]
    ranked = [row for row in rows if row[4].startswith("ours, highest scores")]
    assert [row[5:] for row in ranked] == [row[5:] for row in ours]
    assert {row[0]: row[1] for row in ours} == Counter(pair.subset for pair in clean)
    for _, size, _, swapped, _, flagged, caught, right, others in ours:
        assert flagged == swapped == round(0.1 * size)
        assert caught == right == Share(swapped, swapped)
        assert others == Share(0, size - swapped)
    matched = [row for row in rows if "as many as ours" in row[4]]
    assert [row[5] for row in matched] == [row[5] for row in ours]
