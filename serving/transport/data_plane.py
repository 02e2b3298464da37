"""KServe's data plane for the one model: readiness, metadata, and the endpoint's own errors."""

from http import HTTPStatus
from typing import Any

import kserve
from kserve.protocol.dataplane import DataPlane

from serving.inference.ranker import NAME, Ranker
from serving.inference.repository import ChampionRepository
from serving.protocol.errors import RequestError

EXTENSIONS = ("binary_tensor_data", "model_repository")
"""As the protocol names them; KServe has a name of its own for the second."""


class RankingDataPlane(DataPlane):
    """Corrects KServe's data plane, which is always ready and has no version in its metadata.

    Its errors have the endpoint's one form.
    """

    def __init__(self, ranker: Ranker, *, repository: ChampionRepository) -> None:
        """Args: the model and the repository that holds it."""
        super().__init__(repository)
        self._ranker = ranker
        self.is_draining = False
        """Whether the server is about to end."""

    async def ready(self) -> bool:
        """Whether a model can answer, and goes on doing so."""
        return self._ranker.version is not None and not self.is_draining

    def get_model_from_registry(self, name: str) -> kserve.Model:
        """The ranker by its name; RequestError (404) for every other."""
        if name != NAME:
            not_found = HTTPStatus.NOT_FOUND
            raise RequestError("model", name, f"the only model is {NAME}", status=not_found)
        return self._ranker

    def metadata(self) -> dict[str, Any]:
        """KServe's name and version, and what the endpoint has beyond the protocol's core."""
        metadata: dict[str, Any] = super().metadata()
        return {**metadata, "extensions": [*EXTENSIONS, *metadata["extensions"]]}

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        """Inputs and outputs with type and shape, and the versions that answer."""
        metadata: dict[str, Any] = await super().model_metadata(model_name)
        versions = [model.version for model in self._ranker.versions.answering]
        return {**metadata, "platform": "wukong", "versions": versions}
