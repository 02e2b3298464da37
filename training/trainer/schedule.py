"""Learning rates of a run's steps, as a share of the configured ones, by the steps done alone.

Nothing is kept from one step to the next, so that a run that goes on has the rates, to the bit,
of one that was never ended.
"""

from training.config.recipe import TrainingConfig


def learning_rate_share(
    config: TrainingConfig, step: int, total_steps: int, *, is_warm: bool
) -> float:
    """Learning rate of a step, as a share of the configured one.

    With ``decay_share`` a cold run rises over the warm-up, stays, and falls to zero over its last
    steps (warm-up, stable, decay). Without, it falls from the start, in a straight line, to
    ``final_learning_rate_share``. Warm runs go on from there, for Adam's moments are warm already,
    and one day is no new schedule; with ``decay_share`` their last steps fall too.

    Args:
        config: Has the shares.
        step: Steps of the run that are done, from 0.
        total_steps: All steps of the run, over its epochs.
        is_warm: Whether the ranker comes from an earlier run.
    """
    decay = round(config.decay_share * total_steps)
    if is_warm:
        return config.final_learning_rate_share * falling(step, total_steps, decay=decay)
    risen = rising(step, warm_up=round(config.warm_up_share * total_steps))
    if config.decay_share:
        return risen * falling(step, total_steps, decay=decay)
    fallen = (1 - config.final_learning_rate_share) * min(1.0, step / max(1, total_steps))
    return risen * (1 - fallen)


def rising(step: int, *, warm_up: int) -> float:
    """From 1 / ``warm_up`` in the first step to 1 in the last of the warm-up, then 1."""
    return min(1.0, (step + 1) / warm_up) if warm_up else 1.0


def falling(step: int, total_steps: int, *, decay: int) -> float:
    """1, then over the last ``decay`` steps down to 1 / ``decay`` in the last one."""
    return min(1.0, max(0, total_steps - step) / decay) if decay else 1.0
