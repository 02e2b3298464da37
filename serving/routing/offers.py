"""Answers that are kept or scored again, once their callers have them."""

import datetime
from typing import TYPE_CHECKING

from serving.observability.answered import Answered, Arm
from serving.observability.prediction_log import RequestLog
from serving.observability.sampling import inclusion
from serving.routing.serving_versions import ServingVersions, WeightedModel
from serving.routing.shadow import Shadow, open_pairs

if TYPE_CHECKING:
    from serving.inference.ranking import Ranking, RankingResponse


class Offers:
    """Who keeps a sample of a model's answers: its log, a challenger, the pairs of a canary."""

    def __init__(self, log: RequestLog) -> None:
        """Args: the log; those who score write there too."""
        self.log = log
        self.shadow = Shadow(log)
        self.pairs = open_pairs(log)

    def offer(
        self,
        versions: ServingVersions,
        response: "RankingResponse",
        ranking: "Ranking",
        *,
        role: str,
        arm: Arm,
    ) -> None:
        """Offer an answer, where these versions serve; what comes of it is decided by its id."""
        shadow = versions.shadow
        included = inclusion(
            response.answer_id,
            share=self.log.share,
            role=role,
            is_degraded=ranking.candidates.is_degraded,
            mirrored=shadow.share.percent / 100 if shadow else 0.0,
        )
        if shadow is None and versions.canary is None and included is None:
            return
        answered = Answered(
            answer_id=response.answer_id,
            request_id=response.id,
            answered_at=datetime.datetime.now(datetime.UTC),
            model_version=response.model_version,
            scores=ranking.scores,
            candidates=ranking.candidates,
            role=role,
            arm=arm,
            inclusion=included,
        )
        self.shadow.offer(shadow, answered)
        self.log.offer(answered)
        self.pairs.offer(versions.pair_of(response.model_version), answered)

    def forget(self, before: ServingVersions, now: ServingVersions) -> None:
        """Drop what waits for a model that other versions have replaced."""
        if not _is_same(before.shadow, now.shadow):
            self.shadow.forget()
        if before.champion is not now.champion or not _is_same(before.canary, now.canary):
            self.pairs.forget()

    def start(self) -> None:
        """Start their threads.

        Raises:
            OSError: The place of the log cannot be made or reached.
            ValueError: The schema has a column of a name that is the log's own.
        """
        self.log.start()
        self.shadow.start()
        self.pairs.start()

    def stop(self) -> None:
        """End them; what waits to be logged is written."""
        self.shadow.stop()
        self.pairs.stop()
        self.log.stop()


def _is_same(before: WeightedModel | None, now: WeightedModel | None) -> bool:
    """Whether the same model stands there, with whatever share."""
    return (before.model if before else None) is (now.model if now else None)
