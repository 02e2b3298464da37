"""Points of runs that follow a known law, for tests of what is made of points."""

import numpy as np

from training.experiments.scaling.points import Point

WUKONG = {
    0.53: -0.35, 1.25: -0.45, 2.12: -0.53, 5.6: -0.60, 22.23: -0.67, 61.0: -0.70, 108.0: -0.76
}  # fmt: skip
"""The Wukong paper's table 5, task 1: GFLOP an example, log loss in per cent of DLRM's less 100."""


def point(**changed):
    values = {
        "axis": "data",
        "model": "wukong",
        "x": 1e6,
        "unit": "examples",
        "ne": 0.85,
        "log_loss": 0.4,
        "seed": 1,
        "dense_flops_per_example": 1e6,
        "training_flops": 1e12,
        "examples": 1_000_000,
        "learning_rate": 1e-3,
        "key": "k",
    }
    return Point(**{**values, **changed})


def runs(law, x, *, seeds=3, noise=0.001, seed=0, flops=float, recipes=None, **changed):
    """Points of ``law`` at each x, with relative noise that differs from seed to seed."""
    generator = np.random.default_rng(seed)
    return [
        point(
            x=float(amount),
            ne=float(law(amount) * np.exp(noise * generator.standard_normal())),
            training_flops=flops(amount),
            seed=number,
            recipe=(recipes or {}).get(amount),
            **changed,
        )
        for amount in x
        for number in range(1, seeds + 1)
    ]


def published():
    """The paper's seven points, as shares of DLRM's loss."""
    return [
        point(axis="compute", x=gflop, unit="GFLOP an example", ne=1 + change / 100)
        for gflop, change in WUKONG.items()
    ]
