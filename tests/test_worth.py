"""What a filter is worth: known answers on small datasets, intervals against other implementations, thresholds moved."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats.contingency import relative_risk
from statsmodels.stats.proportion import proportion_confint

from curation import charts, review
from curation.review import Settings, Verdict, View
from curation.stats.accuracy import NO_RATIO, Ratio, ratio_of_shares, ratio_of_sums, wilson, wilson_band
from curation.stats.shares import Estimate, Share
from curation.store.verdicts import Decision
from curation.worth import GRID, MOVED_CONFIDENCE, move_thresholds, worth
from tests.conftest import flag_pairs, import_rows, numbered
from tests.test_cli import Elephant
from tests.test_pages import App, opened

START = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


def found(workspace, filter: str, scores: dict[str, float], *, threshold: float = 0.0, read_by: str = "") -> None:
    """Take in a screening with findings on both sides of a threshold."""
    flag_pairs(workspace, scores, filter=filter, threshold=threshold, read_by=read_by)


def say(workspace, pair_ids, verdict: str, *, person="ana", kind="flagged", seconds: float | None = 30.0) -> None:
    """A verdict of one person on each of these pairs."""
    decisions = [
        Decision(f"{person}-{pair_id}", "small", pair_id, person, verdict, kind, "A", seconds, "", [], START)
        for pair_id in pair_ids
    ]
    assert workspace.verdicts.add(decisions) == len(decisions)


@pytest.fixture
def ids(workspace) -> list[str]:
    return import_rows(workspace, numbered(100))


@pytest.fixture
def judged(workspace, ids) -> list[str]:
    """100 pairs. empty finds 0-19 (scores 0 to 0.95, threshold 0.5: flags 10-19), toxic flags 15-24.

    Reviewed: 10-17 (10-13 empty, 14 toxic, 15-16 same, 17 no decision), 5 (empty, found below), as control 50-57
    (56 vague, 57 opposite), otherwise unflagged 60 (toxic).
    """
    found(workspace, "empty", {pair_id: n / 20 for n, pair_id in enumerate(ids[:20])}, threshold=0.5)
    found(workspace, "toxic", dict.fromkeys(ids[15:25], 1.0))
    say(workspace, ids[10:14], "empty", seconds=30.0)
    say(workspace, [ids[14]], "toxic", seconds=3600.0)  # a break
    say(workspace, [ids[15]], "same", seconds=None, kind="imported")
    say(workspace, ids[16:18], "same", seconds=60.0)
    say(workspace, [ids[17]], "vague", person="ben", seconds=60.0)
    say(workspace, [ids[5], ids[60]], "toxic")
    say(workspace, ids[50:56], "same", kind="control")
    say(workspace, [ids[56]], "vague", kind="control")
    say(workspace, [ids[57]], "opposite", kind="control")
    return ids


# ---- the numbers of one filter


def test_a_filter_s_numbers_are_those_counted_by_hand(workspace, judged):
    one = worth(workspace, "small").filters["empty"]
    assert (one.flagged, one.below, one.threshold) == (10, 10, 0.5)
    assert (one.problems, one.own_type, one.own, one.undecided) == (Share(5, 7), "empty", Share(4, 7), 1)
    assert (one.alone, one.shared) == (5, {"toxic": 5})
    assert one.lift.value == pytest.approx((5 / 7) / (2 / 8))
    # 4 x 30 s, a break counted as 300 s, 60 s for 16, two answers of 60 s on 17: 600 s for 5 problems; 15 has no time
    assert (one.minutes.value, one.timed, one.untimed) == (pytest.approx(2.0), 7, 1)
    assert one.unseen == Share(0, 2)  # nobody reviewed 18 and 19


def test_an_adjudication_decides_and_a_verdict_taken_back_does_not(workspace, judged):
    review.settle(workspace, "small", judged[17], Verdict.SAME, "lead")
    workspace.verdicts.undo(f"ana-{judged[10]}", START)
    one = worth(workspace, "small").filters["empty"]
    assert (one.problems, one.own, one.undecided) == (Share(4, 7), Share(3, 7), 0)


def test_swapped_gold_is_another_pair_and_counts_for_nothing(workspace, judged):
    before = worth(workspace, "small").record()
    swapped = review.make_gold(workspace, "small", judged[16], Verdict.SAME, "lead", swapped=True)
    say(workspace, [swapped], "same", kind="gold")
    assert worth(workspace, "small").record() == before


def test_the_control_sample_tells_what_is_missed(workspace, judged):
    control = worth(workspace, "small").control
    assert (control.rate, control.unflagged, control.undecided) == (Share(2, 8), 85, 0)
    # pair 5, found below the threshold, and pair 60 are known problems; the other 83 unflagged ones are estimated
    assert control.known == Share(2, 2)
    low, high = proportion_confint(2, 8, method="wilson")
    assert control.misses() == Estimate(2 + round(83 / 4), 2 + round(83 * low), 2 + round(83 * high))
    low, high = proportion_confint(1, 8, method="wilson")
    assert control.misses("opposite") == Estimate(round(83 / 8), round(83 * low), round(83 * high))
    assert control.misses("toxic").pairs == 2
    say(workspace, [judged[50]], "vague", person="ben", kind="control")
    assert (worth(workspace, "small").control.undecided, worth(workspace, "small").control.rate.n) == (1, 7)


def test_a_control_pair_that_is_flagged_by_now_is_no_control_pair(workspace, judged):
    found(workspace, "vague", {judged[56]: 0.9})
    assert worth(workspace, "small").control.rate == Share(1, 7)


def test_what_a_raised_threshold_lets_go_unreviewed_is_not_estimated_by_a_sample_that_was_not_drawn_from_it(
    workspace, judged, clock
):
    found(workspace, "vague", dict.fromkeys(judged[70:73], 0.6), threshold=0.5)
    assert (worth(workspace, "small").control.unflagged, worth(workspace, "small").control.untold) == (82, 0)
    workspace.flags.set_threshold("small", "vague", 0.9, "ana", clock())
    control = worth(workspace, "small").control
    assert (control.unflagged, control.untold) == (85, 3)
    assert control.misses().pairs == 2 + round((85 - 2 - 3) / 4)
    assert "3 unflagged pairs were flagged until a threshold was raised" in " ".join(control.details())
    say(workspace, [judged[70]], "vague")
    control = worth(workspace, "small").control
    assert (control.untold, control.known) == (2, Share(3, 3))


# ---- undefined


def test_without_reviews_nothing_is_a_number(workspace, ids):
    flag_pairs(workspace, {ids[0]: 1.0})
    held = worth(workspace, "small")
    row = held.filters["empty"].row()
    assert (row["precision"], row["times the control"], row["time per problem"]) == ("none yet",) * 3
    assert held.control.headline().startswith("Control sample: none yet")
    assert held.control.misses() is None
    assert held.filters["empty"].lift == NO_RATIO
    record = json.loads(json.dumps(held.record(), allow_nan=False))
    assert record["filters"][0]["precision"] is None
    assert record["control"]["misses"] is None


def test_what_is_undefined_says_why(workspace, ids):
    flag_pairs(workspace, dict.fromkeys(ids[:4], 1.0))
    say(workspace, ids[:3], "empty", seconds=None)
    assert worth(workspace, "small").filters["empty"].lift_in_words() == (
        "undefined, because the control sample is not reviewed yet"
    )
    say(workspace, ids[50:60], "same", kind="control")
    one = worth(workspace, "small").filters["empty"]
    assert one.minutes_in_words() == "undefined, because no answer's time is known"
    least = wilson(3, 3)[0] / wilson(0, 10)[1]
    assert one.lift == (None, pytest.approx(least), None)
    assert one.lift_in_words() == f"undefined, because none of 10 control pairs is a problem; at least {least:.1f} ×"
    say(workspace, [ids[3]], "same")
    found(workspace, "toxic", {ids[3]: 1.0})
    assert worth(workspace, "small").filters["toxic"].minutes_in_words() == "undefined, because no problem is confirmed (n=1)"


def test_an_unknown_dataset_or_one_not_screened_is_told(workspace, ids):
    with pytest.raises(ValueError, match="no dataset 'other'"):
        worth(workspace, "other")
    with pytest.raises(ValueError, match="not screened yet"):
        worth(workspace, "small")
    flag_pairs(workspace, {ids[0]: 1.0})
    with pytest.raises(ValueError, match="filter 'toxic' has not screened 'small': there is empty"):
        worth(workspace, "small").at("toxic", 0.5)


# ---- intervals


@pytest.mark.parametrize("confidence", [0.95, MOVED_CONFIDENCE])
def test_wilson_bands_are_what_statsmodels_says(confidence):
    hits, n = np.array([0, 1, 5, 29, 30, 700]), np.array([1, 7, 5, 30, 64, 2312])
    low, high = wilson_band(hits, n, confidence=confidence)
    expected = proportion_confint(hits, n, alpha=1 - confidence, method="wilson")
    np.testing.assert_allclose([low, high], expected, atol=1e-12)
    assert np.isnan(wilson_band([0], [0])).all()


@pytest.mark.parametrize(("hits", "n", "other", "m"), [(57, 80, 11, 66), (1, 9, 3, 40), (40, 44, 1, 200)])
def test_a_ratio_of_shares_is_what_scipy_says(hits, n, other, m):
    known = relative_risk(hits, n, other, m)
    limits = known.confidence_interval(0.95)
    assert ratio_of_shares(hits, n, other, m) == pytest.approx((known.relative_risk, limits.low, limits.high))


def test_a_ratio_of_shares_at_its_edges():
    assert ratio_of_shares(3, 5, 0, 0) == NO_RATIO
    none_of_them = ratio_of_shares(0, 10, 5, 50)
    assert none_of_them == (0.0, 0.0, pytest.approx(wilson(0, 10)[1] / wilson(5, 50)[0]))
    all_of_them = ratio_of_shares(3, 3, 5, 50)  # the log method would take three of three for certain
    assert all_of_them.low < relative_risk(3, 3, 5, 50).confidence_interval(0.95).low


def test_the_interval_of_a_ratio_of_sums_is_that_of_a_bootstrap():
    rng = np.random.default_rng(0)
    seconds, problems = rng.lognormal(3, 0.7, 400), rng.random(400) < 0.6
    again = rng.integers(0, 400, (4000, 400))
    low, high = np.percentile(seconds[again].sum(1) / problems[again].sum(1), [2.5, 97.5])
    ratio = ratio_of_sums(seconds, problems)
    assert ratio.value == pytest.approx(seconds.sum() / problems.sum())
    assert (ratio.low, ratio.high) == (pytest.approx(low, rel=0.02), pytest.approx(high, rel=0.02))
    assert ratio_of_sums([1.0], [0]) == NO_RATIO
    assert ratio_of_sums([2.0], [1]) == Ratio(2.0, None, None)


# ---- thresholds moved


def test_a_threshold_moved_in_memory_is_what_the_store_then_says(workspace, judged, clock):
    held = worth(workspace, "small")
    generation, findings = workspace.flags.generation, workspace.flags.findings("small")
    queue, reviewed = View(filter="empty"), {one.pair_id for one in workspace.verdicts.standing("small")}
    review.change_settings(workspace, "small", Settings(control_share=0, gold_share=0), "lead")
    for threshold in (0.25, 0.7, 0.85, 0.95, 1.0):
        looked_at = held.at("empty", threshold)
        clock.forward(minutes=1)
        move_thresholds(workspace, "small", {"empty": threshold}, "lead")
        after = worth(workspace, "small")
        assert after.filters["empty"] == looked_at
        assert after.control.rate == looked_at.control
        (current,) = [one for one in workspace.flags.current("small") if one.filter == "empty"]
        assert (current.threshold, current.flagged) == (threshold, looked_at.flagged)
        assert workspace.verdicts.progress("small").flagged == 100 - after.control.unflagged
        assert set(workspace.verdicts.suspects("small", order="random", filter="empty", subset=None)) == {
            pair_id for name, pair_id, score in findings if name == "empty" and score >= threshold
        }
        left = set(workspace.verdicts.suspects("small", order="random", filter="empty", subset=None)) - reviewed
        assert review.status(workspace, "zoe", "small", queue).left == len(left)
        assert workspace.flags.findings("small") == findings  # nothing found is lost
        assert workspace.flags.kept_below("small") == ({"empty": looked_at.below} if looked_at.below else {})
        assert workspace.flags.generation > generation
        generation = workspace.flags.generation


def test_a_move_tells_what_is_lost_and_what_is_found(workspace, judged):
    held = worth(workspace, "small")
    lost = held.move("empty", 0.8)  # lets go of 10-15
    assert (lost.raised, lost.pairs, lost.problems, lost.held) == (True, 6, Share(5, 6), 0)
    assert "Problems that would be lost: 5 of 6 reviewed" in lost.words()
    gained = held.move("empty", 0.2)  # adds 4-9, of which 5 is reviewed
    assert (gained.raised, gained.pairs, gained.problems) == (False, 6, Share(1, 1))
    assert held.move("empty", 0.4).words().startswith("2 pairs would be flagged in addition. None of them is reviewed")
    assert held.move("empty", 0.5).words() == "The same pairs are flagged as now."
    say(workspace, [judged[18]], "toxic")
    assert worth(workspace, "small").move("empty", 0.95).held == 1  # toxic flags 18 too


def test_the_curve_is_what_each_threshold_gives(workspace, judged):
    held = worth(workspace, "small")
    curve = held.curve("empty").set_index("threshold")
    for threshold in (0.0, 0.25, 0.5, 0.65, 0.9, 1.0):
        one, row = held.at("empty", threshold), curve.loc[threshold]
        assert (row["flagged"], row["reviewed"]) == (one.flagged, one.problems.n)
        expected = [one.problems.value, *one.problems.limits()] if one.problems.n else [math.nan] * 3
        np.testing.assert_allclose(row[["precision", "low", "high"]].astype(float), expected)


def test_thresholds_are_all_set_or_none(workspace, judged):
    for wrong in ({"toxic": 0.5, "empty": 1.5}, {"toxic": 0.5, "odd": 0.5}, {"toxic": 0.5, "empty": math.nan}):
        with pytest.raises(ValueError, match=r"expected 0 to 1|has not screened"):
            move_thresholds(workspace, "small", wrong, "lead")
    assert [one.threshold for one in workspace.flags.current("small")] == [0.5, 0.0]
    before = workspace.flags.generation
    move_thresholds(workspace, "small", {"empty": 0.5}, "lead")  # in force already
    assert workspace.flags.generation == before


# ---- proposals


def proposal(workspace, filter="empty"):
    return worth(workspace, "small").proposals[filter]


def test_flags_are_proposed_for_dropping_when_enough_were_reviewed_and_hardly_any_is_right(workspace, ids):
    flag_pairs(workspace, dict.fromkeys(ids[:40], 1.0))
    say(workspace, ids[:29], "empty")
    assert proposal(workspace) == ("empty", False, "29 of its flags reviewed, at least 30 are wanted.", None)
    say(workspace, ids[29:35], "vague")
    assert (proposal(workspace).drop, proposal(workspace).reason) == (True, "Precision 100% [90, 100], n=35, 40 pairs.")
    say(workspace, ids[35:40], "same")
    said = proposal(workspace)
    assert (said.drop, said.reason.split(":")[0]) == (False, "Precision 88% [74, 95], n=40")
    assert f"its lower limit {wilson(35, 40)[0]:.1%} is below 90%" in said.reason


def test_flags_that_score_below_all_that_was_reviewed_are_not_dropped_blindly(workspace, ids):
    flag_pairs(workspace, {pair_id: 1.0 if n < 40 else 0.3 for n, pair_id in enumerate(ids[:60])})
    say(workspace, ids[:40], "empty")
    said = proposal(workspace)
    assert not said.drop
    assert "20 of the 20 flags nobody reviewed score lower than every reviewed one" in said.reason


def test_a_higher_threshold_is_proposed_only_with_the_wider_interval(workspace, ids):
    flag_pairs(workspace, {pair_id: 0.9 if n < 75 else 0.4 for n, pair_id in enumerate(ids)})
    say(workspace, ids[:60], "empty")
    say(workspace, ids[75:90], "same")
    assert proposal(workspace).threshold is None  # 60 of 60: good enough for 95%, not for the best of ten
    assert wilson(60, 60)[0] > 0.9 > Share(60, 60).limits(MOVED_CONFIDENCE)[0]
    say(workspace, ids[60:75], "empty")
    said = proposal(workspace)
    assert (said.drop, said.threshold) == (False, min(GRID))
    assert "From 0.50 on it would do: Precision 100% [90, 100], n=75 (interval widened for 10 thresholds tried)" in said.reason
    move_thresholds(workspace, "small", {"empty": 0.5}, "lead")
    assert proposal(workspace).drop  # what was proposed holds once it is in force
    assert "interval widened" in proposal(workspace).reason


# ---- in the chart, from the command line, on the page


def test_the_chart_shows_precision_only_where_something_is_reviewed(workspace, judged):
    figure = charts.worth_of_thresholds(worth(workspace, "small").curve("empty"), now=0.5, looked_at=0.6)
    precision = next(one for one in figure.data if one.name == "precision")
    assert not pd.isna(pd.Series(precision.y)).any()
    assert max(precision.x) == 0.8  # pair 16; on 17, with the next higher score, nothing is decided
    assert figure.layout.shapes[0].x0 == 0.5


def test_the_command_reports_and_sets_a_threshold(workspace, judged):
    folder: Path = workspace.folder
    workspace.close()
    elephant = Elephant(folder)
    said = elephant("filters", "--worth", "small")
    assert "71% [36, 92], n=7, 1 undecided" in said
    assert "empty: review first. 7 of its flags reviewed, at least 30 are wanted." in said
    report = json.loads(elephant("filters", "--worth", "small", "--set", "empty.threshold=0.8", "--person", "eva", "--json"))
    (empty,) = [one for one in report["filters"] if one["filter"] == "empty"]
    assert (empty["threshold"], empty["flagged"], empty["kept_below"]) == (0.8, 4, 16)
    assert empty["proposal"]["drop"] is False
    assert report["control"]["unflagged"] == 90
    for arguments, says in [
        (["--set", "empty.threshold=0.8"], "expected together with --worth"),
        (["--worth", "small", "--set", "empty.threshold=high"], "--set empty.threshold=high: expected FILTER.threshold=VALUE"),
        (["--worth", "small", "--set", "empty.longest=1"], "expected FILTER.threshold=VALUE"),
        (["--worth", "small", "--set", "empty.threshold=2"], "the threshold 2.0 of empty: expected 0 to 1"),
        (["--worth", "small", "--set", "odd.threshold=0.2"], "filter 'odd' has not screened 'small'"),
        (["--worth", "other"], "no dataset 'other'"),
    ]:
        assert says in elephant("filters", *arguments, expect=2)


@pytest.fixture
def page(workspace, judged, monkeypatch):
    """The page on the judged dataset, with a third filter whose flags are all good."""
    found(workspace, "repetitive", dict.fromkeys(judged[61:97], 1.0), read_by="alt-profanity-check 1.9")
    say(workspace, judged[61:97], "repetitive")
    workspace.close()
    app = opened(workspace.folder, monkeypatch)
    app.go("filters", **{"filters-tab": "What they are worth"})
    yield app
    app.workspace.close()


def metrics(app: App) -> dict[str, str]:
    return {one.label: one.value for one in app.at.metric}


def test_a_threshold_is_tried_and_used_on_the_page(page):
    at, flags = page.at, page.workspace.flags
    assert at.table[0].value["precision"].iloc[0].replace("\\", "") == "71% [36, 92], n=7, 1 undecided"
    at.selectbox(key="worth-filter").set_value("empty").run()
    assert at.button(key="use-threshold").disabled
    assert (metrics(page)["Flagged pairs"], metrics(page)["Precision there"]) == ("10", "71%")
    at.slider[0].set_value(0.7).run()
    assert list(at.exception) == []
    assert metrics(page)["Flagged pairs"] == "6"
    assert "4 pairs would no longer be flagged. Problems that would be lost: 4 of 4 reviewed" in page.words().replace("\\", "")
    assert {one.filter: one.threshold for one in flags.current("small")}["empty"] == 0.5  # nothing is stored yet
    at.button(key="use-threshold").click().run()
    assert list(at.exception) == []
    assert {one.filter: (one.threshold, one.flagged) for one in flags.current("small")}["empty"] == (0.7, 6)
    assert "empty flags from 0.70 on now" in page.words().replace("\\", "")
    assert "6 pairs from 0.70 on" in at.table[0].value["flagged"].iloc[0].replace("\\", "")
    assert at.slider[0].value == 0.7
    ((person,),) = page.workspace.database.rows("SELECT person FROM threshold_events")
    assert person == "ana"


def test_accepted_proposals_become_the_default_of_the_release_policy(page):
    assert "Control sample" not in page.words()  # it is there: shown as numbers
    assert metrics(page)["Problems in the control sample"] == "25%"
    assert page.at.checkbox(key="accept-repetitive").value
    page.at.button(key="take-into-policy").click().run()
    assert "drops unreviewed pairs flagged by repetitive" in page.words().replace("\\", "")
    at = page.go("datasets", **{"datasets-tab": "Releases"})
    assert next(one for one in at.multiselect if "drop what these flag" in one.label).value == ["repetitive"]


def test_what_they_found_says_who_read_and_what_is_kept_below(page):
    page.go("filters", **{"filters-tab": "What they found"})
    said = page.words().replace("\\", "")
    assert "**empty**: the scores of 10 more pairs are below its threshold of 0.50: kept, not flagged" in said
    assert ":orange[:material/warning:] **repetitive**: read by alt-profanity-check 1.9" in said


def test_the_form_starts_at_the_threshold_in_force_and_names_are_text(page, clock):
    move_thresholds(page.workspace, "small", {"empty": 0.8}, "lead")
    at = page.go("filters", **{"filters-tab": "What they are"})
    assert at.number_input(key="empty.threshold").value == 0.8
    assert at.checkbox(key="empty.punctuation_too").value is False
