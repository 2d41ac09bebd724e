"""50 raters at once on 200 items, through the real store: what they said is what is stored, and nothing else is."""

from tests.bench import studies


def test_of_50_raters_at_once_every_item_ends_with_exactly_3_and_no_answer_is_lost_doubled_or_misplaced(tmp_path):
    result = studies.simulate(tmp_path, raters=50, items=200, overlap=3, pause=0.002)
    assert result.log.wrong == []
    assert (result.exact, result.answers) == (200, 600)
    assert (result.lost, result.doubled, result.misplaced) == ([], [], [])
    assert [deed for deed in studies.DEEDS if not result.log.deeds[deed]] == []  # all of it was tried
