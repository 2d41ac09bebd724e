"""The mathematics of PPO against numbers worked by hand, and against what has to hold whatever the numbers are."""

import math

import pytest
import torch

from training import losses
from training.kl_control import KLControl

LOG2 = math.log(2)


def rows(*values):
    return torch.tensor(values, dtype=torch.float32)


def mask_of(*lengths, width):
    return (torch.arange(width) < torch.tensor(lengths)[:, None]).float()


def padded(values, mask, fill=1e6):
    """The same values with something large where nothing is meant."""
    return torch.where(mask > 0, values, torch.full_like(values, fill))


# ---- log-probabilities and entropy


def test_a_token_is_foretold_by_the_logits_one_place_before_it():
    logits = torch.zeros(1, 3, 4)
    logits[0, 0, 2] = math.log(3)  # 3/6 for token 2, 1/6 for each other
    logits[0, 1, 1] = math.log(7)  # 7/10 for token 1
    found = losses.token_log_probs(logits, torch.tensor([[0, 2, 1]]))
    torch.testing.assert_close(found.exp(), rows([0.5, 0.7]))


def test_logits_are_divided_by_the_temperature_before_log_probabilities_are_taken():
    logits = rows([0.0, 2 * math.log(3)])[:, None]
    ids = torch.tensor([[1]])
    torch.testing.assert_close(losses.log_probs_of(logits, ids).exp(), rows([0.9]))
    torch.testing.assert_close(losses.log_probs_of(logits, ids, temperature=2.0).exp(), rows([0.75]))


def test_log_probabilities_of_bfloat16_logits_are_float32():
    logits = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0)).bfloat16()
    ids = torch.randint(0, 50, (2, 3), generator=torch.Generator().manual_seed(1))
    expected = logits.float().log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    torch.testing.assert_close(losses.log_probs_of(logits, ids), expected)


def test_entropy_is_that_of_a_fair_die_and_of_an_unfair_coin():
    torch.testing.assert_close(losses.entropy_of(torch.zeros(1, 6)), rows(math.log(6)))
    coin = rows([0.0, 2 * math.log(3)])
    torch.testing.assert_close(losses.entropy_of(coin), rows(-(0.1 * math.log(0.1) + 0.9 * math.log(0.9))))
    torch.testing.assert_close(losses.entropy_of(coin, temperature=2.0), rows(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75))))


# ---- statistics over response tokens alone


def test_means_and_variances_are_of_response_tokens_alone():
    mask = mask_of(2, 1, width=3)
    values = padded(rows([1.0, 2.0, 0.0], [6.0, 0.0, 0.0]), mask)
    assert float(losses.masked_mean(values, mask)) == 3.0
    assert float(losses.masked_variance(values, mask)) == pytest.approx((4 + 1 + 9) / 3)
    assert float(losses.masked_mean(values, mask * 0)) == 0.0


def test_rewards_are_whitened_without_shift_and_advantages_with_it():
    mask = mask_of(2, 1, width=3)
    values = padded(rows([1.0, 2.0, 0.0], [6.0, 0.0, 0.0]), mask)
    spread = math.sqrt(14 / 3)
    z = rows([-2 / spread, -1 / spread, 0.0], [3 / spread, 0.0, 0.0])
    torch.testing.assert_close(losses.whitened(values, mask), z)
    torch.testing.assert_close(losses.whitened(values, mask, shift=False), (z + 3) * mask)


def test_values_that_are_all_the_same_are_whitened_to_nothing_not_to_nan():
    mask = mask_of(2, 2, width=2)
    torch.testing.assert_close(losses.whitened(torch.full((2, 2), 4.0), mask), torch.zeros(2, 2))
    torch.testing.assert_close(losses.whitened(torch.full((2, 2), 4.0), mask, shift=False), torch.full((2, 2), 4.0))


