"""The server on the real store, registry and artifacts, in one process."""

import torch

from features.online_store.reader import open_rows
from features.schema import Schema
from serving.admission import Admission
from serving.inference.loader import Models
from serving.inference.ranker import Ranker
from serving.inference.repository import ChampionRepository
from serving.inference.served_models import ServedModels
from serving.lookup.item_cache import LOAD_SECONDS, ItemRefresh
from serving.processes.options import Options
from serving.server import RankingServer
from serving.settings import Settings


def open_server(options: Options) -> RankingServer:
    """The server, set by the environment, with the champion of each model that has one."""
    settings = Settings.from_environment()
    # Of whatever is no request that is alone: training.artifact.scorer says why.
    torch.set_num_threads(1)
    admission = Admission(settings.limits, [schema.name for schema in options.schemas])
    repositories = [
        _repository(schema, options, settings=settings, admission=admission)
        for schema in options.schemas
    ]
    for repository in repositories:
        repository.load_if_there_is_one()
    return RankingServer(
        ServedModels(repositories, admission),
        host=options.host,
        http_port=options.http_port,
        grpc_port=options.grpc_port,
        settings=settings,
    )


def _repository(
    schema: Schema, options: Options, *, settings: Settings, admission: Admission
) -> ChampionRepository:
    models = Models(
        schema,
        artifacts=options.artifacts,
        tracking=options.tracking,
        model=options.model,
        compiled=options.compiled,
        num_threads=settings.scoring.num_threads,
    )
    rows = open_rows(schema, options.store, timeout_seconds=settings.store.max_seconds)
    # All items take longer to read than a request may wait.
    all_rows = open_rows(schema, options.store, timeout_seconds=LOAD_SECONDS)
    items = ItemRefresh(schema, all_rows, settings.store)
    items.start()
    return ChampionRepository(
        Ranker(schema, online=rows, items=items, settings=settings, admission=admission),
        champion_version=models.champion_version,
        load_champion=models.load,
        shares=models.shares,
    )
