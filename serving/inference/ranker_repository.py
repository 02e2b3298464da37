"""What KServe's server calls of a repository: one model, which is always the ranker.

KServe's own repository loads nothing and reports success; its extension hides the reason of a
failure behind a class name.
"""

import abc
import logging
from http import HTTPStatus
from typing import NoReturn

import kserve
from kserve.protocol.model_repository_extension import ModelRepositoryExtension

from serving.inference.load_request import WARM_UP_CANDIDATES, warm_up_request
from serving.inference.ranker import Ranker
from serving.observability.version_metrics import LoadedVersions
from serving.protocol.errors import RequestError
from serving.protocol.inference_request import NAME, check_name
from serving.routing.serving_versions import ServingVersions
from training.registry.aliases import CANARY, CHAMPION, SHADOW

logger = logging.getLogger(__name__)


class RankerRepository(kserve.ModelRepository):
    """Holds the ranker, and says what it serves; where versions come from is its subclasses'."""

    def __init__(self, ranker: Ranker) -> None:
        """Args: the only model."""
        super().__init__()
        self._ranker = ranker
        self._version_metrics = LoadedVersions()
        self.update(ranker)

    @abc.abstractmethod
    async def load(self, name: str) -> bool:
        """Swap to the champion of this moment; on any failure the old model stays.

        Raises:
            RequestError: It cannot be loaded, or not within LOAD_SECONDS (409). What was loaded
                before stays then, even if a thread goes on loading.
        """

    @abc.abstractmethod
    async def follow(self, name: str) -> dict[str, object]:
        """Load the canary and the challenger that the registry names now; the champion stays.

        Returns:
            The versions that serve, as ``ServingVersions.to_dict`` has them.

        Raises:
            RequestError: One of them cannot be loaded, or not within LOAD_SECONDS (409). The
                versions that served before stay then.
        """

    def unload(self, name: str) -> NoReturn:
        """RequestError (409): without its only model the endpoint has no use."""
        check_name(name)
        raise RequestError("model", name, "the only model stays loaded", status=HTTPStatus.CONFLICT)

    async def warm_up(self) -> None:
        """Run a warm-up request, so that the first caller does not wait longer; never fails.

        The champion has passed its checks before. What fails here, such as a store that is away,
        degrades real requests too and does not keep the champion from serving.
        """
        if self._ranker.versions.champion is None:
            return
        try:
            call = warm_up_request(self._ranker.schema, max(WARM_UP_CANDIDATES))
            await self._ranker.warm_up(call)
        except Exception:
            logger.warning("warm-up: the first request may be slow", exc_info=True)

    def index(self) -> list[dict[str, str]]:
        """The repository's content, as the Open Inference Protocol lists it."""
        versions = self._ranker.versions
        if versions.champion is None:
            reason = self._ranker.why_not_ready
            return [{"name": NAME, "version": "", "state": "UNAVAILABLE", "reason": reason}]
        ready = {"name": NAME, "state": "READY", "reason": ""}
        return [{**ready, "version": model.version} for model in versions.answering]

    def shown_versions(self) -> set[str]:
        """The versions that have series in the metrics."""
        return self._version_metrics.shown

    def serve(self, versions: ServingVersions) -> None:
        """Let these versions answer from now on, and show them in the metrics."""
        self._ranker.follow(versions)
        champion = versions.champion
        weighted = {CANARY: versions.canary, SHADOW: versions.shadow}
        shares = {role: one.share for role, one in weighted.items() if one}
        left = 100.0 - (shares[CANARY].percent if CANARY in shares else 0.0)
        self._version_metrics.set_roles(
            {
                CHAMPION: (champion.version, left) if champion else None,
                **{role: (share.version, share.percent) for role, share in shares.items()},
            }
        )


class RankerExtension(ModelRepositoryExtension):
    """What REST and gRPC call; an error keeps its own text and status."""

    def __init__(self, repository: RankerRepository) -> None:
        """Args: the repository."""
        super().__init__(repository)
        self._repository = repository

    async def load(self, model_name: str) -> None:
        """Load, or say why not."""
        await self._repository.load(model_name)

    async def unload(self, model_name: str) -> None:
        """RequestError (409), always."""
        self._repository.unload(model_name)