def test_two_halves_whitened_with_sums_over_both_are_the_whole_whitened():
    generator = torch.Generator().manual_seed(0)
    values, mask = torch.randn(6, 5, generator=generator), mask_of(5, 1, 3, 2, 4, 5, width=5)
    mean = (values * mask).sum() / mask.sum()
    wanted = iter([(values * mask).sum(), mask.sum()] * 2 + [(((values - mean) ** 2) * mask).sum(), mask.sum()])
    half = losses.whitened(values[:3], mask[:3], total=lambda _: next(wanted))  # what two processes would sum up to
    torch.testing.assert_close(half, losses.whitened(values, mask)[:3])


def test_explained_variance_is_one_for_foreknowledge_nothing_for_a_constant_and_undefined_without_spread():
    mask = mask_of(3, 1, width=3)
    returns = rows([1.0, 2.0, 3.0], [4.0, 9.0, 9.0])
    assert losses.explained_variance(returns, returns, mask) == pytest.approx(1.0)
    assert losses.explained_variance(returns * 0 + 7, returns, mask) == pytest.approx(0.0, abs=1e-6)
    assert losses.explained_variance(-returns, returns, mask) == pytest.approx(1 - 4)  # (2 R)^2 against R^2
    assert math.isnan(losses.explained_variance(returns, returns * 0 + 1, mask))


# ---- KL


def test_both_estimates_of_kl_have_the_mean_that_the_distributions_say():
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6])
    log_ratio = (p / q).log()
    exact = float((p * log_ratio).sum())
    assert float((p * losses.kl_k1(log_ratio)).sum()) == pytest.approx(exact)
    assert float((p * losses.kl_k3(log_ratio)).sum()) == pytest.approx(exact)
    assert float(losses.kl_k3(log_ratio).min()) >= 0 > float(losses.kl_k1(log_ratio).min())


def test_kl_is_punished_at_each_token_and_the_score_is_paid_at_the_last_one():
    log_ratio = rows([0.5, -0.5, 1.0], [2.0, 5.0, 5.0])  # of the second response only the first token is one
    found = losses.rewards_per_token(rows(1.0, -3.0), log_ratio, torch.tensor([3, 1]), kl=0.1)
    torch.testing.assert_close(found, rows([-0.05, 0.05, -0.1 + 1.0], [-0.2 - 3.0, 0.0, 0.0]))


def test_tokens_likelier_than_at_the_start_cost_and_the_others_earn():
    found = losses.rewards_per_token(rows(0.0), rows([1.0, -1.0]), torch.tensor([2]), kl=0.3)
    torch.testing.assert_close(found, rows([-0.3, 0.3]))


@pytest.mark.parametrize(
    ("kl", "responses", "expected"),
    [
        (6.6, 100, 0.15 * (1 + 0.1 * 100 / 10_000)),  # 10% over
        (5.4, 100, 0.15 * (1 - 0.1 * 100 / 10_000)),  # 10% under
        (60.0, 500, 0.15 * (1 + 0.2 * 500 / 10_000)),  # far over counts as 20%
        (-1.0, 500, 0.15 * (1 - 0.2 * 500 / 10_000)),
        (6.0, 500, 0.15),
    ],
)
def test_the_weight_of_the_penalty_adapts_by_hand_worked_numbers(kl, responses, expected):
    control = KLControl(0.15, target=6.0, horizon=10_000)
    control.adapt(kl, responses)
    assert control.weight == pytest.approx(expected, rel=1e-12)


def test_a_penalty_without_target_stays_as_it_is():
    control = KLControl(0.15)
    control.adapt(100.0, 1000)
    assert control.weight == 0.15


# ---- advantages


