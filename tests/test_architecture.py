"""The arrows of the house (DESIGN.md, section 2): what each file imports, read from its source."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

FLOORS = {
    "app": 5, "pages": 5, "curation.cli": 5, "curation.cli_studies": 5, "curation.cli_rewards": 5,
    "curation.cli_policies": 5, "curation.cli_alignment": 5, "curation.cli_outcomes": 5,
    "curation.cli_parts": 5,
    "curation.ui": 4, "curation.screening": 4, "curation.review": 4, "curation.release": 4, "curation.runs": 4,
    "curation.importing": 4, "curation.report": 4, "curation.studies": 4, "curation.exchange": 4, "curation.overview": 4,
    "curation.release_policy": 4, "curation.release_card": 4, "curation.screening_view": 4, "curation.meaning": 4,
    "curation.ablation": 4, "curation.worth": 4, "curation.worth_results": 4,
    "curation.rating": 4, "curation.study_items": 4, "curation.study_numbers": 4, "curation.study_disputes": 4,
    "curation.people": 4, "curation.ratings_import": 4, "curation.ratings_export": 4,
    "curation.released": 4, "curation.reward_models": 4, "curation.scoring": 4, "curation.reward_training": 4,
    "curation.benchmark": 4, "curation.benchmark_report": 4, "curation.pitfalls": 4, "curation.pitfalls_report": 4,
    "curation.proxies": 4, "curation.probing": 4, "curation.policies": 4, "curation.policy_training": 4,
    "curation.policy_view": 4, "curation.held_out": 4, "curation.alignment": 4, "curation.alignment_plan": 4,
    "curation.alignment_settings": 4, "curation.alignment_times": 4, "curation.outcomes": 4, "curation.outcomes_grid": 4,
    "curation.outcomes_curves": 4, "curation.outcomes_report": 4, "curation.outcomes_wins": 4, "curation.run_views": 4,
    "curation.workspace": 3, "curation.board": 3,
    "curation.store": 2, "curation.sources": 2, "curation.forms": 2, "curation.filters": 2, "curation.interchange": 2,
    "curation.release_files": 2, "curation.outputs": 2, "curation.ratings_files": 2, "curation.ratings_rows": 1,
    "curation.ratings_tidy": 2, "curation.ratings_argilla": 2, "curation.ratings_fastchat": 2,
    "curation.ratings_label_studio": 2, "curation.ratings_mt_bench": 2,
    "curation.probes": 2, "curation.favourites": 2,
    "curation.pairs": 1, "curation.study_design": 1, "curation.readings": 1, "curation.toxicity": 1,
    "curation.look": 1, "curation.plain": 1, "curation.diff": 1,
    "curation.charts": 1, "curation.charts_rewards": 1, "curation.charts_alignment": 1,
    "curation.tables": 1, "curation.stats": 1, "training": 1,
}  # fmt: skip
BESIDE = {  # the first is a part of the second, or rests on what it says of texts and models
    ("curation.sources", "curation.forms"), ("curation.workspace", "curation.board"),
    ("curation.toxicity", "training"), ("curation.ratings_rows", "curation.pairs"),
    ("curation.ratings_files", "curation.ratings_argilla"), ("curation.ratings_files", "curation.ratings_fastchat"),
    ("curation.ratings_files", "curation.ratings_label_studio"), ("curation.ratings_files", "curation.ratings_mt_bench"),
    ("curation.ratings_files", "curation.ratings_tidy"),
    ("curation.charts", "curation.stats"),
    ("curation.plain", "curation.diff"), ("curation.plain", "curation.pairs"),
    ("curation.cli", "curation.cli_parts"), ("curation.cli", "curation.cli_studies"),
    ("curation.cli_studies", "curation.cli_parts"), ("curation.cli", "curation.cli_rewards"),
    ("curation.cli_rewards", "curation.cli_parts"), ("curation.charts_rewards", "curation.charts"),
    ("curation.charts_rewards", "curation.stats"), ("curation.charts_alignment", "curation.charts"),
    ("curation.charts_alignment", "curation.stats"), ("curation.cli", "curation.cli_policies"),
    ("curation.cli_policies", "curation.cli_parts"), ("curation.cli_policies", "curation.cli_rewards"),
    ("curation.cli", "curation.cli_alignment"), ("curation.cli_alignment", "curation.cli_parts"),
    ("curation.cli_rewards", "curation.cli_alignment"), ("curation.cli", "curation.cli_outcomes"),
    ("curation.cli_outcomes", "curation.cli_parts"), ("curation.cli_outcomes", "curation.cli_rewards"),
}  # fmt: skip
OURS = ("app", "pages", "curation", "training")


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {
    module_of(file): file
    for place in ("app.py", "pages/*.py", "curation/**/*.py", "training/**/*.py")
    for file in sorted(ROOT.glob(place))
}


def imported_by(file: Path) -> Iterator[str]:
    """Every module a file imports, anywhere in it; of `from package import module` the module."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} line {node.lineno} has a relative import"
            for name in node.names:
                inside = f"{node.module}.{name.name}"
                yield inside if inside in FILES else str(node.module)


