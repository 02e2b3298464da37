"""Generated logs with the shape of Frappe, and a known best loss; no figure on them is Frappe's.

957 users, 4,082 apps and eight context fields, 5,382 values in all. Each user keeps a small
repertoire of apps; which of them is used depends on the user, the app and the context together
(third order). Two uniform negatives go with each positive, with the same user and context, so that
the probability of the label given the row is known: p/(p + 2/apps), with p the app's probability.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.benchmark.data import BenchmarkData, InMemory, Split, split_of, take_rows
from training.inputs import Inputs, SparseInput
from training.metrics import log_losses

FloatArray = npt.NDArray[np.float64]

CONTEXTS = {
    "daytime": 7,
    "weekday": 7,
    "isweekend": 2,
    "homework": 3,
    "cost": 2,
    "weather": 9,
    "country": 80,
    "city": 233,
}
NUM_USERS, NUM_APPS, NUM_POSITIVES, NEGATIVES = 957, 4_082, 96_203, 2
SPLIT = (0.7, 0.9)
"""Where the training events and the validation events end, as shares of all events."""
_LATENT = 8
_REPERTOIRE = (4, 60)
"""Fewest and most apps that a user keeps."""
_FROM_REPERTOIRE = 0.97
"""Share of uses that come from the user's own apps."""
_CONTEXT_STRENGTH = 1.5


@dataclasses.dataclass(frozen=True)
class _World:
    """The truth behind the log."""

    popularity: FloatArray
    """(apps,) sums to 1."""
    repertoire: list[npt.NDArray[np.int64]]
    """Of each user the apps that are kept."""
    base: list[FloatArray]
    """Of each user the log weight of each kept app."""
    user: FloatArray
    app: FloatArray
    """(users or apps, latent): what they bring to the third-order term."""
    context: list[FloatArray]
    """Of each context field (values, latent)."""


def frappe_stand_in(*, seed: int = 0) -> BenchmarkData:
    """The three splits of one generated log."""
    random = np.random.default_rng([seed, 957])
    world = _world(random)
    users, contexts = _uses(random)
    apps, probability = _chosen_apps(world, users, contexts, random)
    negatives = random.integers(0, NUM_APPS, size=(NUM_POSITIVES, NEGATIVES))
    all_apps = np.concatenate([apps[:, None], negatives], axis=1).ravel()
    event = np.repeat(np.arange(NUM_POSITIVES), 1 + NEGATIVES)
    label = (np.arange(len(event)) % (1 + NEGATIVES) == 0).astype(np.int64)
    odds = probability(event, all_apps) / (NEGATIVES / NUM_APPS)
    columns = {"user": users[event] + 1, "item": all_apps + 1}
    columns |= {name: contexts[name][event] + 1 for name in CONTEXTS}
    whole = split_of(columns, label, users=pa.array(users[event]))
    # Whole events: of the three rows of one, two would tell the label of the third.
    part_of_event = np.searchsorted(SPLIT, random.random(NUM_POSITIVES), side="right")
    parts = [np.flatnonzero(part_of_event[event] == number) for number in range(3)]
    train, valid, test = (take_rows(whole, random.permutation(rows)) for rows in parts)
    best = odds / (1 + odds)
    return BenchmarkData(
        name="frappe-stand-in",
        inputs=_inputs(),
        train=InMemory(_with_unknown(train, train)),
        valid=_with_unknown(valid, train),
        test=_with_unknown(test, train),
        best_log_loss=float(log_losses(best[parts[2]].astype(np.float32), label[parts[2]]).mean()),
    )


def _inputs() -> Inputs:
    sizes = {"user": NUM_USERS, "item": NUM_APPS, **CONTEXTS}
    return Inputs(sparse=tuple(SparseInput(n, s + 1, n) for n, s in sizes.items()), dense=())


