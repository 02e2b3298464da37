"""KServe's data plane: whether the server is ready, and what it says of itself and its models."""

from typing import cast

from kserve.protocol.dataplane import DataPlane

from serving.inference.ranker import Ranker
from serving.inference.served_models import ServedModels

EXTENSIONS = ("binary_tensor_data", "model_repository")
"""As the protocol names them; KServe has a name of its own for the second."""


class RankingDataPlane(DataPlane):
    """Corrects KServe's data plane, which is always ready and has no version in its metadata.

    Its errors have the endpoint's one form.
    """

    def __init__(self, models: ServedModels) -> None:
        """Args: the models."""
        super().__init__(models)
        self._models = models
        self.is_draining = False
        """Whether the server is about to end."""
        self.is_complete = True
        """Whether all processes listen that are to answer on the same ports."""

    async def ready(self) -> bool:
        """Whether a model can answer, and goes on doing so.

        One is enough: were it all of them, one that cannot be loaded would take the others down.
        """
        is_staying = self.is_complete and not self.is_draining
        return is_staying and any(self._models.versions.values())

    def get_model_from_registry(self, name: str) -> Ranker:
        """A model by its name; RequestError (404) where there is none."""
        return self._models.ranker(name)

    def metadata(self) -> dict[str, object]:
        """KServe's name and version, and what the endpoint has beyond the protocol's core."""
        metadata: dict[str, object] = super().metadata()
        return {**metadata, "extensions": [*EXTENSIONS, *cast(list[str], metadata["extensions"])]}

    async def model_metadata(self, model_name: str) -> dict[str, object]:
        """Inputs and outputs with type and shape, and the versions that answer."""
        metadata: dict[str, object] = await super().model_metadata(model_name)
        answering = self._models.ranker(model_name).versions.answering
        versions = [model.version for model in answering]
        return {**metadata, "platform": "wukong", "versions": versions}
