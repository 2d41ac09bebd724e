"""Ensembles of reward models, against their members' scores."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.reward_checkpoints import CLOSE, DECODERS, PROMPTS, RESPONSES, SAID, loaded, said
from training.rewards.registry import family


@pytest.fixture
def three_members(tmp_path: Path) -> list[dict[str, Any]]:
    members = [{**made(tmp_path / name).settings, "source": str(tmp_path / name)} for name, made in list(DECODERS.items())[2:4]]
    return [*members, {"family": "length"}]


@pytest.mark.parametrize("how", ["mean", "worst", "uncertainty"])
def test_an_ensemble_joins_its_members_scores(how: str, three_members: list[dict[str, Any]]) -> None:
    scores = np.stack([loaded(one).score(PROMPTS, RESPONSES).values for one in three_members])
    scores = (scores - np.array([[0.5], [-1.0], [40.0]])) / np.array([[1.0], [2.0], [50.0]])
    expected = {"mean": scores.mean(0), "worst": scores.min(0), "uncertainty": scores.mean(0) - 0.5 * scores.var(0)}[how]
    settings = {"family": "ensemble", "members": three_members, "how": how, "weight": 0.5}
    settings |= {"centres": [0.5, -1, 40], "scales": [1, 2, 50]}
    np.testing.assert_allclose(loaded(settings).score(PROMPTS, RESPONSES).values, expected, **CLOSE)


def test_a_batch_of_an_ensemble_gives_final_numbers(three_members: list[dict[str, Any]]) -> None:
    scorer = loaded({"family": "ensemble", "members": three_members})
    prompts, responses = PROMPTS * 50, [said(f"{number} {SAID[number % 6]}") for number in range(300)]
    work = scorer.prepare(prompts, responses)
    assert sorted(place for batch in work.batches for place in batch.places) == list(range(300))
    assert len(work.batches) == 2
    last = work.batches[1].places
    alone = scorer.score([prompts[place] for place in last], [responses[place] for place in last]).values
    np.testing.assert_allclose(work.run(1), alone, **CLOSE)
    assert work.tokens > 0


def test_what_cannot_be_in_an_ensemble_is_said(three_members: list[dict[str, Any]]) -> None:
    def refused(**settings: Any) -> str:
        with pytest.raises(ValueError) as error:  # noqa: PT011  the sentence is what is looked at
            family("ensemble", settings)
        return str(error.value)

    compares = [*three_members, {"family": "pair_rm", "source": "x"}]
    assert "member 4 is a pair_rm model, which compares and gives no score" in refused(members=compares)
    assert "no family of reward models 'magic'" in refused(members=[{"family": "magic"}, {"family": "length"}])
    assert "at least 2" in refused(members=[{"family": "length"}])
    assert "scales are [1.0]: expected 3 numbers above 0" in refused(members=three_members, scales=[1])
    assert "centres are [1.0, 2.0]: expected 3 numbers" in refused(members=three_members, centres=[1, 2])
    assert "beta is -1" in refused(
        members=[{"family": "implicit", "source": "x", "reference": "y", "beta": -1}, {"family": "length"}]
    )
