"""Where a policy that learns from its own answers has nothing to go on to: it says nothing, or has left its start behind."""

from training.policy_settings import OnPolicy

_SILENT = 3  # steps in a row without a word, after which there is nothing to learn from
_KL_LIMIT, _KL_TIMES = 50.0, 10.0  # nats a response, or times the target


def check_words(silent: int, step: int, settings: OnPolicy, rate: float) -> None:
    """Raise ValueError where the answers of so many steps in a row, up to this one, were all empty."""
    if silent >= _SILENT:
        raise ValueError(
            f"every response of the last {_SILENT} steps, up to step {step:,}, is empty: expected words. The reward model may "
            f"prefer silence; a higher kl than {settings.kl:g} or a lower learning_rate than {rate:g} holds the policy closer "
            "to its start"
        )


def check_kl(kl: float, step: int, settings: OnPolicy, rate: float) -> None:
    """Raise ValueError where a step's KL from the start, in nats a response, is beyond its limit or no number."""
    limit = settings.kl_limit or (_KL_TIMES * settings.kl_target if settings.kl_target else _KL_LIMIT)
    if not kl <= limit:  # NaN passes no limit
        raise ValueError(
            f"the KL from the start is {kl:.4g} nats a response at step {step:,}: expected at most {limit:g} (kl_limit). A "
            f"lower learning_rate than {rate:g} or a higher kl than {settings.kl:g} may hold it"
        )