def room_of(module: str) -> str:
    """The room of a module: the longest name in FLOORS that it begins with."""
    known = [room for room in FLOORS if module == room or module.startswith(room + ".")]
    assert known, f"{module} stands on no floor: give it one in DESIGN.md, section 2, and here"
    return max(known, key=len)


def arrows() -> list[tuple[str, str]]:
    """Every import of one of our modules by another."""
    return [
        (module, target)
        for module, file in FILES.items()
        for target in imported_by(file)
        if target.split(".")[0] in OURS and target not in ("curation", "training")
    ]


def foreign() -> list[tuple[str, str]]:
    """Every import of a package that is not ours: our module, the package's name."""
    tops = {(module, target.split(".")[0]) for module, file in FILES.items() for target in imported_by(file)}
    return sorted((module, top) for module, top in tops if top not in OURS)


def test_every_file_stands_on_a_floor_and_the_walk_sees_them_all():
    packages = {"curation", "training", "pages"}
    assert {module: room_of(module) for module in FILES if module not in packages}.keys() >= {
        "curation.pairs", "curation.store.database", "curation.filters.registry", "training.engine",
    }  # fmt: skip
    assert ("curation.store.pairs", "curation.pairs") in arrows()
    assert ("curation.store.database", "duckdb") in foreign()


def test_arrows_point_down():
    wrong = []
    for module, target in arrows():
        here, there = room_of(module), room_of(target)
        down = FLOORS[there] < FLOORS[here]
        beside = here == there or FLOORS[here] == FLOORS[there] == 4 or (here, there) in BESIDE
        if not (down or beside):
            wrong.append(f"{module} (floor {FLOORS[here]}) imports {target} (floor {FLOORS[there]})")
    assert wrong == []


def test_training_knows_nothing_of_curation():
    assert [arrow for arrow in arrows() if arrow[0].startswith("training") and not arrow[1].startswith("training")] == []


def test_only_the_pages_know_streamlit():
    users = {module for module, package in foreign() if package == "streamlit"}
    assert {module for module in users if module not in ("app", "curation.ui") and not module.startswith("pages.")} == set()


def test_only_the_store_knows_duckdb():
    users = {module for module, package in foreign() if package == "duckdb"}
    assert {module for module in users if not module.startswith("curation.store.")} == set()


def test_pages_ask_show_and_save_but_do_not_calculate():
    kept_out = {"duckdb", "torch", "numpy", "pandas", "scipy", "sklearn", "pyarrow"}
    assert [(module, used) for module, used in foreign() if module.split(".")[0] in ("app", "pages") and used in kept_out] == []


@pytest.mark.parametrize("module", ["curation.cli", "curation.ui", "curation.runs", "training.run", "training.engine"])
def test_importing_brings_in_nothing_heavy(module):
    if module not in FILES:
        pytest.skip(f"there is no {module} yet")
    code = f"import sys, {module}; print(sorted({{'torch', 'transformers', 'datasets', 'scipy'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
