"""Search by meaning: the nearest pairs to a text or a pair, against cosines worked out anew."""

import numpy as np
import pytest

from curation import meaning, runs
from curation.workspace import Workspace
from tests.conftest import done_here, hh, import_rows
from training import engine
from training.embeddings import Embedder, asked

ROWS = [
    hh("How do I cook rice?", "Boil it in water.", "No idea."),
    hh("Tell me how to prepare rice.", "Simmer it in water for a while.", "I do not know."),
    hh("Tell me how to prepare rice.", "I do not know.", "Simmer it in water for a while."),  # the same, turned round
    hh("Which planet is the largest?", "Jupiter.", "Mars."),
    hh("Who wrote Faust?", "Goethe did.", "A wizard."),
]


def screen(workspace, filter):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "start", done_here)
        run = runs.start_screening(workspace, "small", {filter: {}})
    assert run.state().status == "done", run.log_end()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    opened = Workspace(tmp_path_factory.mktemp("meaning") / "workspace")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def all_read(workspace):
    """The rows imported and, once it was seen what happens before, read."""
    ids = import_rows(workspace, ROWS)
    for ask in (lambda: meaning.search(workspace, "small", "rice"), lambda: meaning.neighbours(workspace, "small", ids[0])):
        with pytest.raises(
            meaning.NotRead, match="12 of 12 texts of 'small' are not read yet: screen it with vague or contested"
        ):
            ask()
    screen(workspace, "indistinct")  # reads no prompts
    with pytest.raises(meaning.NotRead, match="4 of 12 texts"):
        meaning.search(workspace, "small", "rice")
    screen(workspace, "vague")
    return ids


def test_the_nearest_pairs_to_a_text_are_those_with_the_highest_cosine_of_any_part(workspace, all_read):
    found = meaning.search(workspace, "small", "the biggest planet", limit=3)
    pairs = [workspace.pairs.pair(pair_id) for pair_id in all_read]
    query = Embedder().read(["the biggest planet"])[0]
    parts = [Embedder().read([asked(pair.prompt), pair.chosen.text, pair.rejected.text]) @ query for pair in pairs]
    order = np.argsort([-part.max() for part in parts], kind="stable")[:3]
    assert [one.row.pair_id for one in found] == [all_read[place] for place in order]
    assert [one.similarity for one in found] == pytest.approx([parts[place].max() for place in order], abs=2e-3)
    assert (found[0].row.pair_id, found[0].where) == (all_read[3], "prompt")


def test_a_pairs_neighbours_leave_itself_out_and_do_not_care_which_side_is_chosen(workspace, all_read):
    found = meaning.neighbours(workspace, "small", all_read[1], limit=10)
    assert [one.row.pair_id for one in found][:2] == [all_read[2], all_read[0]]
    assert found[0].similarity == pytest.approx(1, abs=2e-3)
    assert len(found) == 4
    with pytest.raises(ValueError, match="no pair 'x' in 'small'"):
        meaning.neighbours(workspace, "small", "x")


def test_a_pair_in_several_rows_is_found_once_at_its_first_row(workspace, all_read):
    import_rows(workspace, [ROWS[3], *ROWS], "twice")
    found = meaning.search(workspace, "twice", "the biggest planet", limit=6)
    assert [one.row.pair_id for one in found].count(all_read[3]) == 1
    assert found[0].row.row == 0
