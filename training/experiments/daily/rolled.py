"""Days one after the other, each predicted before it is learnt, as a policy says."""

import datetime
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from features.places import Place
from training.checkpoint.tensors import load_training_state
from training.config.recipe import Recipe
from training.data.dataset import ExampleTable
from training.evaluation.comparison import Scores
from training.experiments.daily.policies import Policy
from training.experiments.one_pass import saved
from training.model.inputs import inputs_of
from training.trainer.first_rows import first_rows
from training.trainer.loop import fit
from training.trainer.session import Session

Labels = npt.NDArray[np.int64]
FEWEST_ROWS = 100
"""Without as many of both labels together a calibration is not fitted."""


class Rolled:
    """One ranker, trained once on what lies before the first day; every policy begins with it.

    Args:
        table: The examples.
        recipe: Of the ranker, with the seed of this run.
        days: To predict; those without rows are left out.
        folder: Where the ranker is kept meanwhile.

    Raises:
        ValueError: No day lies before the first one, or none is to be predicted.
    """

    def __init__(
        self, table: ExampleTable, recipe: Recipe, days: Sequence[datetime.date], folder: Place
    ) -> None:
        self.table, self.recipe = table, recipe
        self.days = [day for day in days if table.num_rows([day])]
        every = table.days(datetime.date.min, days[-1] if days else datetime.date.min)
        self._before = [day for day in every if day < days[0] and table.num_rows([day])]
        if not self._before or not self.days:
            raise ValueError(
                f"days: {len(self._before)} to begin with, {len(self.days)} to predict; at least 1 "
                "of each with examples"
            )
        self._first = saved(from_scratch(table, recipe, self._before), folder, table)

    def scores(self, policy: Policy) -> list[Scores]:
        """The scores of each day's rows under a policy."""
        session, found = self._begun(policy.recipe(self.recipe)), []
        for number, day in enumerate(self.days):
            known = [*self._before, *self.days[:number]]
            if number and policy.cold_every and number % policy.cold_every == 0:
                session = from_scratch(self.table, self.recipe, known)
            elif number and policy.is_warm:
                self._learn(session, known[-1 - policy.replayed_days :])
            found.append(session.predict(self.table.read([day]).inputs))
        if policy.recalibrated_on:
            labels = [self.table.read([day]).label for day in self.days]
            return recalibrated(found, labels, newest=policy.recalibrated_on)
        return found

    def scores_by_age(self) -> list[dict[int, Scores]]:
        """Of each day the scores of the rankers that were each day's newest, by days of age.

        All learn as the recipe says. Age is the day minus the newest day that a ranker has learnt.
        """
        session, kept, found = self._begun(self.recipe), [], []
        newest = self._before[-1]
        for day in self.days:
            kept.append((newest, session.snapshot()))
            inputs, scores = self.table.read([day]).inputs, {}
            # The newest comes last, and is what the day is learnt from.
            for learnt, weights in kept:
                session.restore(weights)
                scores[(day - learnt).days] = session.predict(inputs)
            found.append(scores)
            self._learn(session, [day])
            newest = day
        return found

    def _begun(self, recipe: Recipe) -> Session:
        session = Session(inputs_of(self.table.schema), recipe, None)
        load_training_state(self._first.tensors, session.model, session.optimizer)
        return session

    def _learn(self, session: Session, days: Sequence[datetime.date]) -> None:
        epochs = session.config.warm_epochs
        fit(session, self.table, days, epochs=epochs, is_warm=True, has_history=True)


def from_scratch(table: ExampleTable, recipe: Recipe, days: Sequence[datetime.date]) -> Session:
    """A ranker that has learnt some days, and nothing before."""
    session = Session(inputs_of(table.schema), recipe, first_rows(table, days))
    fit(session, table, days, epochs=recipe.training.cold_epochs, is_warm=False)
    return session


def recalibrated(
    scores: Sequence[Scores], labels: Sequence[Labels], *, newest: int
) -> list[Scores]:
    """Scores whose logit is scaled and shifted as the days before ask for (Platt 1999).

    Args:
        scores: Of each day's rows, by a ranker that had not learnt them.
        labels: Of the same rows.
        newest: Days before each that scale and shift are fitted to; where these have too few rows,
            the scores stay.
    """
    found = []
    for number, one in enumerate(scores):
        first = max(0, number - newest)
        label = np.concatenate([np.empty(0, np.int64), *labels[first:number]])
        if len(label) < FEWEST_ROWS or label.min() == label.max():
            found.append(one)
            continue
        model = LogisticRegression(C=np.inf).fit(
            np.concatenate([_logits(past) for past in scores[first:number]]), label
        )
        found.append(model.predict_proba(_logits(one))[:, 1].astype(np.float32))
    return found


def _logits(scores: Scores) -> npt.NDArray[np.float64]:
    """(rows, 1) log odds."""
    bounded = np.clip(np.float64(scores), 1e-7, 1 - 1e-7)
    return np.asarray(np.log(bounded / (1 - bounded))[:, np.newaxis])
