"""Trains minilm-bt, a Bradley-Terry head on sentence embeddings: texts are read once and kept, the rest takes seconds."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training import loading, model_card
from training.curves import Curves
from training.embeddings import Embedder
from training.reward_data import MODEL, Preference, Split, Tally, Trained
from training.rewards import minilm_bt
from training.rewards.base import Numbers
from training.run import Run, say

if TYPE_CHECKING:
    from training.reward_settings import Training

_PART = 256  # texts read between two checkpoints: some seconds
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # inverse strengths that are tried
_FOLDS = 5
_PLAIN = 0.3  # the inverse strength where there are too few prompts to choose one

Texts = tuple[str, str]  # what was asked, what was answered


def train(run: Run, settings: "Training", pairs: Split) -> Trained:
    """Read every text, choose the penalty within the pairs to learn from, and save the head as the run's model.

    Raises ValueError for embeddings that cannot be loaded.
    """
    embedder = Embedder(settings.embeddings)
    both = [*pairs.train, *pairs.held_out]
    chosen = [minilm_bt.said(pair.prompt, pair.chosen) for pair in both]
    rejected = [minilm_bt.said(pair.prompt, pair.rejected) for pair in both]
    reading = _read(run, embedder, [text for texts in (*chosen, *rejected) for text in texts])
    x = reading.features(chosen) - reading.features(rejected)
    count = len(pairs.train)
    problem = Problem(x[:count], _margins(settings, pairs.train), settings.label_smoothing)
    penalty, notes = settings.penalty, []
    if not penalty:
        penalty, note = chosen_penalty(problem, groups_of(pairs.train), settings.seed, alive=lambda: _alive(run, count))
        notes.append(note)
    curves = Curves(run.folder)
    steps = 0

    def tell(weights: Numbers) -> None:
        nonlocal steps
        steps += 1
        run.tell(count, count + 1, "pairs", f"step {steps}")
        curves.add(steps, {**problem.told(weights, ""), **Problem(x[count:]).told(weights, "held_out_")})

    weights = problem.solved(penalty, tell)
    minilm_bt.save(run.folder / MODEL, weights, embedder, settings.embeddings, {"penalty": penalty})
    place = loading.place_of(settings.embeddings)
    base = model_card.base_of(settings.embeddings, place)
    long = reading.too_long(chosen) | reading.too_long(rejected)
    too_long = {"train": int(long[:count].sum()), "held_out": int(long[count:].sum())}
    for note in notes:
        say(note)
    return Trained("minilm-bt", {}, pairs, x[count:] @ weights, too_long, base, steps, tuple(notes))


def _alive(run: Run, pairs: int) -> None:
    run.tell(0, pairs, "pairs", "choosing the penalty")


def _margins(settings: "Training", pairs: Sequence[Preference]) -> Numbers:
    return np.array([settings.margin_weight * max(0.0, pair.margin or 0.0) for pair in pairs])


def groups_of(pairs: Sequence[Preference]) -> NDArray[np.int64]:
    """Which pairs belong to one conversation, a number each: those that share its first turn of a user."""
    names: dict[str, int] = {}
    first = [next((one.content for one in pair.prompt if one.role == "user"), pair.pair_id) for pair in pairs]
    return np.array([names.setdefault(text, len(names)) for text in first], np.int64)


# ---- the head


class Problem(NamedTuple):
    """Pairs to fit a head to: differences of features (pairs, features), margins (pairs,), label smoothing."""

    x: Numbers
    margins: Numbers | float = 0.0
    smoothing: float = 0.0

    def loss(self, weights: Numbers) -> tuple[float, Numbers]:
        """The mean Bradley-Terry loss (training/losses.py) and its gradient."""
        from scipy.special import expit

        d = self.x @ weights - self.margins
        loss = np.logaddexp(0, -d).mean() + self.smoothing * d.mean()
        return float(loss), self.x.T @ (self.smoothing - expit(-d)) / len(d)

    def solved(self, penalty: float, tell: Callable[[Numbers], None] | None = None) -> Numbers:
        """The weights that minimise sum(loss) + |w|^2 / (2 penalty), as scikit-learn's logistic regression counts it."""
        from scipy.optimize import minimize

        strength = 1 / (penalty * len(self.x))

        def penalised(weights: Numbers) -> tuple[float, Numbers]:
            loss, gradient = self.loss(weights)
            return loss + strength * float(weights @ weights) / 2, gradient + strength * weights

        start = np.zeros(self.x.shape[1])
        options = {"maxiter": 1000, "gtol": 1e-7, "ftol": 1e-12}
        found = minimize(penalised, start, jac=True, method="L-BFGS-B", callback=tell, options=options)
        return np.asarray(found.x, np.float64)

    def told(self, weights: Numbers, prefix: str) -> dict[str, float | None]:
        """Loss, without smoothing and margins, and accuracy, named with this prefix."""
        if not len(self.x):
            return {}
        d = self.x @ weights
        return {f"{prefix}loss": float(np.logaddexp(0, -d).mean()), f"{prefix}accuracy": Tally.of(d).accuracy}

    def without(self, places: NDArray[np.bool_]) -> "Problem":
        margins = self.margins if isinstance(self.margins, float) else self.margins[~places]
        return self._replace(x=self.x[~places], margins=margins)


