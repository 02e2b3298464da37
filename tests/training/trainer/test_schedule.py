"""Learning rates follow from the number of steps done and from nothing else."""

import dataclasses

import pytest

from training.config.recipe import TrainingConfig
from training.trainer.schedule import learning_rate_share

BASE = TrainingConfig(batch_size=8)


def shares(steps: int, *, is_warm: bool = False, **settings: float) -> list[float]:
    config = dataclasses.replace(BASE, **settings)
    return [learning_rate_share(config, step, steps, is_warm=is_warm) for step in range(steps)]


def test_rates_rise_stay_and_fall_to_zero():
    assert shares(10, warm_up_share=0.2, decay_share=0.4) == pytest.approx(
        [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    )
    past_the_end = dataclasses.replace(BASE, decay_share=0.4)
    assert learning_rate_share(past_the_end, 12, 10, is_warm=False) == 0


def test_the_stable_phase_does_not_know_how_long_the_run_is():
    """A run may be continued from its stable phase with another length."""
    long, short = (shares(n, warm_up_share=2 / n, decay_share=0.1) for n in (200, 100))
    assert long[:90] == short[:90]
    assert long[90:100] != short[90:100]


def test_without_decay_a_cold_run_falls_from_the_start_and_warm_ones_stay():
    assert shares(4, warm_up_share=0.0) == pytest.approx([1, 0.775, 0.55, 0.325])
    assert shares(4, is_warm=True) == [0.1] * 4


def test_the_last_steps_of_a_warm_run_fall_where_it_has_enough():
    assert shares(10, is_warm=True, decay_share=0.2) == pytest.approx([0.1] * 9 + [0.05])
    assert shares(1, is_warm=True, decay_share=0.2) == [0.1]


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_is_refused_outside_its_limits(share):
    with pytest.raises(ValueError, match=rf"decay_share: {share}; from 0 to 1"):
        dataclasses.replace(BASE, decay_share=share)


def test_warm_up_and_decay_share_one_run():
    with pytest.raises(ValueError, match=r"decay_share: 0.8; at most 0.7, what warm_up_share"):
        dataclasses.replace(BASE, warm_up_share=0.3, decay_share=0.8)
