"""The loop around a policy that learns by PPO: a line of metrics a step, looks at held-out prompts, checkpoints, samples.

checkpoints/           see training/ppo_checkpoints.py: on a CPU a run goes on to the very numbers of an undisturbed one
metrics.jsonl          a line a step; step 0 is what the start answers to held-out prompts
output/samples.jsonl   a few answers, every so many steps
"""

from collections.abc import Callable, Sequence
from typing import Any

from training import policy_answers, ppo_checkpoints
from training.curves import Curves
from training.policies import Policy
from training.policy_settings import Ppo
from training.ppo_learner import Learner, Numbers
from training.ppo_rollout import Answers, Rewards
from training.processes import ALONE, Processes
from training.rewards.base import Conversation
from training.run import Cancelled, Run, say
from training.sampling import Tell

_TIMES = 25  # that answers are shown in a run, about

Look = Callable[[Policy, int], dict[str, float]]  # Looks.look


def learn(
    policy: Policy, rewarder: Rewards, prompts: Sequence[Conversation], settings: Ppo, *, run: Run | None = None,
    look: Look | None = None, share: Processes = ALONE, watch: Callable[[int, Numbers], None] | None = None,
) -> Learner:  # fmt: skip
    """Train the policy to the end of its steps, going on from the run's last checkpoint.

    Without a `run` nothing is written. `watch` is told each step's number and what was measured. Raises Cancelled, after a
    checkpoint, where the run is asked to stop, and ValueError with a sentence where there is nothing to go on to.
    """
    learner = Learner(policy, rewarder, prompts, settings, share=share)
    book = _Book(learner, run, look)
    try:
        if not book.resumed():
            book.tell("measuring how the start is scored")
            learner.begin(book.answering())
        while True:
            numbers = book.written()
            if watch is not None and numbers:
                watch(learner.done, numbers)
            if learner.done >= learner.steps:
                return learner
            book.tell(_words(learner, numbers))
            book.numbers = learner.step(book.answering())
    except Cancelled:
        book.save()
        raise


class _Book:
    """What is written of a policy that learns. In other processes than the first, and without a run, nothing is."""

    def __init__(self, learner: Learner, run: Run | None, look: Look | None) -> None:
        self._learner, self._run, self._look = learner, run, look
        self._settings, self._share = learner.settings, learner.share
        self.numbers: Numbers = {}  # of the last step; {} before the first
        self._saved = -1
        self._lines = -1  # the last step whose line is written
        self._curves: Curves | None = None
        self._warned = False

    def resumed(self) -> bool:
        """Stand where the last checkpoint was written, if there is one."""
        if self._run is None:
            return False
        learner, checkpoint = self._learner, ppo_checkpoints.last(self._run.checkpoints)
        if checkpoint is not None:
            state = ppo_checkpoints.load(checkpoint, self._share)
            learner.load(state)
            self.numbers, self._saved = state["numbers"], learner.done
        done = learner.done if checkpoint is not None else -1
        if self._share.first:
            self._curves = Curves(self._run.folder, after=done)
            self._lines = int(self._curves.last["step"] or 0) if self._curves.last else -1
            policy_answers.keep_until(self._run, done)
            if checkpoint is not None:
                say(f"going on after step {done:,} of {learner.steps:,}")
        self._share.wait()
        return checkpoint is not None

    def written(self) -> Numbers:
        """Write the line of the last step, with what a look at held-out prompts says where one is due; and a checkpoint."""
        learner, settings = self._learner, self._settings
        done, last = learner.done, learner.done == learner.steps
        if not self._share.any(self._share.first and self._lines < done):
            return self.numbers
        line = dict(self.numbers)
        if done == 0 or last or (settings.look_every and done % settings.look_every == 0):
            line |= self._looked(done)
        self._lines = done
        if self._curves is not None:
            if line:
                self._curves.add(done, line)
            self._show(done)
            self._warn(line)
        if done and (last or done % settings.save_every == 0):
            self.save()
            if self._curves is not None:
                say(_words(learner, line))
        return line

    def save(self) -> None:
        """A checkpoint of the last step, where there is none yet."""
        if self._run is not None and self._learner.done > max(0, self._saved):
            state = {**self._learner.state(), "numbers": self.numbers}
            ppo_checkpoints.save(self._run.checkpoints, self._learner.done, state, self._share)
            self._saved = self._learner.done

    def tell(self, words: str) -> None:
        """How far the run is. Raises Cancelled, in every process, where it was asked to stop."""
        run, learner = self._run, self._learner
        if run is not None:
            self._together(lambda: run.tell(learner.done, learner.steps, "steps", words))

    def answering(self) -> Tell | None:
        """What is told while answers are sampled: with several processes nothing, all of them have to stop at one place."""
        run, learner = self._run, self._learner
        if run is None or self._share.count > 1:
            return None

        def tell(done: int, total: int) -> None:
            run.tell(learner.done, learner.steps, "steps", f"step {learner.done + 1:,}: {done:,} of {total:,} answered")

        return tell

    def _looked(self, point: int) -> Numbers:
        found: Numbers = {}
        look = self._look
        if look is not None:
            self._together(lambda: found.update(look(self._learner.policy, point)))
        return {f"held_out_{name}": one for name, one in found.items()}

    def _together(self, do: Callable[[], None]) -> None:
        """What the first process does alone, while the others wait; where it is cancelled all are."""
        cancelled = False
        if self._share.first:
            try:
                do()
            except Cancelled:
                cancelled = True
        if self._share.any(cancelled):
            raise Cancelled

    def _warn(self, line: Numbers) -> None:
        """A word, once, where the reward model was not heard in a step."""
        words = policy_answers.nothing_heard(self._settings, line.get("stopped", 1.0))
        if words and not self._warned:
            self._warned = True
            say(f"step {self._learner.done:,}: {words}")

    def _show(self, done: int) -> None:
        """A few of the step's answers, for people."""
        every = self._settings.look_every or max(1, self._learner.steps // _TIMES)
        answers = self._learner.answers
        if self._run is None or answers is None or (done % every and done not in (1, self._learner.steps)):
            return
        policy_answers.show(self._run, _samples(done, answers))


def _samples(step: int, answers: Answers) -> list[dict[str, Any]]:
    shown = zip(answers.prompts[: policy_answers.SHOWN], answers.texts, answers.scores.tolist(), strict=False)
    return [
        {"step": step, "prompt": [list(turn) for turn in prompt], "response": text, "reward": reward}
        for prompt, text, reward in shown
    ]


def _words(learner: Learner, numbers: Numbers) -> str:
    if "reward" not in numbers:
        return f"{learner.steps:,} steps"
    return f"step {learner.done:,} of {learner.steps:,}: reward {numbers['reward']:.4g}, KL {numbers['kl']:.3g}"
