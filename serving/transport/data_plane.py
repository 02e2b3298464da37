"""KServe's data plane: whether the server is ready, and what it says of itself and its model."""

from typing import cast

import kserve
from kserve.protocol.dataplane import DataPlane

from serving.inference.ranker import Ranker
from serving.inference.ranker_repository import RankerRepository
from serving.protocol.inference_request import check_name

EXTENSIONS = ("binary_tensor_data", "model_repository")
"""As the protocol names them; KServe has a name of its own for the second."""


class RankingDataPlane(DataPlane):
    """Corrects KServe's data plane, which is always ready and has no version in its metadata.

    Its errors have the endpoint's one form.
    """

    def __init__(self, ranker: Ranker, *, repository: RankerRepository) -> None:
        """Args: the model and the repository that holds it."""
        super().__init__(repository)
        self._ranker = ranker
        self.is_draining = False
        """Whether the server is about to end."""
        self.is_complete = True
        """Whether all processes listen that are to answer on the same ports."""

    async def ready(self) -> bool:
        """Whether a model can answer, and goes on doing so."""
        is_staying = self.is_complete and not self.is_draining
        return self._ranker.version is not None and is_staying

    def get_model_from_registry(self, name: str) -> kserve.Model:
        """The ranker by its name; RequestError (404) for every other."""
        check_name(name)
        return self._ranker

    def metadata(self) -> dict[str, object]:
        """KServe's name and version, and what the endpoint has beyond the protocol's core."""
        metadata: dict[str, object] = super().metadata()
        return {**metadata, "extensions": [*EXTENSIONS, *cast(list[str], metadata["extensions"])]}

    async def model_metadata(self, model_name: str) -> dict[str, object]:
        """Inputs and outputs with type and shape, and the versions that answer."""
        metadata: dict[str, object] = await super().model_metadata(model_name)
        versions = [model.version for model in self._ranker.versions.answering]
        return {**metadata, "platform": "wukong", "versions": versions}
