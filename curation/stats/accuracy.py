"""Shares and their intervals."""


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95% Wilson score interval of a share. Raises ValueError when nothing was counted: it is undefined then."""
    from scipy.stats import binomtest  # a second to import, wanted only here

    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n}: expected 0 to n successes, and n at least 1")
    interval = binomtest(successes, n).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)
