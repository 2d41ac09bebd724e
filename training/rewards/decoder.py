"""Scoring with a causal model that has a head: rows that share beginnings, batches of like length, scores read at the ends."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.rewards import packing
from training.rewards.base import Batch, Conversation, Numbers, Scorer, Work
from training.rewards.packing import Ids, Row
from training.rewards.transcripts import Render, encoded

if TYPE_CHECKING:
    import torch

_CPU_TOKENS, _GPU_TOKENS = 4096, 65536  # a batch: beyond these nothing is gained
_PROBE = ([5, 9, 3, 7, 2, 8, 4, 6, 3], [5, 9, 3, 7, 2, 8, 4, 6, 9, 2, 4], [5, 9, 3, 7, 2, 8, 4, 6, 2])

Hidden = Callable[..., "torch.Tensor"]  # input_ids, attention_mask, position_ids (batch, tokens) to (batch, tokens, width)
Places = NDArray[np.int64]
Head = Callable[["torch.Tensor"], "torch.Tensor"]  # (n, width) to (n,) or (n, 1)


class Machine:
    """A decoder run on packed rows: the hidden states at chosen places of each text.

    Prompts are computed once for all their responses where a check on this very model shows that this changes nothing.
    `window` is the model's attention window, beyond which rows are not shared: the shared mask knows no window.
    """

    def __init__(
        self, hidden: Hidden, *, device: "torch.device", dtype: "torch.dtype", max_length: int, window: int | None = None,
        batch_tokens: int = 0,
    ) -> None:  # fmt: skip
        self._hidden, self.device, self._dtype = hidden, device, dtype
        self.max_length, self._window = max_length, window
        self._budget = batch_tokens or (_GPU_TOKENS if device.type == "cuda" else _CPU_TOKENS)
        self.shares = self._may_share()

    def may_share(self, ids: Sequence[Ids]) -> bool:
        """Whether rows of these texts may share beginnings."""
        return self.shares and (self._window is None or max(map(len, ids), default=0) <= self._window)

    def planned(self, ids: Sequence[Ids], *, share: bool | None = None) -> list[list[Row]]:
        """The rows of each batch, the longest first. They share beginnings where that may be, or as `share` says."""
        packed = packing.rows(ids, share=self.may_share(ids) if share is None else share, longest=2 * self.max_length)
        return [[packed[row] for row in some] for some in packing.batches(packed, budget=self._budget)]

    def states(self, ids: Sequence[Ids], rows: Sequence[Row]) -> "torch.Tensor":
        """Hidden states of these rows, (rows, tokens, width), each row laid out as `packing` says."""
        import torch

        tokens, positions, part = _laid_out(ids, rows)
        if all(len(row.places) == 1 for row in rows):
            mask = torch.from_numpy((part >= 0).astype(np.int64))
        else:
            mask = torch.where(torch.from_numpy(_allowed(part)), 0.0, torch.finfo(self._dtype).min).to(self._dtype)[:, None]
        with torch.inference_mode():
            return self._hidden(
                input_ids=torch.from_numpy(tokens).to(self.device), position_ids=torch.from_numpy(positions).to(self.device),
                attention_mask=mask.to(self.device),
            )  # fmt: skip

    def last(self, ids: Sequence[Ids], rows: Sequence[Row]) -> "torch.Tensor":
        """The hidden state at each text's last token, (texts, width), in the order of the rows' places."""
        import torch

        hidden = self.states(ids, rows)
        at = [(number, end - 1) for number, row in enumerate(rows) for _, end in spans(ids, row)]
        row_of, ends = torch.tensor(at, device=self.device).T
        return hidden[row_of, ends]

    def notes(self) -> list[str]:
        """For people: what is done otherwise than usual."""
        return [] if self.shares else ["prompts are computed anew for each response: this model does not allow sharing"]

    def _may_share(self) -> bool:
        """Whether three short texts end in the same states in one shared row as in rows of their own.

        Encoders, models with positions of their own making, and models that keep a state do not.
        """
        import torch

        alone = self.last(_PROBE, packing.rows(_PROBE, share=False)).float()
        together = packing.rows(_PROBE)
        try:
            found = self.last(_PROBE, together).float()
        except (TypeError, ValueError, RuntimeError, IndexError, AttributeError, NotImplementedError):
            return False
        expected = alone[[place for row in together for place in row.places]]
        tolerance = 0.05 if self._dtype == torch.bfloat16 else 1e-3
        return bool((found - expected).abs().max() <= tolerance * expected.abs().max())


class DecoderScorer(Scorer):
    """A decoder with a head that turns the hidden state at a text's last token into its score."""

    def __init__(self, machine: Machine, head: Head, tokenizer: Any, render: Render) -> None:
        self.machine, self._head, self._tokenizer, self._render = machine, head, tokenizer, render

    def prepare(self, prompts: Sequence[Conversation], responses: Sequence[Conversation]) -> Work:
        ids, truncated = self.encode(prompts, responses)
        plan = self.machine.planned(ids)
        notes = (
            [] if self.machine.shares else ["prompts are computed anew for each response: this model does not allow sharing"]
        )
        return Work([batch_of(rows) for rows in plan], lambda number: self._scores(ids, plan[number]), truncated, notes)

    def encode(self, prompts: Sequence[Conversation], responses: Sequence[Conversation]) -> Any:
        """The ids each text is read as, and which texts were cut: training reads them in the same way."""
        return encoded(self._tokenizer, self._render, prompts, responses, max_length=self.machine.max_length)

    def _scores(self, ids: Sequence[Ids], rows: Sequence[Row]) -> Numbers:
        import torch

        with torch.inference_mode():
            scores = self._head(self.machine.last(ids, rows))
        return np.asarray(scores.float().cpu().numpy(), np.float64).reshape(-1)


