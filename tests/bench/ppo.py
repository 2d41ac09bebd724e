"""Our PPO beside that of TRL 1.12, which lives in an environment of its own: same start, prompts, reward model and settings.

    python -m tests.bench ppo --trl-python /path/to/other/bin/python [--seeds 3] [--smollm2]

Both are trained whole, each run in a process of its own, in turn. The policies they save on the way are looked at by one ruler,
ours: held-out prompts answered and scored, and the KL to the start from log-probabilities. How fast: tokens of responses, the
ones that end them included, a second of training steps, the first step left out.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import numpy as np

from tests.bench.measure import table

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = """
TRL's side needs an environment of its own (TRL removed PPO in 1.13):
    python3.11 -m venv /tmp/trl112
    /tmp/trl112/bin/pip install trl==1.12.0 transformers==5.23.0 torch==2.13.0 accelerate==1.15.0 datasets
    python -m tests.bench ppo --trl-python /tmp/trl112/bin/python
"""
_TINY: dict[str, Any] = {
    "max_steps": 24, "batch": 64, "minibatches": 4, "max_tokens": 32, "max_prompt": 32, "learning_rate": 1.5e-4, "kl": 0.1,
}  # fmt: skip
_SMOLLM2: dict[str, Any] = {
    "max_steps": 4, "batch": 8, "minibatches": 1, "max_tokens": 24, "max_prompt": 96, "learning_rate": 1e-5, "kl": 0.05,
}  # fmt: skip
_QUARTERS = (0.25, 0.5, 0.75, 1.0)  # of the KL both sides reached


class Look(NamedTuple):
    """What a policy earns on held-out prompts, and how far it is from the start, in nats a response."""

    step: int
    kl: float
    reward: float
    length: float


class Outcome(NamedTuple):
    """One run: its looks, the start's among them, and its speed."""

    looks: list[Look]
    tokens_per_second: float
    tokens_per_cpu_second: float  # of all cores together: what else runs on the machine counts less
    seconds_a_step: float

    def at(self, kl: float) -> float:
        """Its reward where its KL was this, between two looks a line over sqrt(KL)."""
        looks = sorted(self.looks, key=lambda look: look.kl)
        return float(np.interp(max(kl, 0) ** 0.5, [max(one.kl, 0) ** 0.5 for one in looks], [one.reward for one in looks]))


def run(folder: Path, *, trl_python: str = "", seeds: int = 3, smollm2: bool = False) -> None:
    """Train, look and print; without another environment's Python our side alone."""
    from tests.bench import ppo_world

    world = (ppo_world.smollm2 if smollm2 else ppo_world.tiny)(folder / "world")
    told = _SMOLLM2 if smollm2 else _TINY
    sides: dict[str, list[str]] = {"ours": [sys.executable, "-m", "tests.bench.ppo"]}
    if trl_python:
        sides["TRL 1.12"] = [trl_python, "-P", str(Path(__file__).with_name("ppo_trl.py"))]
    else:
        print(ENVIRONMENT)  # noqa: T201
    look = _ruler(world, told, samples=1 if smollm2 else 4)
    found: dict[str, list[Outcome]] = {side: [] for side in sides}
    for seed in range(seeds):
        turn = list(sides) if seed % 2 == 0 else list(sides)[::-1]  # in turn, as the machine's speed drifts
        for side in turn:
            found[side].append(_outcome(folder / f"{side}-{seed}", sides[side], world, {**told, "seed": seed}, look))
            _told_of(side, seed, found[side][-1])
    what = "SmolLM2-135M" if smollm2 else "a llama of four layers, hidden size 128"
    _show(f"PPO of {what}, {told['max_steps']} steps of {told['batch']} responses, {seeds} seed(s)", found)


