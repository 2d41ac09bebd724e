"""What a policy is told its answers are worth in RLOO: scores on the scale of the start's, a fixed one for a cut answer."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from training import policy_answers, policy_pairs
from training.curves import columns
from training.kl_control import KLControl
from training.policy_data import Prompt
from training.policy_job import Bench
from training.policy_loop import Line
from training.policy_settings import Rloo
from training.rewarding import Rewarder
from training.rewards.base import Numbers
from training.run import say
from training.sampling import sampled

_SCALE = 256  # prompts, the first ones, whose answers by the start tell the scale of scores
_ALIKE = 1e-6  # a spread of scores that are all alike


class Scale(NamedTuple):
    """How scores are brought to mean 0 and standard deviation 1."""

    mean: float = 0.0
    spread: float = 1.0


def scale_of(bench: Bench, rewarder: Rewarder, prompts: Sequence[Prompt], asked: Sequence[list[int]]) -> Scale:
    """As measured on responses of the start, once: it is kept with the checkpoints."""
    settings = bench.settings
    assert isinstance(settings, Rloo)
    if not settings.normalise:
        return Scale()
    some = [one.turns for one in prompts[:_SCALE]]

    def measured() -> Numbers:
        said = sampled(
            bench.policy, asked[:_SCALE], samples=1, max_tokens=settings.max_tokens, temperature=settings.temperature,
            seed=policy_pairs.seed_of(settings.seed, 0), batch_tokens=settings.batch_tokens,
            tell=lambda done, whole: bench.run.tell(done, whole + 1, "responses", "measuring the scale of scores"),
        )  # fmt: skip
        scores = rewarder.scores(some, [bench.policy.text(one.ids) for (one,) in said])
        return np.array([[scores.mean(), scores.std()]])

    [[mean, spread]] = policy_pairs.kept(bench.run.checkpoints / "scale.parquet", ("mean", "spread"), measured).tolist()
    return Scale(mean, spread if spread > _ALIKE else 1.0)


class Told:
    """What the policy is told its answers are worth; TRL calls it as its reward function."""

    __name__ = "told"

    def __init__(self, bench: Bench, rewarder: Rewarder, prompts: Sequence[Prompt], scale: Scale) -> None:
        assert isinstance(bench.settings, Rloo)
        self._settings, self._policy, self._run = bench.settings, bench.policy, bench.run
        self._rewarder, self._prompts, self.scale = rewarder, prompts, scale
        self.generated, self.trained = 0, 0  # tokens so far
        self.stopped, self.score = 0.0, 0.0  # of the last answers: the share that ended, the mean score on its own scale
        self.silent = 0  # steps in a row without a word
        self.control = KLControl(self._settings.kl, self._settings.kl_target, self._settings.kl_horizon)
        self._warned = False

    def go_on(self, trainer: Any, step: int, last: Line) -> None:
        """Go on after this step, with the last line of metrics; the penalty adapts to what all lines say, as it did before."""
        self.generated, self.trained, self.silent = (int(last.get(name) or 0) for name in ("tokens", "trained", "silent"))
        for kl in columns(self._run.folder).get("kl", ()):
            if kl is not None:
                self.control.adapt(kl, answers_of(self._settings))
        trainer._step = step * trainer.args.gradient_accumulation_steps
        policy_answers.keep_until(self._run, step)

    def __call__(self, prompts: list[str], completion_ids: list[list[int]], trainer_state: Any, **more: Any) -> list[float]:
        """The rewards of the answers to the prompts of these places."""
        step = trainer_state.global_step + 1
        asked = [self._prompts[int(place)] for place in prompts]
        texts = [self._policy.text(ids) for ids in completion_ids]
        self.silent = 0 if any(text.strip() for text in texts) else self.silent + 1
        scores = self._rewarder.scores([one.turns for one in asked], texts)
        stopped = np.array([self._policy.ended(ids) is not None for ids in completion_ids])
        rewards = rewards_of(scores, stopped, self._settings, self.scale)
        self.generated += sum(map(len, completion_ids))
        self.stopped, self.score = float(stopped.mean()), float(scores.mean())
        self._show(step, asked, texts, scores)
        words = policy_answers.nothing_heard(self._settings, self.stopped)
        if words and not self._warned:
            self._warned = True
            say(f"step {step:,}: {words}")
        found: list[float] = rewards.tolist()
        return found

    def notes(self) -> list[str]:
        """Sentences for people."""
        if not self._settings.normalise:
            return []
        mean, spread = self.scale
        return [f"scores were brought to mean 0 and sd 1: on responses of the start they had mean {mean:.4g}, sd {spread:.4g}"]

    def _show(self, step: int, asked: Sequence[Prompt], texts: Sequence[str], scores: Numbers) -> None:
        """Write some answers down, each to another prompt."""
        places = range(0, min(len(texts), policy_answers.SHOWN * self._settings.drawn), self._settings.drawn)
        policy_answers.show(
            self._run,
            [
                {
                    "step": step, "prompt": [list(turn) for turn in asked[place].turns], "response": texts[place],
                    "reward": float(scores[place]),
                }
                for place in places
            ],
        )  # fmt: skip


def answers_of(settings: Rloo) -> int:
    """How many answers are learned from at once."""
    return settings.batch * settings.accumulate * settings.drawn


def rewards_of(scores: Numbers, stopped: Sequence[bool] | Any, settings: Rloo, scale: Scale) -> Numbers:
    """Scores on the start's scale, and `no_stop` where nothing ended a response."""
    found = (np.asarray(scores, np.float64) - scale.mean) / scale.spread
    if settings.missing_stop == "penalise":
        found[~np.asarray(stopped, np.bool_)] = settings.no_stop
    return found
