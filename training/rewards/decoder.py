"""Scoring with a causal model that has a head: rows that share beginnings, batches of like length, scores read at the ends."""

from collections.abc import Callable, Sequence
from hashlib import blake2b
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
_MASK = 1 << 28  # numbers a batch's mask of every token against every other may hold
_ROW = 4096  # tokens: a row of several texts grows no longer, save where its texts themselves are about as long
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

    def planned(self, ids: Sequence[Ids], *, share: bool = True) -> list[list[Row]]:
        """The rows of each batch, the longest first. Texts within the window share beginnings where the model allows it."""
        longest = max(map(len, ids), default=0)
        within = [place for place, one in enumerate(ids) if self._window is None or len(one) <= self._window]
        beyond = sorted(set(range(len(ids))) - set(within))
        limit = min(2 * self.max_length, max(_ROW, 5 * longest // 4))
        if self._window is not None:
            limit = min(limit, self._window)  # GPT-Neo's layers count it along the row, whatever mask they are given
        found = packing.rows([ids[place] for place in within], share=share and self.shares, longest=limit)
        packed = [row._replace(places=tuple(within[place] for place in row.places)) for row in found]
        alone = [Row((place,), 0, len(ids[place])) for place in beyond]  # in batches of their own: a shared mask has no window
        return [
            [some[row] for row in batch]
            for some in (alone, packed)
            for batch in packing.batches(some, budget=self._budget, squares=_MASK)
        ]

    def states(self, ids: Sequence[Ids], rows: Sequence[Row]) -> "torch.Tensor":
        """Hidden states of these rows, (rows, tokens, width), each row laid out as `packing` says."""
        import torch

        tokens, positions, part = _laid_out(ids, rows)
        if all(len(row.places) == 1 for row in rows):
            mask = torch.from_numpy((part >= 0).astype(np.int64))
        else:
            mask = _mask(torch.from_numpy(part).to(self.device), self._dtype)
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

    def fits(self, other: "Machine") -> bool:
        """Whether another machine's shared rows can be run here too."""
        return self.shares and (self._window is None or (other._window is not None and other._window <= self._window))

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

    def __init__(self, machine: Machine, head: Head, tokenizer: Any, render: Render, *, pad: int | None = None) -> None:
        """`pad` is the token that the model's own code takes for padding: it reads at the last token that is another."""
        self.machine, self._head, self._tokenizer, self._render, self._pad = machine, head, tokenizer, render, pad

    @property
    def head(self) -> Head:
        """What makes scores of hidden states."""
        return self._head

    def prepare(self, prompts: Sequence[Conversation], responses: Sequence[Conversation]) -> Work:
        ids, truncated = self.encode(prompts, responses)
        plan = self.machine.planned(ids)
        notes = [*self.machine.notes(), *dated(self._tokenizer)]
        return Work(
            [batch_of(rows) for rows in plan], lambda number: self._scores(ids, plan[number]), truncated, notes, digest_of(ids)
        )

    def encode(self, prompts: Sequence[Conversation], responses: Sequence[Conversation]) -> Any:
        """The ids each text is read as, and which texts were cut: training reads them in the same way."""
        found = encoded(self._tokenizer, self._render, prompts, responses, max_length=self.machine.max_length)
        return found._replace(ids=[without_padding(one, self._pad) for one in found.ids])

    def _scores(self, ids: Sequence[Ids], rows: Sequence[Row]) -> Numbers:
        import torch

        with torch.inference_mode():
            scores = self._head(self.machine.last(ids, rows).float())  # scores of bfloat16 would come in coarse steps
        return np.asarray(scores.float().cpu().numpy(), np.float64).reshape(-1)


def without_padding(ids: list[int], pad: int | None) -> list[int]:
    """A text without the padding tokens it ends in: transformers' classifiers read the score before them, whoever put them."""
    end = len(ids)
    while pad is not None and end > 1 and ids[end - 1] == pad:
        end -= 1
    return ids[:end]


def digest_of(ids: Sequence[Ids]) -> str:
    """16 hex digits of all tokens of all texts."""
    digest = blake2b(digest_size=8)
    for one in ids:
        digest.update(np.asarray([len(one), *one], np.int64).tobytes())
    return digest.hexdigest()


def dated(tokenizer: Any) -> list[str]:
    """A note where the chat template writes the day's date in a way that cannot be fixed: scores change with it."""
    template = str(getattr(tokenizer, "chat_template", "") or "")
    if "strftime_now" in template and "date_string" not in template:
        return ["the chat template writes today's date: scores of another day will differ"]
    return []


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


def _mask(part: "torch.Tensor", dtype: "torch.dtype") -> "torch.Tensor":
    """What is added to each token's attention to each other, (rows, 1, width, width): 0 to the beginning and to its own part
    up to itself, else the least number there is. Made where it is used: it is the largest thing of a batch.

    Padding looks at padding: a token that looks at nothing would become NaN.
    """
    import torch

    width = part.shape[1]
    allowed = (part[:, None, :] == 0) | (part[:, None, :] == part[:, :, None])
    allowed &= torch.ones(width, width, dtype=torch.bool, device=part.device).tril()
    mask = torch.zeros(allowed.shape, dtype=dtype, device=part.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)[:, None]
