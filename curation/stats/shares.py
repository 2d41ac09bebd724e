"""A share that keeps what it is of, and an estimated number of pairs, each with its 95% interval and in words."""

from typing import Any, NamedTuple

from curation.stats.accuracy import wilson_band


class Share(NamedTuple):
    """So many of so many."""

    part: int
    n: int

    @property
    def value(self) -> float | None:
        """The share; None of nothing."""
        return self.part / self.n if self.n else None

    def limits(self, confidence: float = 0.95) -> tuple[float, float]:
        """The Wilson interval; NaN of nothing."""
        low, high = wilson_band([self.part], [self.n], confidence=confidence)
        return float(low[0]), float(high[0])

    def short(self) -> str:
        """The share alone: "71%"."""
        return f"{self.part / self.n:.0%}" if self.n else "none yet"

    def limits_in_words(self) -> str:
        """The interval alone: "60% to 80%, n=80"."""
        if not self.n:
            return "n=0"
        low, high = self.limits()
        return f"{low:.0%} to {high:.0%}, n={self.n:,}"

    def words(self, confidence: float = 0.95) -> str:
        """For people: "71% [60, 80], n=80"."""
        if not self.n:
            return "none yet"
        low, high = self.limits(confidence)
        return f"{self.part / self.n:.0%} [{100 * low:.0f}, {100 * high:.0f}], n={self.n:,}"

    def record(self) -> dict[str, Any] | None:
        """For JSON; None of nothing."""
        low, high = self.limits()
        return {"part": self.part, "n": self.n, "value": self.value, "low": low, "high": high} if self.n else None


class Estimate(NamedTuple):
    """A number of pairs that was not counted but follows from a sample, in whole pairs."""

    pairs: int
    low: int
    high: int

    def limits_in_words(self) -> str:
        """The interval alone: "80 to 170"."""
        return f"{self.low:,} to {self.high:,}"

    def words(self) -> str:
        """For people: "about 120 [80, 170]"."""
        return f"about {self.pairs:,} [{self.low:,}, {self.high:,}]"
