"""Agreement of people: every figure beside another implementation on the raw files, and studies whose answer is known."""

import csv
import gzip
import itertools
import json
import subprocess
import sys
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import krippendorff
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

from curation import people, ratings_import, study_disputes
from curation.study_design import Aspect, Marks
from curation.workspace import Workspace
from tests.conftest import ROOT
from tests.raters import answer_all, by_text, id_of, item, set_up

pytest_plugins = ("tests.real_ratings",)
pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # of crowd-kit 1.4

ASPECTS = ("correctness", "overall", "selection")  # of SQuALITY
SCALE = ["No", "Unsure", "Yes"]  # of DICES-350
TONE = (Aspect(name="tone", points=5),)


def frame(path: Path) -> pd.DataFrame:
    """A table of the data, its values as numbers, read without any of our code."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        found = pd.DataFrame(list(csv.DictReader(file)))
    found["value"] = found["value"].map(lambda said: SCALE.index(said) + 1 if said in SCALE else float(said)).astype(float)
    return found


def take(workspace: Workspace, study: str, records: list[dict[str, object]]) -> str:
    """Import records as a study."""
    file = workspace.folder / f"{study}.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in records))
    ratings_import.import_ratings(workspace, study, file, person="lead")
    return study


# ---- the same figures by other hands


def percent(table: pd.DataFrame) -> float:
    """The share of agreeing pairs of raters by unit, averaged over units with two or more."""
    shares = []
    for _, row in table.iterrows():
        pairs = list(itertools.combinations(row.dropna(), 2))
        if pairs:
            shares.append(sum(one == other for one, other in pairs) / len(pairs))
    return float(np.mean(shares))


def leave_one_out(table: pd.DataFrame, correlation) -> dict[str, tuple[float | None, int]]:
    """Each rater's correlation with the mean of the others, and on how many units."""
    found = {}
    for rater in table.columns:
        others = table.drop(columns=rater).mean(axis=1)
        both = table[rater].notna() & others.notna()
        defined = table.loc[both, rater].nunique() > 1
        value = float(correlation(table.loc[both, rater], others[both])[0]) if defined else None
        found[rater] = value, int(both.sum())
    return found


def cohen(table: pd.DataFrame, weights: str | None) -> float:
    labels = np.arange(table.min().min(), table.max().max() + 1)
    kappas = []
    for one, other in itertools.combinations(table.columns, 2):
        both = table[[one, other]].dropna()
        if len(both):
            kappas.append(cohen_kappa_score(both[one], both[other], weights=weights, labels=labels))
    return float(np.mean(kappas))


def measured(table: pd.DataFrame, *, pairs: bool = True) -> dict[str, float]:
    """Every measure of a table of units and raters."""
    found = {
        f"Krippendorff alpha, {level}": krippendorff.alpha(table.to_numpy().T, level_of_measurement=level)
        for level in ("ordinal", "interval", "nominal")
    }
    found["Percent agreement"] = percent(table)
    complete = np.array([row.dropna().tolist() for _, row in table.iterrows()])  # as many of each unit, whoever they are
    found["Fleiss kappa"] = fleiss_kappa(aggregate_raters(complete)[0])
    if pairs:
        found["Cohen kappa"] = cohen(table, None)
        found["Cohen kappa, linear weights"] = cohen(table, "linear")
        found["Cohen kappa, quadratic weights"] = cohen(table, "quadratic")
    for name, correlation in (("Pearson", pearsonr), ("Spearman", spearmanr)):
        each = leave_one_out(table, correlation)
        found[f"Leave-one-out {name}"] = float(np.mean([value for value, _ in each.values() if value is not None]))
    return found


@pytest.fixture(scope="module")
def squality_report(real_squality):
    with closing(Workspace(real_squality.folder)) as workspace:
        return people.report(workspace, "squality")


@pytest.fixture(scope="module")
def squality(data) -> pd.DataFrame:
    return frame(data / "ratings" / "squality.csv.gz")


@pytest.fixture(scope="module")
def dices_report(real_dices):
    with closing(Workspace(real_dices.folder)) as workspace:
        return people.report(workspace, "dices")


