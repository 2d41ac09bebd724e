"""One policy that learns by PPO (arXiv 1707.06347, for language models 2009.01325 and 2403.17031): answers, scores, learns.

It knows no files; training/ppo_loop.py keeps what it says and what it goes on from.
"""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.dead_ends import check_kl, check_words
from training.kl_control import KLControl
from training.losses import (
    clipped,
    clipped_policy_loss,
    clipped_value_loss,
    explained_variance,
    kl_k1,
    kl_k3,
    masked_mean,
)
from training.policies import Policy
from training.policy_settings import Ppo
from training.ppo_reading import read
from training.ppo_rollout import (
    Answers,
    Rewards,
    Rollout,
    Scale,
    answered,
    drawn,
    laid_out,
    read_together,
    rolled_out,
    steps_of,
    told,
)
from training.processes import ALONE, Processes
from training.rewarding import Rewarder
from training.rewards.base import Conversation
from training.sampling import Tell
from training.value_head import ValueHead

_FULL_RATE, _LORA_RATE = 1e-5, 1e-4
_REFERENCE = 256  # prompts the start answers, to know the mean and spread of their scores
_ANSWERS, _SCALE, _ORDER = 0, 1, 2  # what a seed is for

Numbers = dict[str, float]


class Learner:
    """A policy that learns from a reward model's scores of its answers. All it goes on from is in `state`."""

    def __init__(
        self, policy: Policy, rewarder: Rewards, prompts: Sequence[Conversation], settings: Ppo, *, share: Processes = ALONE
    ) -> None:  # fmt: skip
        """`share` says which of the prompts this process answers. Raises ValueError where there are none, or too few to be
        learned from in so many parts."""
        if not prompts:
            raise ValueError("no prompt to learn from: expected at least one")
        if settings.minibatches > settings.batch * settings.accumulate:
            raise ValueError(
                f"{settings.batch * settings.accumulate} responses a step (batch times accumulate) cannot be learned from in "
                f"{settings.minibatches} parts (minibatches): expected at most one part a response"
            )
        policy.check_fits(settings.max_prompt, settings.max_tokens)
        self.policy, self.rewarder, self.prompts, self.settings, self.share = policy, rewarder, prompts, settings, share
        self.head = ValueHead(policy.model.get_output_embeddings().weight.shape[1], policy.device)
        self.rate = settings.learning_rate or (_LORA_RATE if settings.lora_rank else _FULL_RATE)
        self.trained = {name: one for name, one in policy.model.named_parameters() if one.requires_grad}
        self.optimizer = torch.optim.Adam([*self.trained.values(), *self.head.parameters()], lr=self.rate, eps=1e-5)
        self.steps = steps_of(settings, len(prompts))
        self.done = 0
        self.control = KLControl(settings.kl, settings.kl_target, settings.kl_horizon)
        self.scale = Scale()
        self.tokens = {"generated": 0, "trained": 0}
        self.seconds = 0.0
        self._empty = 0
        self.answers: Answers | None = None  # of the last step

    def begin(self, tell: Tell | None = None) -> None:
        """Measure the scale of scores on answers of the start, and begin the value head as it is told to."""
        began, settings = time.monotonic(), self.settings
        if settings.normalise:
            order = np.random.default_rng(settings.seed).permutation(len(self.prompts))[:_REFERENCE]
            answers = self._answered(order.tolist(), (settings.seed, _SCALE), tell)
            scores = np.array(self.share.gathered(answers.scores.tolist()))
            spread = float(scores.std())
            self.scale = Scale(float(scores.mean()), spread if spread > 1e-6 else 1.0)
            self.tokens["generated"] += round(self._sum(sum(answers.lengths)))
        if settings.value_from == "reward":
            scorer = self.rewarder.scorer if isinstance(self.rewarder, Rewarder) else None
            self.head.take(scorer, mean=self.scale.mean, spread=self.scale.spread)
        self.seconds += time.monotonic() - began

    def step(self, tell: Tell | None = None) -> Numbers:
        """Answer the next prompts and learn from what the answers score; what was measured on the way.

        Raises ValueError, with nothing learned, for a loss or a gradient that is no number, a KL beyond its limit, and where
        the policy has fallen silent.
        """
        began = time.monotonic()
        settings = self.settings
        places = drawn(self.done, settings, len(self.prompts))
        answers = self._answered(places, (settings.seed, _ANSWERS, self.done), tell)
        self._check_words(answers)
        scores = told(answers, settings, self.scale)
        rollout = rolled_out(
            self.policy, self.head, answers, scores, settings, kl=self.control.weight, share=self.share
        )  # fmt: skip
        numbers = self._measured(answers, rollout, len(places))
        check_kl(numbers["kl"], self.done + 1, settings, self.rate)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * (1 - self.done / self.steps)  # falls to 0, linearly
        numbers |= {"learning_rate": self.optimizer.param_groups[0]["lr"], "kl_weight": self.control.weight}
        numbers |= self._learned(answers, rollout, len(places))
        self.control.adapt(numbers["kl"], len(places))
        said = round(numbers["length"] * len(places))
        self.tokens["generated"] += said
        self.tokens["trained"] += (said + round(self._sum(sum(map(len, answers.asked))))) * settings.passes
        self.done += 1
        self.answers = answers
        seconds = time.monotonic() - began
        self.seconds += seconds
        return numbers | {"tokens": self.tokens["generated"], "tokens_per_second": said / max(seconds, 1e-9)}

    # ---- what was answered

    def _answered(self, places: Sequence[int], seed: Sequence[int], tell: Tell | None) -> Answers:
        prompts = [self.prompts[place] for place in places]
        return answered(self.policy, self.rewarder, prompts, self.settings, seed=seed, share=self.share, tell=tell)

    def _measured(self, answers: Answers, rollout: Rollout, count: int) -> Numbers:
        """Means over all responses of all processes, and over their tokens."""
        total = self.share.total
        sums = {
            "reward": answers.scores.sum(),
            "reward_penalised": rollout.rewards.sum(),
            "kl": kl_k1(rollout.log_ratio).sum(),
            "length": sum(answers.lengths),
            "stopped": answers.stopped.sum(),
        }
        numbers = {name: self._sum(float(one)) / count for name, one in sums.items()}
        numbers["entropy"] = float(masked_mean(rollout.entropy, rollout.mask, total=total))
        numbers["explained_variance"] = explained_variance(rollout.values, rollout.returns, rollout.mask, total=total)
        return numbers

    def _check_words(self, answers: Answers) -> None:
        says = self.share.any(any(text.strip() for text in answers.texts))
        self._empty = 0 if says else self._empty + 1
        check_words(self._empty, self.done + 1, self.settings, self.rate)

    # ---- what is learned

    def _learned(self, answers: Answers, rollout: Rollout, count: int) -> Numbers:
        """Learn from the answers `passes` times, each time in `minibatches` parts in an order of its own; means over these.

        The order is that of all `count` answers, of which each process has its share: the same however many share them.
        """
        settings, share, found = self.settings, self.share, []
        for number in range(settings.passes):
            order = np.random.default_rng([settings.seed, _ORDER, self.done, number]).permutation(count)
            for part in np.array_split(order, settings.minibatches):
                found.append(self._update(answers, rollout, (part[part % share.count == share.rank] // share.count).tolist()))
        some = [one for one in found if one]
        return {name: float(np.mean([one[name] for one in some])) for name in some[0]} if some else {}

    def _update(self, answers: Answers, rollout: Rollout, places: list[int]) -> Numbers:
        """A step of the optimiser on the answers at these places: gradients of batches, each weighted by its tokens, add up to
        that of one batch of them all, in all processes."""
        count = self._sum(float(rollout.mask[places].sum()))
        if not count:
            return {}
        self.optimizer.zero_grad()
        sums = torch.zeros(4, device=self.policy.device)
        for some in read_together(places, answers, self.settings):
            terms = self._losses(answers, rollout, some)
            loss = (terms[0] + self.settings.value_weight * terms[1]) / count
            loss.backward()  # type: ignore[no-untyped-call]
            sums += torch.stack(terms).detach()
        for one in (*self.trained.values(), *self.head.parameters()):
            one.grad = self.share.total(one.grad if one.grad is not None else torch.zeros_like(one))
        gradient = float(torch.nn.utils.clip_grad_norm_(self._parameters(), self.settings.max_gradient))
        policy_loss, value_loss, beyond, moved = (self.share.total(sums) / count).tolist()
        if not all(math.isfinite(one) for one in (policy_loss, value_loss, gradient)):
            self.optimizer.zero_grad()
            raise ValueError(
                f"the loss of step {self.done + 1:,} is {policy_loss} (policy), {value_loss} (value), its gradient {gradient}: "
                f"expected numbers. A lower learning_rate than {self.rate:g} may help"
            )
        self.optimizer.step()
        return {
            "policy_loss": policy_loss, "value_loss": value_loss, "clip_fraction": beyond, "approx_kl": moved,
            "gradient": gradient,
        }  # fmt: skip

    def _losses(self, answers: Answers, rollout: Rollout, places: list[int]) -> list[Tensor]:
        """Sums over the tokens of these answers: policy loss, value loss, ratios clipped, KL from the policy that answered."""
        settings = self.settings
        now = read(self.policy.model, laid_out(self.policy, answers, places), temperature=settings.temperature, head=self.head)
        width = now.log_probs.shape[1]
        mask, old, values, advantages, returns = (
            one[places, :width]
            for one in (rollout.mask, rollout.log_probs, rollout.values, rollout.advantages, rollout.returns)
        )
        assert now.values is not None
        new = torch.where(mask > 0, now.log_probs, old)  # nothing of padding, not even an infinite ratio
        of_policy = clipped_policy_loss(new, old, advantages, clip=settings.clip)
        of_value = clipped_value_loss(now.values, values, returns, clip=settings.value_clip)
        beyond, moved = clipped(new.detach(), old, clip=settings.clip), kl_k3(old - new.detach())
        return [(one * mask).sum() for one in (of_policy, of_value, beyond, moved)]

    def _parameters(self) -> list[Tensor]:
        return [*self.trained.values(), *self.head.parameters()]

    def _sum(self, value: float) -> float:
        """Over all processes."""
        return float(self.share.total(torch.tensor(value, dtype=torch.float64, device=self.policy.device)))

    # ---- what it goes on from

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, beside the settings: tensors and plain values. The learning rate is a
        function of the step; what is sampled and in which order parts are learned are functions of the seed and the step."""
        return {
            "weights": {name: one.detach() for name, one in self.trained.items()},
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "kl_weight": self.control.weight,
            "scale": tuple(self.scale),
            "done": self.done,
            "empty": self._empty,
            "tokens": self.tokens,
            "seconds": self.seconds,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Stand where a learner of the same settings stood."""
        with torch.no_grad():
            for name, one in self.trained.items():
                one.copy_(state["weights"][name])
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.control.weight = state["kl_weight"]
        self.scale = Scale(*state["scale"])
        self.done, self._empty = state["done"], state["empty"]
        self.tokens, self.seconds = dict(state["tokens"]), state["seconds"]
