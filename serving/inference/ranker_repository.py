"""The versions of one model: what is loaded, and what the protocol and the metrics say of it."""

import abc
import logging
import time

from serving.inference.load_request import WARM_UP_CANDIDATES, warm_up_request
from serving.inference.ranker import Ranker
from serving.observability import freshness
from serving.observability.version_metrics import LoadedVersions
from serving.routing.serving_versions import ServingVersions
from training.registry.aliases import CANARY, CHAMPION, SHADOW

logger = logging.getLogger(__name__)


class RankerRepository(abc.ABC):
    """Holds a ranker, and says what it serves; where versions come from is its subclasses'."""

    def __init__(self, ranker: Ranker) -> None:
        """Args: the model."""
        self.ranker = ranker
        freshness.show_champion(ranker.schema, None, now=time.time())
        self._version_metrics = LoadedVersions(ranker.name)

    @abc.abstractmethod
    async def load(self) -> None:
        """Swap to the champion of this moment; on any failure the old model stays.

        Raises:
            RequestError: It cannot be loaded, or not within LOAD_SECONDS (409). What was loaded
                before stays then, even if a thread goes on loading.
        """

    @abc.abstractmethod
    async def follow(self) -> dict[str, object]:
        """Load the canary and the challenger that the registry names now; the champion stays.

        Returns:
            The versions that serve, as ``ServingVersions.to_dict`` has them.

        Raises:
            RequestError: One of them cannot be loaded, or not within LOAD_SECONDS (409). The
                versions that served before stay then.
        """

    async def warm_up(self) -> None:
        """Run a warm-up request, so that the first caller does not wait longer; never fails.

        The champion has passed its checks before. What fails here, such as a store that is away,
        degrades real requests too and does not keep the champion from serving.
        """
        if self.ranker.versions.champion is None:
            return
        try:
            call = warm_up_request(self.ranker.schema, max(WARM_UP_CANDIDATES))
            await self.ranker.warm_up(call)
        except Exception:
            logger.warning(
                "%s: warm-up: the first request may be slow", self.ranker.name, exc_info=True
            )

    def index(self) -> list[dict[str, str]]:
        """The repository's content, as the Open Inference Protocol lists it."""
        versions = self.ranker.versions
        if versions.champion is None:
            reason = self.ranker.why_not_ready
            return [
                {"name": self.ranker.name, "version": "", "state": "UNAVAILABLE", "reason": reason}
            ]
        ready = {"name": self.ranker.name, "state": "READY", "reason": ""}
        return [{**ready, "version": model.version} for model in versions.answering]

    def shown_versions(self) -> set[str]:
        """The versions that have series in the metrics."""
        return self._version_metrics.shown

    def serve(self, versions: ServingVersions) -> None:
        """Let these versions answer from now on, and show them in the metrics."""
        before, champion = self.ranker.version, versions.champion
        self.ranker.follow(versions)
        if champion is None or champion.version != before:
            version = champion.version if champion else None
            freshness.show_champion(self.ranker.schema, version, now=time.time())
        weighted = {CANARY: versions.canary, SHADOW: versions.shadow}
        shares = {role: one.share for role, one in weighted.items() if one}
        left = 100.0 - (shares[CANARY].percent if CANARY in shares else 0.0)
        self._version_metrics.set_roles(
            {
                CHAMPION: (champion.version, left) if champion else None,
                **{role: (share.version, share.percent) for role, share in shares.items()},
            }
        )