def batch_of(rows: Sequence[Row]) -> Batch:
    """The batch these rows make: the places of their texts, row by row, and its tokens."""
    places = tuple(place for row in rows for place in row.places)
    return Batch(places, len(rows) * max(row.length for row in rows))


def spans(ids: Sequence[Ids], row: Row) -> list[tuple[int, int]]:
    """Where in the row each text's own part stands, from the end of the shared beginning to its own end."""
    found, at = [], row.shared
    for place in row.places:
        found.append((at, at + len(ids[place]) - row.shared))
        at = found[-1][1]
    return found


def _laid_out(ids: Sequence[Ids], rows: Sequence[Row]) -> tuple[Places, Places, Places]:
    """Tokens, positions, and which part of its row each token belongs to, all (rows, width).

    Part 0 is the shared beginning, 1, 2, ... the tails, -1 padding, which stands at the end as token 0.
    """
    width = max(row.length for row in rows)
    tokens, positions = np.zeros((2, len(rows), width), np.int64)
    part = np.full((len(rows), width), -1, np.int64)
    for number, row in enumerate(rows):
        tokens[number, : row.shared] = ids[row.places[0]][: row.shared]
        positions[number, : row.shared] = np.arange(row.shared)
        part[number, : row.shared] = 0
        for tail, (place, (start, end)) in enumerate(zip(row.places, spans(ids, row), strict=True), start=1):
            tokens[number, start:end] = ids[place][row.shared :]
            positions[number, start:end] = np.arange(row.shared, row.shared + end - start)
            part[number, start:end] = tail
    return tokens, positions, part


def _allowed(part: Places) -> NDArray[np.bool_]:
    """Which token may look at which, (rows, width, width): the beginning, and its own part up to itself.

    Padding looks at padding: a token that looks at nothing would become NaN.
    """
    earlier = np.tril(np.ones(part.shape[1:] * 2, np.bool_))
    seen: NDArray[np.bool_] = (part[:, None, :] == 0) | (part[:, None, :] == part[:, :, None])
    return seen & earlier
