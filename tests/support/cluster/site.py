"""The servers of a cluster, and what its secrets, images and size classes say."""

from pathlib import Path

import yaml
from support.cluster.kubelet import image_environment
from support.cluster.postgres import Postgres

from features.places import place
from infra.local.servers import ObjectStore, RedisServer
from infra.local.settings import REPOSITORY

TOKEN = "a-token-of-the-tests"
SAME_SUMS = {"OMP_NUM_THREADS": "1"}
"""With another number of threads sums are rounded otherwise."""


class Site:
    """PostgreSQL, Redis and an object store of one run."""

    def __init__(self, folder: Path) -> None:
        """Args: a folder in ``var``, which no pod sees; nothing is started yet."""
        self.folder = folder
        self.postgres = Postgres(folder / "postgres")
        self.redis = RedisServer()
        self.store = ObjectStore(folder / "store")
        self.root = place(f"{self.store.uri}/cluster")
        self.hidden = [REPOSITORY / "var"]

    def sizes(self) -> Path:
        """The repository's table of sizes, as small as this machine."""
        table = yaml.safe_load((REPOSITORY / "infra/kubernetes/sizes.yaml").read_text())
        table["sizes"]["train"] |= {"num_nodes": 2, "gpus": 0}
        table["sizes"]["spark"]["spark"] |= {
            **{"cores": 1, "memory": "1g", "driver_memory": "1g"},
            "settings": {"spark.sql.shuffle.partitions": "4"},
        }
        file = self.folder / "sizes.yaml"
        file.write_text(yaml.safe_dump(table))
        return file

    def secrets(self) -> dict[str, str]:
        """Values by ``name-of-the-Secret/key``, for jobs."""
        return {
            "ranking-store/access-key": self.store.environment["AWS_ACCESS_KEY_ID"],
            "ranking-store/secret-key": self.store.environment["AWS_SECRET_ACCESS_KEY"],
            "ranking-online/url": self.redis.url,
            "ranking-registry/url": self.postgres.url("feast"),
        }

    def secrets_of_the_endpoint(self) -> dict[str, dict[str, str]]:
        """Variables by the name of the Secret."""
        of_endpoint = {"RANKING_TOKEN": TOKEN, "RANKING_ONLINE": self.redis.url}
        return {"ranking-endpoint": of_endpoint}

    def of_images(self) -> dict[str, str]:
        """Variables that images bring, and nodes."""
        return {**image_environment(), **SAME_SUMS, "RANKING_VAR": "/mnt/ranking"}