@pytest.fixture(scope="module")
def dices(data) -> pd.DataFrame:
    return frame(data / "ratings" / "dices350.csv.gz").pivot(index="item_id", columns="rater", values="value")


def tabled(ratings: pd.DataFrame, aspect: str) -> pd.DataFrame:
    """Responses by raters."""
    return ratings[ratings.aspect == aspect].pivot(index=["item_id", "generator"], columns="rater", values="value")


def check_measures(found: dict[str, dict], expected: dict[str, float], units: int) -> None:
    assert {name: one["value"] for name, one in found.items()} == pytest.approx(expected, abs=1e-9)
    assert next(iter(found)) == "Krippendorff alpha, ordinal"
    for one in found.values():
        assert one["low"] < one["value"] < one["high"]
        assert (one["n"], one["of"]) == (units, "responses")


def check_raters(found: list[dict], table: pd.DataFrame) -> None:
    """Each rater beside the rest, in the order in which they agree least."""
    each = leave_one_out(table, pearsonr)
    assert {one["rater"] for one in found} == set(table.columns)
    assert [one["same_as_others"]["value"] for one in found] == sorted(one["same_as_others"]["value"] for one in found)
    for one in found:
        own, rest = table[one["rater"]], table.drop(columns=one["rater"])
        both = own.notna() & rest.notna().any(axis=1)
        same = rest[both].eq(own[both], axis=0).sum(axis=1) / rest[both].notna().sum(axis=1)
        assert one["same_as_others"]["value"] == pytest.approx(same.mean(), abs=1e-9)
        assert one["same_as_others"]["n"] == both.sum()
        assert one["mean_difference"]["value"] == pytest.approx((own[both] - rest[both].mean(axis=1)).mean(), abs=1e-9)
        assert (one["correlation"]["value"], one["correlation"]["n"]) == pytest.approx(each[one["rater"]], abs=1e-9)
        assert one["n"] == own.notna().sum()


@pytest.mark.parametrize("aspect", ASPECTS)
def test_every_measure_of_squality_is_that_of_other_implementations_on_the_raw_file(squality_report, squality, aspect):
    table, found = tabled(squality, aspect), squality_report["questions"][aspect]
    assert (found["units"], found["raters"], found["values"]) == (300, 4, 900) == (*table.shape, table.notna().sum().sum())
    check_measures(found["measures"], measured(table), 300)
    check_raters(found["by_rater"], table)
    assert found["subsets"] == {}


def test_the_mean_of_every_generator_of_squality_is_that_of_the_raw_file(squality_report, squality):
    means = squality.groupby(["aspect", "generator"])["value"].mean()
    found = squality_report["generators"]["means"]
    assert {(aspect, name): one["value"] for aspect, by in found.items() for name, one in by.items()} == pytest.approx(
        means.to_dict(), abs=1e-9
    )
    assert {(one["n"], one["of"]) for by in found.values() for one in by.values()} == {(100, "prompts")}
    assert squality_report["generators"]["bradley_terry"] == {}


def test_the_interval_of_a_generators_mean_is_that_of_whole_prompts_redrawn(squality_report, squality):
    draw = np.random.default_rng(7)
    rated = squality[(squality.aspect == "overall") & (squality.generator == "bart")]
    by_prompt = rated.groupby("item_id")["value"].agg(["sum", "count"]).to_numpy()
    redrawn = by_prompt[draw.integers(len(by_prompt), size=(4000, len(by_prompt)))].sum(axis=1)
    low, high = np.quantile(redrawn[:, 0] / redrawn[:, 1], [0.025, 0.975])
    found = squality_report["generators"]["means"]["overall"]["bart"]
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=0.3)
    assert high - low > 4


def test_every_measure_of_dices_is_that_of_other_implementations_on_the_raw_file(dices_report, dices):
    (found,) = dices_report["questions"].values()
    assert (found["units"], found["raters"], found["values"]) == (350, 123, 43050)
    check_measures(found["measures"], measured(dices, pairs=False), 350)  # 7,503 pairs of raters would say little
    check_raters(found["by_rater"], dices)


# ---- comparisons


