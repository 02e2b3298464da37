"""A holdout whose true probabilities are known, and the gate's decision on scores of it."""

import numpy as np

from training.evaluation.comparison import Holdout
from training.evaluation.findings import GateConfig
from training.evaluation.gate import ANCHOR, CHAMPION, decide

ROWS, USERS = 4_000, 200
RANDOM = np.random.default_rng(1)
TRUTH = RANDOM.beta(2, 2, ROWS)
LABEL = (RANDOM.random(ROWS) < TRUTH).astype(np.int64)
GROUP = RANDOM.integers(0, USERS, ROWS)
IDS = np.arange(ROWS) + 1_000
NEW_USERS = np.arange(ROWS) < 600
HOLDOUT = Holdout(label=LABEL, group=GROUP, example_id=IDS, slices={"new users": NEW_USERS})
WIDE = {"margin": 0.02, "gauc_margin": 0.02, "slice_margin": 0.2}
"""Limits that 4,000 rows can tell apart."""


def scores(noise: float, seed: int = 2, truth=TRUTH) -> np.ndarray:
    odds = np.log(truth / (1 - truth)) + np.random.default_rng(seed).normal(size=len(truth)) * noise
    return (1 / (1 + np.exp(-odds))).astype(np.float32)


def judged(candidate, champion=None, holdout=HOLDOUT, *, base_rate=0.5, anchor=None, **limits):
    baselines = {CHAMPION: champion, ANCHOR: anchor}
    given_ = {key: found for key, found in baselines.items() if found is not None}
    return decide(GateConfig(**limits), holdout, candidate, given_, base_rate=base_rate)


def rows_of(count: int) -> Holdout:
    return HOLDOUT.take(np.arange(ROWS) < count)


def with_bad(values, places, bad=np.nan):
    values = values.copy()
    values[places] = bad
    return values
