"""The server on the real store, registry and artifacts, in one process."""

import torch

from features.online_store.reader import open_rows
from serving.inference.loader import Models
from serving.inference.ranker import Ranker
from serving.inference.repository import ChampionRepository
from serving.lookup.item_cache import LOAD_SECONDS, ItemRefresh
from serving.processes.options import Options
from serving.server import RankingServer
from serving.settings import Settings


def open_server(options: Options) -> RankingServer:
    """The server, set by the environment, with the champion where there is one."""
    schema = options.schema
    settings = Settings.from_environment()
    models = Models(
        schema,
        artifacts=options.artifacts,
        tracking=options.tracking,
        model=options.model,
        compiled=options.compiled,
        num_threads=settings.scoring.num_threads,
    )
    # Of whatever is no request that is alone: training.artifact.scorer says why.
    torch.set_num_threads(1)
    rows = open_rows(schema, options.store, timeout_seconds=settings.store.max_seconds)
    # All items take longer to read than a request may wait.
    all_rows = open_rows(schema, options.store, timeout_seconds=LOAD_SECONDS)
    items = ItemRefresh(schema, all_rows, settings.store)
    items.start()
    ranker = Ranker(schema, online=rows, items=items, settings=settings)
    repository = ChampionRepository(
        ranker,
        champion_version=models.champion_version,
        load_champion=models.load,
        shares=models.shares,
    )
    repository.load_if_there_is_one()
    return RankingServer(
        ranker,
        repository=repository,
        host=options.host,
        http_port=options.http_port,
        grpc_port=options.grpc_port,
        settings=settings,
    )