def played(seed: int, *, prompts: int = 40, ties: bool = True) -> list[dict[str, object]]:
    """Comparisons of four generators, each prompt with two of their pairs by three raters; some are ties, good or bad."""
    draw, strengths = np.random.default_rng(seed), {"a": 0.9, "b": 0.2, "c": -0.3, "d": -0.8}
    rows: list[dict[str, object]] = []
    for n in range(prompts):
        for one, other in draw.permutation(list(itertools.combinations("abcd", 2)))[:2]:
            for rater in ("ana", "ben", "cy"):
                odds = 1 / (1 + np.exp(strengths[other] - strengths[one]))
                choice = "left" if draw.random() < odds else "right"
                choice = str(draw.choice(["tie", "both bad"])) if ties and draw.random() < 0.15 else choice
                sides = {
                    "left": f"{n} {one}",
                    "right": f"{n} {other}",
                    "left_generator": str(one),
                    "right_generator": str(other),
                }
                rows.append({"prompt": f"q{n}", "rater": rater, "choice": choice, **sides})
    return rows


OTHER = {"left": "right", "right": "left"}


def turned(row: dict[str, object]) -> dict[str, object]:
    """The same comparison as somebody saw it for whom the other response stood left."""
    swapped = {
        "left": row["right"], "right": row["left"], "left_generator": row["right_generator"],
        "right_generator": row["left_generator"],
    }  # fmt: skip
    if "strength" in row:
        return {**row, **swapped, "strength": -int(str(row["strength"]))}
    return {**row, **swapped, "choice": OTHER.get(str(row["choice"]), row["choice"])}


def test_bradley_terry_strengths_are_those_of_a_binomial_model_in_statsmodels(workspace):
    rows = played(1)
    take(workspace, "one", rows)
    names = "abcd"
    won = np.array([{"left": 1.0, "right": 0.0}.get(str(row["choice"]), 0.5) for row in rows])
    contrast = np.array([[(row["left_generator"] == x) - (row["right_generator"] == x) for x in names] for row in rows], float)
    fitted = sm.GLM(won, contrast[:, 1:], family=sm.families.Binomial()).fit(tol=1e-12)
    strengths = np.array([0.0, *fitted.params])
    found = people.report(workspace, "one")["generators"]
    assert [found["bradley_terry"][name]["value"] for name in names] == pytest.approx(strengths - strengths.mean(), abs=1e-6)
    rates = {
        name: np.mean(
            [
                point if row["left_generator"] == name else 1 - point
                for row, point in zip(rows, won, strict=True)
                if name in (row["left_generator"], row["right_generator"])
            ]
        )
        for name in names
    }
    assert {name: one["value"] for name, one in found["win_rates"].items()} == pytest.approx(rates, abs=1e-9)
    wins = np.zeros((4, 4))
    for row, point in zip(rows, won, strict=True):
        left, right = names.index(str(row["left_generator"])), names.index(str(row["right_generator"]))
        wins[left, right] += point
        wins[right, left] += 1 - point
    assert found["win_matrix"] == {"names": list(names), "wins": wins.tolist(), "counts": (wins + wins.T).tolist()}


def test_agreement_on_comparisons_is_that_of_other_implementations(workspace):
    rows = played(2)
    take(workspace, "one", rows)
    codes = {"left": 1, "right": 2, "tie": 3, "both bad": 4}
    both_ways = [
        {"unit": f"{one['prompt']}: {one['left']}, {one['right']}", "rater": one["rater"], "value": codes[str(one["choice"])]}
        for row in rows
        for one in (row, turned(row))
    ]
    table = pd.DataFrame(both_ways).pivot(index="unit", columns="rater", values="value").astype(float)
    found = {name: one["value"] for name, one in people.report(workspace, "one")["questions"]["comparison"]["measures"].items()}
    expected = measured(table)
    assert set(found) == {"Krippendorff alpha, nominal", "Percent agreement", "Fleiss kappa", "Cohen kappa"}
    assert found == pytest.approx({name: expected[name] for name in found}, abs=1e-9)


