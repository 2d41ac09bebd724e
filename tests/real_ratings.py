"""Published ratings, imported once for all tests that ask for them: `pytest_plugins = ("tests.real_ratings",)`."""

from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from curation.ratings_import import Taken, import_ratings
from curation.workspace import Workspace

SCALE = ["No", "Unsure", "Yes"]  # of DICES-350


class Real(NamedTuple):
    """A workspace with the real ratings of a published study, and what was said when they were imported."""

    folder: Path
    taken: Taken


@pytest.fixture(scope="session")
def real_squality(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Real:
    """SQuALITY, imported; who changes the workspace works on a copy."""
    folder, file = tmp_path_factory.mktemp("real") / "workspace", data / "ratings" / "squality.csv.gz"
    with closing(Workspace(folder)) as opened:
        return Real(folder, import_ratings(opened, "squality", file, person="lead"))


@pytest.fixture(scope="session")
def real_dices(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Real:
    """DICES-350, imported; who changes the workspace works on a copy."""
    folder, files = tmp_path_factory.mktemp("real") / "workspace", data / "ratings"
    file, texts = files / "dices350.csv.gz", files / "dices350_items.jsonl.gz"
    with closing(Workspace(folder)) as opened:
        taken = import_ratings(opened, "dices", file, person="lead", scale=SCALE, texts=texts)
        return Real(folder, taken)