def test_advantages_by_hand():
    mask = mask_of(3, 2, width=3)
    rewards, values = padded(rows([0.0, 0.0, 1.0], [1.0, 2.0, 0.0]), mask), padded(rows([0.5, 0.6, 0.7], [1.0, 1.0, 0.0]), mask)
    advantages, returns = losses.gae(rewards, values, mask, discount=0.9, trace=0.5)
    d2 = 1 - 0.7
    d1 = 0.9 * 0.7 - 0.6
    d0 = 0.9 * 0.6 - 0.5
    first = [d0 + 0.45 * (d1 + 0.45 * d2), d1 + 0.45 * d2, d2]
    e1 = 2 - 1.0  # the last token of the second response: nothing comes after it
    e0 = 1 + 0.9 * 1.0 - 1.0
    second = [e0 + 0.45 * e1, e1, 0.0]
    torch.testing.assert_close(advantages, rows(first, second))
    torch.testing.assert_close(returns, rows([a + v for a, v in zip(first, (0.5, 0.6, 0.7), strict=True)],
                                             [second[0] + 1, second[1] + 1, 0.0]))  # fmt: skip


def test_with_full_trace_a_return_is_the_sum_of_what_comes_whatever_was_expected():
    generator = torch.Generator().manual_seed(0)
    mask = mask_of(4, 2, width=4)
    rewards, values = torch.randn(2, 4, generator=generator), torch.randn(2, 4, generator=generator)
    _, returns = losses.gae(rewards, values, mask, discount=1.0, trace=1.0)
    expected = (rewards * mask).flip(1).cumsum(1).flip(1) * mask
    torch.testing.assert_close(returns, expected)


def test_without_trace_an_advantage_looks_one_token_ahead():
    mask = mask_of(3, width=3)
    rewards, values = rows([1.0, 2.0, 3.0]), rows([0.1, 0.2, 0.3])
    advantages, _ = losses.gae(rewards, values, mask, discount=0.5, trace=0.0)
    torch.testing.assert_close(advantages, rows([1 + 0.1 - 0.1, 2 + 0.15 - 0.2, 3 - 0.3]))


# ---- losses


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected", "slope"),
    [
        (1.0, 2.0, -2.0, -2.0),
        (1.1, 2.0, -2.2, -2.2),
        (1.5, 2.0, -2.4, 0.0),  # enough: no gradient beyond 1.2
        (0.5, 2.0, -1.0, -1.0),  # worse than before: the gradient stays
        (1.5, -2.0, 3.0, 3.0),
        (0.5, -2.0, 1.6, 0.0),  # enough: no gradient below 0.8
    ],
)
def test_the_policy_loss_is_clipped_where_the_ratio_has_gone_far_enough(ratio, advantage, expected, slope):
    new = torch.tensor(math.log(ratio), requires_grad=True)
    loss = losses.clipped_policy_loss(new, torch.tensor(0.0), torch.tensor(advantage), clip=0.2)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert float(new.grad) == pytest.approx(slope, abs=1e-6)  # the slope along log p


@pytest.mark.parametrize(
    ("new", "expected", "slope"),
    [
        (1.1, 0.5 * (1.1 - 3) ** 2, 1.1 - 3),
        (1.5, 0.5 * (1.2 - 3) ** 2, 0.0),  # closer to the return, and further from the old value than it may
        (0.5, 0.5 * (0.5 - 3) ** 2, 0.5 - 3),
    ],
)
def test_the_value_loss_is_clipped_around_the_old_value(new, expected, slope):
    value = torch.tensor(new, requires_grad=True)
    loss = losses.clipped_value_loss(value, torch.tensor(1.0), torch.tensor(3.0), clip=0.2)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert float(value.grad) == pytest.approx(slope, abs=1e-6)


def test_the_share_of_clipped_ratios_counts_both_sides():
    new = rows([1.0, 1.19, 1.21, 0.81, 0.79]).log()
    torch.testing.assert_close(losses.clipped(new, torch.zeros(1, 5), clip=0.2), rows([0.0, 0.0, 1.0, 0.0, 1.0]))


def test_log_two_is_what_a_doubled_ratio_costs_from_the_old_policy():
    old, new = torch.zeros(1), torch.full((1,), LOG2)
    torch.testing.assert_close(losses.kl_k3(old - new), torch.tensor([2 - 1 - LOG2]))
