"""Generated logs with the shape of Frappe, and a known best loss; no figure on them is Frappe's.

957 users, 4,082 apps and eight context fields, 5,382 values in all; 96,203 uses, each with two
uniform negatives of the same user and context; rows split at random, as the published ones are.
A user keeps some apps, which popularity, country and taste choose; which of them is used depends
on the app and the context, and on user, app and context together (third order); now and then it is
an app that the user does not keep. Sizes and strengths were chosen so that the public leaderboard's
plain MLP, with its settings, comes out near its figures: validation AUC 0.978, on Frappe 0.985.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from scipy.special import softmax

from training.bootstrap import FloatArray
from training.experiments.public_data.data import BenchmarkData, IntArray, Split, split_of
from training.metrics import log_losses
from training.model.inputs import Inputs, SparseInput

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
NUM_USERS, NUM_APPS, NUM_USES, NEGATIVES = 957, 4_082, 96_203, 2
NUM_TRAIN, NUM_VALID = 202_027, 57_722
_SITUATION = ("daytime", "isweekend", "homework", "cost", "weather")
"""Context fields that change which app is used; country changes which are kept."""
_LATENT = 16
_KEPT_APPS = 24
"""Median of the apps that a user keeps."""
_DISCOVERY = 0.07
"""Share of uses of apps that are not kept."""


class _World:
    """The truth behind the log."""

    def __init__(self, random: np.random.Generator) -> None:
        popularity = (np.arange(1, NUM_APPS + 1) + 5.0) ** -1.2
        self.user = random.normal(size=(NUM_USERS, _LATENT))
        self.app = random.normal(size=(NUM_APPS, _LATENT))
        self.situation = {name: random.normal(size=(CONTEXTS[name], _LATENT)) for name in CONTEXTS}
        country_sizes = 1 / np.arange(1, CONTEXTS["country"] + 1) ** 1.2
        country_sizes /= country_sizes.sum()
        self.country = random.choice(CONTEXTS["country"], size=NUM_USERS, p=country_sizes)
        self.city = random.integers(0, CONTEXTS["city"], size=NUM_USERS)
        customs = 1.2 * random.normal(size=(CONTEXTS["country"], _LATENT))
        taste = (self.user + customs[self.country]) / np.sqrt(_LATENT)
        self.interest = np.log(popularity) + 1.5 * taste @ self.app.T
        """(users, apps): log weight with which an app is kept, or discovered."""
        activity = random.lognormal(sigma=1.2, size=NUM_USERS)
        self.num_uses = random.multinomial(NUM_USES, activity / activity.sum())
        sizes = (_KEPT_APPS * random.lognormal(sigma=0.6, size=NUM_USERS)).astype(int)
        sizes = np.minimum(sizes.clip(2, 200), self.num_uses.clip(2))
        # The largest of interest plus Gumbel noise are a draw without replacement.
        order = np.argsort(-(self.interest + random.gumbel(size=self.interest.shape)), axis=1)
        self.kept = [order[user, :size] for user, size in enumerate(sizes)]
        self.habit = [random.normal(size=size) for size in sizes]

    def shares(self, user: int, situation: FloatArray) -> FloatArray:
        """(uses, kept apps): how likely each kept app is, situations (uses, latent) given."""
        apps = self.app[self.kept[user]] / np.sqrt(_LATENT)
        second, third = 0.7 * situation @ apps.T, 1.5 * (situation * self.user[user]) @ apps.T
        return np.asarray(softmax(self.habit[user] + second + third, axis=-1))


def frappe_stand_in() -> BenchmarkData:
    """The three splits of one generated log."""
    random = np.random.default_rng([0, 957])
    world = _World(random)
    users = np.repeat(np.arange(NUM_USERS), world.num_uses)
    contexts = _contexts(world, users, random)
    apps, probability = _chosen_apps(world, users, contexts, random)
    negatives = random.integers(0, NUM_APPS, size=(NUM_USES, NEGATIVES))
    all_apps = np.concatenate([apps[:, None], negatives], axis=1)
    use = np.repeat(np.arange(NUM_USES), 1 + NEGATIVES)
    label = (np.arange(len(use)) % (1 + NEGATIVES) == 0).astype(np.int64)
    odds = probability(all_apps).ravel() / (NEGATIVES / NUM_APPS)
    columns = {"user": users[use] + 1, "item": all_apps.ravel() + 1}
    columns |= {name: contexts[name][use] + 1 for name in CONTEXTS}
    whole = split_of(columns, label, users=pa.array(users[use]))
    parts = np.split(random.permutation(len(use)), [NUM_TRAIN, NUM_TRAIN + NUM_VALID])
    train, valid, test = (whole.take(rows) for rows in parts)
    best = (odds / (1 + odds))[parts[2]].astype(np.float32)
    sizes = {"user": NUM_USERS, "item": NUM_APPS, **CONTEXTS}
    return BenchmarkData(
        name="frappe-stand-in",
        inputs=Inputs(sparse=tuple(SparseInput(n, s + 1, n) for n, s in sizes.items()), dense=()),
        train=_with_unknown(train, train),
        valid=_with_unknown(valid, train),
        test=_with_unknown(test, train),
        best_log_loss=float(log_losses(best, test.label).mean()),
    )


def _with_unknown(split: Split, train: Split) -> Split:
    """The split with values that training rows lack at the row of the unknown, as from files."""
    columns = {
        name: np.where(np.isin(ids.values, train.inputs.ids[name].values), ids.values, 0)
        for name, ids in split.inputs.ids.items()
    }
    return split_of(columns, split.label, users=pa.array(split.group))


def _contexts(world: _World, users: IntArray, random: np.random.Generator) -> dict[str, IntArray]:
    """(uses,) of each field: situations of a skewed mix, and where one lives, rarely elsewhere."""
    contexts = {}
    for name, size in CONTEXTS.items():
        shares = random.dirichlet(np.full(size, 2.0))
        contexts[name] = random.choice(size, size=NUM_USES, p=shares)
    contexts["isweekend"] = (contexts["weekday"] >= 5).astype(np.int64)
    for name, home, stays in (("country", world.country, 0.97), ("city", world.city, 0.9)):
        away = random.integers(0, CONTEXTS[name], size=NUM_USES)
        contexts[name] = np.where(random.random(NUM_USES) < stays, home[users], away)
    return contexts


def _chosen_apps(
    world: _World, users: IntArray, contexts: dict[str, IntArray], random: np.random.Generator
) -> tuple[IntArray, Callable[[IntArray], FloatArray]]:
    """The app of each use, and the function from apps (uses, any) to their true probabilities."""
    situation = np.sum([world.situation[name][contexts[name]] for name in _SITUATION], axis=0)
    situation = situation / np.sqrt(len(_SITUATION))
    ends = np.cumsum(world.num_uses)
    uses_of = [slice(end - count, end) for end, count in zip(ends, world.num_uses, strict=True)]
    discovered: FloatArray = softmax(world.interest, axis=-1)
    apps = np.empty(NUM_USES, dtype=np.int64)
    for user, uses in enumerate(uses_of):
        shares = world.shares(user, situation[uses])
        noise = random.gumbel(size=shares.shape)
        apps[uses] = world.kept[user][(np.log(shares) + noise).argmax(axis=1)]
        finds = uses.start + np.flatnonzero(random.random(len(shares)) < _DISCOVERY)
        apps[finds] = random.choice(NUM_APPS, size=len(finds), p=discovered[user])

    def probability(asked: IntArray) -> FloatArray:
        found = _DISCOVERY * discovered[users[:, None], asked]
        for user, uses in enumerate(uses_of):
            own = np.zeros((uses.stop - uses.start, NUM_APPS))
            own[:, world.kept[user]] = world.shares(user, situation[uses])
            found[uses] += (1 - _DISCOVERY) * np.take_along_axis(own, asked[uses], axis=1)
        return found

    return apps, probability