def _with_unknown(split: Split, train: Split) -> Split:
    """The split with values that training rows lack at the row of the unknown, as from files."""
    columns = {}
    for name, ids in split.inputs.ids.items():
        is_known = np.isin(ids.values, train.inputs.ids[name].values)
        columns[name] = np.where(is_known, ids.values, 0)
    return split_of(columns, split.label, users=pa.array(split.group))


def _world(random: np.random.Generator) -> _World:
    ranks = np.arange(1, NUM_APPS + 1)
    popularity = 1 / ranks**0.9
    popularity /= popularity.sum()
    sizes = random.integers(*_REPERTOIRE, size=NUM_USERS)
    kept = [random.choice(NUM_APPS, size=n, replace=False, p=popularity) for n in sizes]

    def latent(rows: int) -> FloatArray:
        return np.asarray(random.normal(size=(rows, _LATENT)))

    return _World(
        popularity=popularity,
        repertoire=kept,
        base=[random.normal(scale=1.2, size=len(apps)) for apps in kept],
        user=latent(NUM_USERS),
        app=latent(NUM_APPS),
        context=[latent(size) for size in CONTEXTS.values()],
    )


def _uses(random: np.random.Generator) -> tuple[npt.NDArray[np.int64], dict[str, np.ndarray]]:
    """Who uses an app when: users of very different activity, context fields of a skewed mix."""
    activity = random.lognormal(sigma=1.2, size=NUM_USERS)
    users = random.choice(NUM_USERS, size=NUM_POSITIVES, p=activity / activity.sum())
    contexts = {}
    for name, size in CONTEXTS.items():
        if name in {"country", "city"}:
            # Where one lives changes rarely.
            home = random.integers(0, size, size=NUM_USERS)
            away = random.integers(0, size, size=NUM_POSITIVES)
            stays = random.random(NUM_POSITIVES) < 0.95
            contexts[name] = np.where(stays, home[users], away)
        else:
            shares = random.dirichlet(np.full(size, 2.0))
            contexts[name] = random.choice(size, size=NUM_POSITIVES, p=shares)
    contexts["isweekend"] = (contexts["weekday"] >= 5).astype(np.int64)
    return users, contexts


def _chosen_apps(
    world: _World,
    users: npt.NDArray[np.int64],
    contexts: dict[str, np.ndarray],
    random: np.random.Generator,
) -> tuple[npt.NDArray[np.int64], Callable[..., FloatArray]]:
    """The app of each use, and the function (use, app) to the app's probability."""
    mixed = sum(
        table[contexts[name]] for name, table in zip(CONTEXTS, world.context, strict=True)
    ) / np.sqrt(len(CONTEXTS))
    weights: list[FloatArray] = []
    apps = np.empty(NUM_POSITIVES, dtype=np.int64)
    for use, user in enumerate(users):
        kept = world.repertoire[user]
        third = (world.app[kept] * (world.user[user] * mixed[use])).sum(axis=1) / np.sqrt(_LATENT)
        logits = world.base[user] + _CONTEXT_STRENGTH * third
        share = np.exp(logits - logits.max())
        share /= share.sum()
        weights.append(share)
        apps[use] = kept[np.searchsorted(np.cumsum(share), random.random()).clip(0, len(kept) - 1)]
    elsewhere = random.random(NUM_POSITIVES) >= _FROM_REPERTOIRE
    strays = random.choice(NUM_APPS, size=NUM_POSITIVES, p=world.popularity)
    apps = np.where(elsewhere, strays, apps)

    def probability(use: npt.NDArray[np.int64], app: npt.NDArray[np.int64]) -> FloatArray:
        own = np.zeros(len(use))
        for place, (u, a) in enumerate(zip(use, app, strict=True)):
            match = np.flatnonzero(world.repertoire[users[u]] == a)
            if len(match):
                own[place] = weights[u][match[0]]
        strayed = (1 - _FROM_REPERTOIRE) * world.popularity[app]
        return np.asarray(_FROM_REPERTOIRE * own + strayed)

    return apps, probability