def settings(told: Mapping[str, Any], reward: str) -> Any:
    """The settings of both sides. What TRL does not do is off: rewards are not normalised, a missing end is not penalised, KL
    is not adapted, gradients are not shortened (it never applies its max_grad_norm). All weights are trained."""
    from training.policy_settings import Named, Ppo

    named = Named(name="worth", family="classifier", settings={"source": reward})
    return Ppo(
        policy="bench", reward=named, lora_rank=0, epochs=1_000_000, normalise=False, missing_stop="score", kl_limit=1e6,
        max_gradient=1e9, whiten=True, passes=4, device="cpu", precision="float32", **told,
    )  # fmt: skip


# ---- running


def _outcome(
    folder: Path, command: Sequence[str], world: Any, told: Mapping[str, Any], look: Callable[[str, int], Look]
) -> Outcome:  # fmt: skip
    """Train in a process of its own, then look at what it saved."""
    from training.policies import opened

    folder.mkdir(parents=True)
    wanted = settings(told, str(world.reward))
    every = max(1, wanted.max_steps // 8)
    config = {
        "start": str(world.start), "reward": str(world.reward), "folder": str(folder), "saved": str(folder / "saved"),
        "curve": str(folder / "curve.jsonl"), "save_at": [*range(every, wanted.max_steps, every), wanted.max_steps],
        "prompts": opened(str(world.start)).prompt_ids(world.train, wanted.max_prompt),
        "turns": [[list(turn) for turn in prompt] for prompt in world.train], "settings": wanted.model_dump(mode="json"),
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    with (folder / "log.txt").open("wb") as log:
        done = subprocess.run([*command, str(folder / "config.json")], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{(folder / 'log.txt').read_text()[-2000:]}")
    curve = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    first, last = curve[0], curve[-1]
    tokens, seconds, cpu = (last[name] - first[name] for name in ("tokens", "seconds", "cpu"))
    looks = [look(str(world.start), 0), *(look(f"{config['saved']}/{step}", step) for step in config["save_at"])]
    return Outcome(looks, tokens / seconds, tokens / cpu, seconds / (len(curve) - 1))


def _ruler(world: Any, told: Mapping[str, Any], *, samples: int) -> Callable[[str, int], Look]:
    """How any policy of this world is looked at: the same prompts, random numbers and reward model."""
    from training.log_probabilities import log_probs
    from training.policies import opened
    from training.rewarding import Rewarder
    from training.sampling import sampled

    rewarder = Rewarder(settings(told, str(world.reward)).reward, device="cpu")
    start = opened(str(world.start), device="cpu")
    asked = start.prompt_ids(world.held_out, told["max_prompt"])

    def look(folder: str, step: int) -> Look:
        policy = opened(folder, device="cpu")
        found = sampled(policy, asked, samples=samples, max_tokens=told["max_tokens"], temperature=1.0, seed=1)
        answers = [(place, one.ids) for place, some in enumerate(found) for one in some]
        prompts, said = [asked[place] for place, _ in answers], [ids for _, ids in answers]
        now, then = (log_probs(one.model, prompts, said, pad=start.pad) for one in (policy, start))
        scores = rewarder.scores([world.held_out[place] for place, _ in answers], [start.text(ids) for ids in said])
        kl = mean(float((one - other).sum()) for one, other in zip(now, then, strict=True))
        return Look(step, kl, float(scores.mean()), mean(map(len, said)))

    return look


def learn(config: Mapping[str, Any]) -> None:
    """Our side, in its own process: see tests/bench/ppo_trl.py for what is written."""
    from training.policies import opened
    from training.policy_settings import Ppo
    from training.ppo_learner import Learner
    from training.rewarding import Rewarder
    from training.rewards.base import Message

    wanted = Ppo.model_validate(config["settings"])
    policy = opened(config["start"], precision="float32", device="cpu", trainable=True, seed=wanted.seed)
    prompts = [tuple(Message(*turn) for turn in one) for one in config["turns"]]
    learner = Learner(policy, Rewarder(wanted.reward, device="cpu"), prompts, wanted)
    learner.begin()
    seconds = cpu = 0.0
    for step in range(1, wanted.max_steps + 1):
        began, busy = time.perf_counter(), time.process_time()
        numbers = learner.step()
        seconds, cpu = seconds + time.perf_counter() - began, cpu + time.process_time() - busy
        line = {
            "step": step, "reward": numbers["reward"], "kl": numbers["kl"], "tokens": learner.tokens["generated"],
            "seconds": seconds, "cpu": cpu,
        }  # fmt: skip
        with Path(config["curve"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if step in config["save_at"]:
            Path(config["saved"]).mkdir(exist_ok=True)
            policy.save(Path(config["saved"], str(step)))


# ---- showing


def _told_of(side: str, seed: int, found: Outcome) -> None:
    end = found.looks[-1]
    print(  # noqa: T201
        f"{side}, seed {seed}: reward {end.reward:.2f} at {end.kl:.2f} nats, {found.tokens_per_second:,.0f} tokens/s",
        flush=True,
    )


def _show(title: str, found: Mapping[str, Sequence[Outcome]]) -> None:
    """The curve, what came out at the end, and where there are two sides the reward at the same KL and the ratio of speeds."""
    table(
        f"{title}: held-out reward (KL, length) by step, means of seeds",
        ("step", *found),
        [
            (step, *(_at_step([run.looks[place] for run in runs]) for runs in found.values()))
            for place, step in enumerate(one.step for one in next(iter(found.values()))[0].looks)
        ],
    )
    rows = {
        "reward at the end": lambda one: one.looks[-1].reward,
        "KL at the end, nats": lambda one: one.looks[-1].kl,
        "tokens/s": lambda one: one.tokens_per_second,
        "tokens per CPU second": lambda one: one.tokens_per_cpu_second,
        "seconds a step": lambda one: one.seconds_a_step,
    }
    table(
        f"{title}: mean ± sd over seeds",
        ("", *found),
        [(name, *(_spread([of(one) for one in runs]) for runs in found.values())) for name, of in rows.items()],
    )
    if len(found) < 2:
        return
    pairs = list(zip(*found.values(), strict=True))  # of a seed
    together = [min(max(look.kl for look in one.looks) for one in pair) for pair in pairs]
    same = []
    for share in _QUARTERS:
        rewards = [[one.at(share * kl) for one in pair] for pair, kl in zip(pairs, together, strict=True)]
        kl, (ours, theirs) = mean(share * one for one in together), zip(*rewards, strict=True)
        gaps = [one - other for one, other in rewards]
        same.append((f"{kl:.2f}", _spread(ours), _spread(theirs), _interval(gaps, sign="+"), _ends(gaps)))
    table("Reward at the same KL", ("KL, nats", *found, "difference, 95% interval", "by seed"), same)
    for name in ("tokens/s", "tokens per CPU second"):
        ratios = [rows[name](ours) / rows[name](theirs) for ours, theirs in pairs]
        print(f"\n{name}, ours / TRL's: {_interval(ratios)} (by seed {_ends(ratios)})")  # noqa: T201


def _at_step(looks: Sequence[Look]) -> str:
    reward, kl, length = (mean(getattr(look, name) for look in looks) for name in ("reward", "kl", "length"))
    return f"{reward:.2f} ({kl:.2f}, {length:.1f})"


def _spread(values: Sequence[float]) -> str:
    digits = 0 if abs(mean(values)) >= 100 else 2
    return f"{mean(values):,.{digits}f}" + (f" ± {stdev(values):,.{digits}f}" if len(values) > 1 else "")


def _interval(values: Sequence[float], *, sign: str = "") -> str:
    """The mean with Student's 95% interval over seeds; the mean alone of fewer than two."""
    from scipy.stats import t

    if len(values) < 2:
        return f"{mean(values):{sign}.2f}"
    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5
    return f"{mean(values):{sign}.2f} [{mean(values) - half:{sign}.2f}, {mean(values) + half:{sign}.2f}]"


def _ends(values: Sequence[float]) -> str:
    return ", ".join(f"{one:.2f}" for one in values)


if __name__ == "__main__":
    learn(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