def numbers(value: object, name: str = "") -> dict[str, object]:
    """Everything a report holds under a name for its place, but the study it is of."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not parts:
        return {} if name == "/study" else {name: value if isinstance(value, float) else repr(value)}
    return {key: one for place, part in parts for key, one in numbers(part, f"{name}/{place}").items()}


@pytest.mark.parametrize("strengths", [False, True])
def test_which_side_stood_left_moves_no_figure(workspace, strengths):
    draw = np.random.default_rng(3)
    rows = played(3, prompts=15)
    if strengths:
        points = {"left": (-3, 0), "right": (1, 4)}
        rows = [
            {**row, "choice": "", "strength": int(draw.integers(*points[str(row["choice"])])) if row["choice"] in points else 0}
            for row in rows
        ]
    other = [turned(row) if draw.random() < 0.5 else row for row in rows]
    assert sum(one != two for one, two in zip(rows, other, strict=True)) > 20
    reports = [people.report(workspace, take(workspace, name, given)) for name, given in (("one", rows), ("two", other))]
    assert numbers(reports[0]) == pytest.approx(numbers(reports[1]), abs=1e-9)
    assert len(numbers(reports[0])) > 60
    assert reports[0]["questions"]["comparison"]["kind"] == ("strength" if strengths else "choice")


# ---- what is redrawn together


def rated_alike(*, prompts: int = 30, copies: int = 3, apart: str = "") -> list[dict[str, object]]:
    """Responses of which those to one prompt got the same values; `apart` gives each a prompt ("prompt") or item of its own."""
    draw = np.random.default_rng(5)
    rows: list[dict[str, object]] = []
    for n in range(prompts):
        true = draw.integers(1, 6)
        values = {rater: int(np.clip(true + draw.integers(-1, 2), 1, 5)) for rater in ("ana", "ben", "cy")}
        for copy in range(copies):
            about = {"prompt": f"q{n}"}
            if apart == "prompt":
                about = {"prompt": f"q{n} {copy}"}
            if apart == "item":
                about = {"item": f"i{n} {copy}", "prompt": f"q{n}"}
            for rater, value in values.items():
                rows.append({**about, "response": f"{n} {copy}", "generator": "m", "rater": rater, "value": value})
    return rows


def test_responses_to_one_prompt_are_redrawn_together_whichever_items_they_are_of(workspace):
    studies = {
        name or "together": take(workspace, name or "together", rated_alike(apart=name)) for name in ("", "prompt", "item")
    }
    together, apart, items = (people.report(workspace, study) for study in studies)

    def widths(report: dict) -> list[float]:
        measures = report["questions"]["overall"]["measures"]
        figures = [*measures.values(), report["generators"]["means"]["overall"]["m"]]
        return [one["high"] - one["low"] for one in figures]

    def values(report: dict) -> list[float]:
        return [one["value"] for one in report["questions"]["overall"]["measures"].values()]

    assert values(together) == pytest.approx(values(apart), abs=1e-9)
    for whole, single in zip(widths(together), widths(apart), strict=True):
        assert whole / single == pytest.approx(np.sqrt(3), rel=0.2)  # 30 prompts are 30 units, not 90
    assert together["questions"]["overall"]["units"] == items["questions"]["overall"]["units"] == 90
    assert widths(items) == pytest.approx(widths(together), rel=0.15)
    assert together["generators"]["means"]["overall"]["m"]["n"] == items["generators"]["means"]["overall"]["m"]["n"] == 30


def test_items_that_came_without_prompts_are_each_their_own(workspace):
    rows = [
        {"item": f"i{n}", "response": "yes", "rater": who, "value": 1 + (n + k) % 5}
        for n in range(9)
        for k, who in enumerate("ab")
    ]
    take(workspace, "one", rows)
    table = people.tables(workspace, "one")["overall"]
    assert len(set(table.prompts)) == len(table.units) == 9
    assert people.main_measure(table).low is not None


def test_the_measure_of_a_subset_is_that_of_its_items_alone(workspace):
    draw = np.random.default_rng(9)
    rows = [
        {"item": f"i{n}", "subset": subset, "rater": who, "value": int(draw.integers(1, 6)) if subset == "hard" else 1 + n % 5}
        for n, subset in enumerate(["easy", "hard"] * 12)
        for who in ("ana", "ben", "cy")
    ]
    take(workspace, "one", rows)
    found = people.report(workspace, "one")["questions"]["overall"]["subsets"]
    assert list(found) == ["easy", "hard"]
    for subset, one in found.items():
        part = pd.DataFrame([row for row in rows if row["subset"] == subset])
        table = part.pivot(index="item", columns="rater", values="value").to_numpy(float)
        assert one["value"] == pytest.approx(krippendorff.alpha(table.T, level_of_measurement="ordinal"), abs=1e-9)
        assert one["n"] == 12
    assert found["easy"]["value"] == 1
    assert found["hard"]["value"] < 0.5


# ---- contradictions


def test_contradictions_are_found_exactly_where_they_were_planted(workspace):
    set_up(workspace, [item(n) for n in range(8)], protocol="both", aspects=(*TONE, Aspect(name="truth", points=5)))
    planted = {("ana", 2), ("ben", 5), ("ben", 0)}
    even = {("ana", 3): "tie", ("cy", 6): "both bad"}
    for person in ("ana", "ben", "cy"):
        values: dict[str, dict[str, int]] = {}
        better = {}
        for n in range(8):
            a, b = f"answer {n} of a", f"answer {n} of b"
            values |= {a: {"tone": 5, "truth": 3}, b: {"tone": 1, "truth": 4}}  # 4 and 2.5: a is rated higher
            better[f"question {n}"] = even.get((person, n)) or (b if (person, n) in planted else a)
        if person == "cy":
            values["answer 7 of b"] = {"tone": 5, "truth": 3}  # rated the same as a, whatever is preferred
        answer_all(workspace, "one", person, by_text(values, better))
    found = people.side_by_side(workspace, "one")
    asked = {one: workspace.studies.content(one).prompt[0].content for one in workspace.studies.items("one")}
    assert {(one.rater, int(asked[one.item_id].split()[-1])) for one in found.against} == planted
    for one in found.against:
        assert workspace.studies.content(one.item_id).texts[one.preferred].endswith("of b")
        assert (one.preferred_mean, one.other_mean) == (2.5, 4.0)
    assert (found.same, len(found.against), found.even) == (24 - 3 - 3, 3, 3)
    share = people.going_against(found)
    assert (share.value, share.n, share.of) == (
        pytest.approx(3 / 21),
        8,
        "prompts",
    )  # raters of one go together
    assert share.low < 3 / 21 < share.high
    expected = {"same": 18, "against": 3, "even": 3, "share_against": share.record()}
    assert people.report(workspace, "one")["ratings_and_comparisons"] == expected


def test_ratings_of_one_rater_never_contradict_comparisons_of_another(workspace):
    one = {"prompt": "Why?", "rater": "ana"}
    take(workspace, "one", [{**one, "response": "Because.", "value": 5}, {**one, "response": "No.", "value": 1}])
    take(workspace, "one", [{"prompt": "Why?", "left": "Because.", "right": "No.", "rater": "ben", "choice": "right"}])
    assert people.side_by_side(workspace, "one") == (0, [], 0, ())
    take(workspace, "one", [{"prompt": "Why?", "left": "Because.", "right": "No.", "rater": "ana", "choice": "right"}])
    assert len(people.side_by_side(workspace, "one").against) == 1


# ---- labels


VALUES = {  # by item: what ana, ben, cy and dan gave the response
    0: (5, 5, 5, 1), 1: (2, 2, 4, 1), 2: (3, 3, 4, 4), 3: (1, 1, 1, 2), 4: (4, 4, 4, 5), 5: (2, 2, 2, 1),
    6: (5, 5, 5, 3), 7: (1, 1, 1, 4),
}  # fmt: skip


def labelled(workspace: Workspace) -> dict[str, dict]:
    """A study of these values; returns the labels by item."""
    people_in = ("ana", "ben", "cy", "dan")
    take(
        workspace, "one",
        [
            {"item": f"i{n}", "response": f"answer {n}", "generator": "m", "rater": who, "value": value}
            for n, given in VALUES.items()
            for who, value in zip(people_in, given, strict=True)
        ],
    )  # fmt: skip
    return {one["name"]: one for one in people.labels(workspace, "one")}


def test_labels_are_the_majority_where_there_is_one_the_mean_and_what_dawid_skene_holds(workspace):
    from crowdkit.aggregation import DawidSkene

    found = labelled(workspace)
    assert [found[f"i{n}"]["majority"] for n in VALUES] == [5, 2, None, 1, 4, 2, 5, 1]  # two against two is no majority
    assert [found[f"i{n}"]["mean"] for n in VALUES] == [sum(given) / 4 for given in VALUES.values()]
    rows = [{"task": n, "worker": k, "label": value} for n, given in VALUES.items() for k, value in enumerate(given)]
    probable = DawidSkene().fit_predict_proba(pd.DataFrame(rows))
    assert [found[f"i{n}"]["dawid_skene"] for n in VALUES] == probable.idxmax(axis=1).loc[list(VALUES)].tolist()
    assert [found[f"i{n}"]["dawid_skene_probability"] for n in VALUES] == pytest.approx(
        probable.max(axis=1).loc[list(VALUES)].tolist(), abs=1e-9
    )
    assert [one["raters"] for one in found.values()] == [4] * 8
    assert {one["adjudicated"] for one in found.values()} == {None}
    assert {tuple(one["generators"]) for one in found.values()} == {("m",)}


def test_without_crowd_kit_labels_have_no_dawid_skene_and_everything_else(workspace):
    found = labelled(workspace)
    workspace.close()
    script = (
        "import json, sys\n"
        "sys.modules['crowdkit'] = None\n"  # as where it is not installed
        "from pathlib import Path\n"
        "from curation import people\n"
        "from curation.stats import consensus\n"
        "from curation.workspace import Workspace\n"
        "import numpy as np\n"
        "opened = Workspace(Path(sys.argv[1]))\n"
        "try:\n"
        "    consensus.dawid_skene(np.ones((2, 2)))\n"
        "except consensus.NotInstalled as missing:\n"
        "    print(json.dumps([str(missing), people.labels(opened, 'one')]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(workspace.folder)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    sentence, labels = json.loads(done.stdout)
    assert sentence == "Dawid-Skene needs crowd-kit, which is not installed: pip install 'elephant-room[consensus]'"
    without = {"dawid_skene": None, "dawid_skene_probability": None}
    assert labels == [one | without for one in found.values()]


def test_what_was_adjudicated_stands_beside_what_raters_hold_and_never_in_its_place(workspace, clock):
    set_up(workspace, [item(n) for n in range(3)], protocol="both", aspects=TONE)
    given = {"ana": (5, 1), "ben": (5, 2), "cy": (1, 5)}
    for person, (a, b) in given.items():
        values = {f"answer {n} of {who}": value for n in range(3) for who, value in (("a", a), ("b", b))}
        better = {f"question {n}": f"answer {n} of {'a' if a > b else 'b'}" for n in range(3)}
        answer_all(workspace, "one", person, by_text(values, better))
    before = people.labels(workspace, "one")
    assert {one["adjudicated"] for one in before} == {None}
    report = people.report(workspace, "one")
    asked = {workspace.studies.content(one).prompt[0].content: one for one in workspace.studies.items("one")}
    a, b = id_of("question 1", "answer 1 of a"), id_of("question 1", "answer 1 of b")
    marks = Marks(((a, "tone", 2.0), (b, "tone", 3.0)), ((b, a, "left", None),))  # whichever side is named first: b is better
    assert study_disputes.settle(workspace, "one", asked["question 1"], marks, "lead")
    after = people.labels(workspace, "one")
    assert [one | {"adjudicated": None} for one in after] == before
    told = {(one["item"], one["aspect"], one["response"]): one for one in after if one["adjudicated"] is not None}
    assert {key[0] for key in told} == {asked["question 1"]}
    assert told[asked["question 1"], "tone", a]["adjudicated"] == 2
    assert told[asked["question 1"], "tone", b]["adjudicated"] == 3
    first = min(a, b)
    compared = told[asked["question 1"], "comparison", first]
    assert (compared["majority"], compared["adjudicated"]) == (("first", "second") if first == a else ("second", "first"))
    assert people.report(workspace, "one") == report  # agreement is of raters, not of who settles
    asked_again = Marks(((a, "tone", 4.0), (b, "tone", 3.0)), ((a, b, "tie", None),))
    clock.forward(minutes=1)
    standing = workspace.studies.settlements("one")[asked["question 1"]]
    assert study_disputes.settle(
        workspace, "one", asked["question 1"], asked_again, "lead", instead_of=standing.settlement_id
    )  # fmt: skip
    now = {
        (one["aspect"], one["response"]): one["adjudicated"] for one in people.labels(workspace, "one") if one["adjudicated"]
    }
    assert now == {("tone", a): 4, ("tone", b): 3, ("comparison", first): "tie"}


# ---- what does not count, and what is not defined


def test_gold_attention_and_warm_up_items_are_in_no_figure(workspace):
    known = {"better": "a"}
    kinds = ("gold", "attention", "warm-up")
    rows = [item(n) for n in range(6)] + [item(20 + n, kind=kind, expected=known) for n, kind in enumerate(kinds)]
    set_up(workspace, rows, protocol="both", aspects=TONE, gold_share=0.5)

    def says(card, question):
        if card.item.kind != "item":
            return 1
        return 1 + (int(card.prompt[0].content.split()[-1]) + len(card.claim.person)) % 4

    for person in ("ana", "ben", "cynthia"):
        assert answer_all(workspace, "one", person, says) >= 8
    assert {one.kind for one in workspace.answers.standing("one")} == {"item", "gold", "attention", "warm-up"}
    plain = [item_id for item_id, one in workspace.studies.items("one").items() if one.kind == "item"]
    found = people.tables(workspace, "one")
    assert {unit.item_id for table in found.values() for unit in table.units} == set(plain)
    assert {name: table.values.shape for name, table in found.items()} == {"tone": (12, 3), "comparison": (6, 3)}
    assert {one["item"] for one in people.labels(workspace, "one")} == set(plain)
    matrix = people.generators(workspace, "one").matrix
    assert matrix.counts.sum() == 2 * 18
    both = people.side_by_side(workspace, "one")
    assert both.same + len(both.against) + both.even == 18
    checks = people.tables(workspace, "one", kinds=kinds)
    assert {unit.item_id for unit in checks["tone"].units} == set(workspace.studies.items("one")) - set(plain)


def test_whatever_is_undefined_says_why_and_is_never_a_number(workspace):
    alone = [{"item": f"i{n}", "rater": "ana", "value": n % 5} for n in range(5)]
    same = [{"item": f"i{n}", "rater": who, "value": 3} for n in range(5) for who in ("ana", "ben")]
    won = [{"prompt": f"q{n}", "left": f"{n} a", "right": f"{n} b", "left_generator": "a", "right_generator": "b",
            "rater": "ana", "choice": "left"} for n in range(5)]  # fmt: skip
    reports = {
        name: people.report(workspace, take(workspace, name, rows))
        for name, rows in (("alone", alone), ("same", same), ("won", won))
    }
    measures = reports["alone"]["questions"]["overall"]["measures"]
    assert {(one["value"], one["undefined"]) for one in measures.values()} == {(None, "no item was rated by two raters")}
    alphas = [one for name, one in reports["same"]["questions"]["overall"]["measures"].items() if "alpha" in name]
    assert {(one["value"], one["undefined"]) for one in alphas} == {(None, "every rater gave the same value everywhere")}
    strengths = reports["won"]["generators"]["bradley_terry"]
    (why,) = {(one["value"], one["undefined"]) for one in strengths.values()}
    assert why in ((None, "a never lost to the others"), (None, "b never won against the others"))
    text = json.dumps(reports, allow_nan=False)  # raises for NaN
    figures = defaultdict(list)

    def collect(value: object) -> None:
        if isinstance(value, dict):
            if {"value", "n", "of"} <= value.keys():
                figures[value["value"] is None].append(value)
            for one in value.values():
                collect(one)
        elif isinstance(value, list):
            for one in value:
                collect(one)

    collect(json.loads(text))
    assert len(figures[True]) > 10
    assert all(one["undefined"] and "low" not in one for one in figures[True])
    assert all({"low", "high"} <= one.keys() or one["undefined"] for one in figures[False])


def test_a_study_without_answers_has_an_empty_report(workspace):
    set_up(workspace, [item(0)])
    report = people.report(workspace, "one")
    assert (report["questions"], report["generators"]["means"], report["generators"]["win_matrix"]) == ({}, {}, None)
    assert people.labels(workspace, "one") == []
    with pytest.raises(ValueError, match="no study 'two': there is one"):
        people.report(workspace, "two")
