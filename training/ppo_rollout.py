"""What a policy is told of its answers in PPO: which prompts a step answers, what the answers score, what each token earned."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.log_probabilities import Aligned, aligned
from training.losses import gae, rewards_per_token, whitened
from training.policies import Policy
from training.policy_settings import Ppo
from training.ppo_reading import by_length, read
from training.processes import Processes
from training.rewards.base import Conversation, Numbers
from training.rewards.packing import Ids
from training.sampling import Tell, sampled
from training.value_head import ValueHead


class Rewards(Protocol):
    """What is asked of a reward model: training.rewarding.Rewarder, or anything else that scores texts."""

    def scores(self, prompts: Sequence[Conversation], texts: Sequence[str]) -> Numbers:
        """A number for each, (n,), the higher the better."""


class Scale(NamedTuple):
    """How scores are brought to mean 0 and standard deviation 1, as measured on responses of the start."""

    mean: float = 0.0
    spread: float = 1.0


class Answers(NamedTuple):
    """What a policy answered, by prompt: ids with the token that ended them, and their texts without."""

    prompts: list[Conversation]
    asked: list[list[int]]
    said: list[list[int]]
    stopped: NDArray[np.bool_]
    texts: list[str]
    scores: Numbers  # of the reward model, on its own scale

    @property
    def lengths(self) -> list[int]:
        """Tokens of each response, the one that ended it included."""
        return [len(one) for one in self.said]


class Rollout(NamedTuple):
    """What is learned from, (responses, tokens) each, 0 after a response's end: as the policy was when it answered."""

    mask: Tensor
    log_probs: Tensor
    log_ratio: Tensor  # to the start
    values: Tensor
    entropy: Tensor
    rewards: Tensor
    advantages: Tensor
    returns: Tensor


def steps_of(settings: Ppo, prompts: int) -> int:
    """How many steps training on so many prompts takes."""
    steps = settings.epochs * math.ceil(prompts / (settings.batch * settings.accumulate))
    return min(steps, settings.max_steps) if settings.max_steps else steps


def drawn(step: int, settings: Ppo, prompts: int) -> list[int]:
    """Places of the prompts that this step (from 0) answers: the next ones of the epoch's order, which hangs on the seed and
    the epoch alone."""
    size = settings.batch * settings.accumulate
    epoch, within = divmod(step, math.ceil(prompts / size))
    order = np.random.default_rng([settings.seed, epoch]).permutation(prompts)
    return [int(place) for place in order[within * size : (within + 1) * size]]


def answered(
    policy: Policy, rewarder: Rewards, prompts: Sequence[Conversation], settings: Ppo, *, seed: Sequence[int],
    share: Processes, tell: Tell | None = None,
) -> Answers:  # fmt: skip
    """This process's share of the prompts, answered and scored.

    What a prompt is answered depends on the seed and the prompt's place, not on how many processes share the work.
    """
    mine = list(range(share.rank, len(prompts), share.count))
    some = [prompts[place] for place in mine]
    asked = policy.prompt_ids(some, settings.max_prompt)
    found = sampled(
        policy, asked, samples=1, max_tokens=settings.max_tokens, temperature=settings.temperature, places=mine,
        seed=int(np.random.SeedSequence(seed).generate_state(1)[0]), batch_tokens=settings.batch_tokens, tell=tell,
    )  # fmt: skip
    said = [one.ids for (one,) in found]
    texts = [policy.text(ids) for ids in said]
    scores = np.asarray(rewarder.scores(some, texts), np.float64)
    wrong = np.flatnonzero(~np.isfinite(scores))
    if len(wrong):
        raise ValueError(f"the reward of {texts[wrong[0]][:60]!r} is {scores[wrong[0]]}: expected a number")
    return Answers(some, asked, said, np.array([one.stopped for (one,) in found], np.bool_), texts, scores)


def told(answers: Answers, settings: Ppo, scale: Scale) -> Numbers:
    """What the policy is told its answers are worth: normalised scores, and `no_stop` where nothing ended a response."""
    scores = (answers.scores - scale.mean) / scale.spread
    if settings.missing_stop == "penalise":
        scores[~answers.stopped] = settings.no_stop
    return scores


def rolled_out(
    policy: Policy, head: ValueHead, answers: Answers, scores: Numbers, settings: Ppo, *, kl: float, share: Processes
) -> Rollout:  # fmt: skip
    """What each token earned by these scores and a penalty of `kl` on each nat, and what was expected of it."""
    lengths = torch.tensor(answers.lengths, device=policy.device)
    mask = (torch.arange(max(answers.lengths, default=1), device=policy.device) < lengths[:, None]).float()
    new, start, values, entropy = (torch.zeros_like(mask) for _ in range(4))
    for places in read_together(range(len(answers.said)), answers, settings):
        texts = laid_out(policy, answers, places)
        with torch.no_grad():
            now = read(policy.model, texts, temperature=settings.temperature, head=head, entropy=True)
            with policy.as_start():
                then = read(policy.start_model, texts, temperature=settings.temperature)
        width = now.log_probs.shape[1]
        for kept, one in zip(
            (new, start, values, entropy), (now.log_probs, then.log_probs, now.values, now.entropy), strict=True
        ):
            assert one is not None
            kept[places, :width] = one * mask[places, :width]
    log_ratio = new - start
    worth = torch.as_tensor(scores, dtype=torch.float32, device=policy.device)
    rewards = rewards_per_token(worth, log_ratio, lengths, kl=kl)
    scaled = whitened(rewards, mask, shift=False, total=share.total) if settings.whiten else rewards
    advantages, returns = gae(scaled, values, mask, discount=settings.discount, trace=settings.trace)
    advantages = whitened(advantages, mask, total=share.total)
    return Rollout(mask, new, log_ratio, values, entropy, rewards, advantages, returns)


def laid_out(policy: Policy, answers: Answers, places: Sequence[int]) -> Aligned:
    """The answers at these places as a batch."""
    asked: list[Ids] = [answers.asked[place] for place in places]
    said: list[Ids] = [answers.said[place] for place in places]
    return aligned(asked, said, pad=policy.pad, device=policy.device)


def read_together(places: Sequence[int], answers: Answers, settings: Ppo) -> Iterator[list[int]]:
    """The answers at these places in batches that fit in memory."""
    whole = [len(asked) + len(said) for asked, said in zip(answers.asked, answers.said, strict=True)]
    return by_length(places, whole, batch=settings.batch)