def chosen_penalty(
    problem: Problem, groups: NDArray[np.int64], seed: int, alive: Callable[[], None] = lambda: None
) -> tuple[float, str]:  # fmt: skip
    """The inverse strength with the least loss in a cross-validation over groups, and a sentence that says so."""
    count = int(groups.max()) + 1
    if count < 2 * _FOLDS:
        return _PLAIN, f"penalty {_PLAIN:g}: {count} prompts are too few to choose one by cross-validation"
    fold = (np.random.default_rng(seed).permutation(count) % _FOLDS)[groups]
    losses = [_lost(problem, fold, penalty, alive) for penalty in PENALTIES]
    best = int(np.argmin(losses))
    tried = ", ".join(f"{penalty:g}: {loss:.4f}" for penalty, loss in zip(PENALTIES, losses, strict=True))
    return PENALTIES[best], f"penalty {PENALTIES[best]:g} had the least loss in {_FOLDS} parts by prompt ({tried})"


def _lost(problem: Problem, fold: NDArray[np.int64], penalty: float, alive: Callable[[], None]) -> float:
    """The mean loss of pairs under heads that never saw their conversations."""
    whole = 0.0
    for number in range(_FOLDS):
        alive()
        here = fold == number
        whole += float(np.logaddexp(0, -(problem.x[here] @ problem.without(here).solved(penalty))).sum())
    return whole / len(problem.x)


# ---- what was read


class _Reading:
    """The embeddings of texts, and which texts are longer than is read."""

    def __init__(self, rows: dict[str, NDArray[np.float32]], cut: dict[str, bool]) -> None:
        self._rows, self._cut = rows, cut

    def features(self, texts: Sequence[Texts]) -> Numbers:
        return minilm_bt.features(texts, [self._rows[one] for one, _ in texts], [self._rows[one] for _, one in texts])

    def too_long(self, texts: Sequence[Texts]) -> NDArray[np.bool_]:
        return np.array([self._cut[one] or self._cut[other] for one, other in texts], np.bool_)


def _read(run: Run, embedder: Embedder, texts: Sequence[str]) -> _Reading:
    """Read each text once, the longest first, a file for every part, so that a resumed run reads none twice."""
    unique = sorted(set(texts), key=lambda text: (-len(text), text))
    rows: dict[str, NDArray[np.float32]] = {}
    cut: dict[str, bool] = {}
    for number, start in enumerate(range(0, len(unique), _PART)):
        some = unique[start : start + _PART]
        run.tell(start, len(unique), "texts", f"{embedder.described} reads")
        found, long = _part(run.checkpoints / f"read-{number:05}.npz", embedder, some)
        rows.update(zip(some, found, strict=True))
        cut.update(zip(some, long.tolist(), strict=True))
    return _Reading(rows, cut)


def _part(file: Path, embedder: Embedder, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The embeddings of these texts, and which are too long; from the file where it is there, which then appears whole."""
    if file.exists():
        with np.load(file) as kept:
            return kept["rows"], kept["cut"]
    rows, (_, cut) = embedder.read(texts), embedder.lengths(texts)
    half = file.with_suffix(".part")
    with half.open("wb") as opened:
        np.savez(opened, rows=rows, cut=cut)
    os.replace(half, file)
    return rows, cut
