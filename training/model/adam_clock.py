"""Adam's state of a tensor that has old entries and new ones."""

import torch
from torch import Tensor


def rewind_adam_step(
    first: Tensor, second: Tensor, step: Tensor, betas: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Adam's state of a tensor that grew, with its clock at the first step.

    Adam divides its moments by what they lack of a long history, by one count of steps for a whole
    tensor. Late in a run that is nothing, and new entries that begin at zero would take steps
    several times too long; with a second moment borrowed from old entries they were seen to learn
    too slowly (decision 23). At the first step the correction fits new entries, and old ones are
    scaled so that their corrected moments are what they were.

    Args:
        first: First moments.
        second: Second moments.
        step: How many steps made them.
        betas: Adam's.
    """
    if step <= 1:
        return first, second, step
    shares = [(1 - beta) / (1 - beta ** float(step)) for beta in betas]
    return first * shares[0], second * shares[1], torch.ones_like(step)
