"""The real KServe server with the stand-ins behind it; run as a module, in a process of its own."""

import argparse
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.imports import without_collection

with without_collection():
    from support.serving import second_model, stand_ins

    from features.online_store.reader import open_rows
    from serving.admission import Admission
    from serving.inference.ranker import Ranker
    from serving.inference.repository import ChampionRepository
    from serving.inference.served_models import ServedModels
    from serving.lookup.item_cache import ItemRefresh
    from serving.routing.serving_versions import Champion
    from serving.routing.traffic_split import read_shares
    from serving.server import RankingServer
    from serving.settings import Settings


def report_lures(event: str, arguments: tuple[Any, ...]) -> None:
    """Say on stderr when a path with the word lure in it reaches the file system."""
    if event.startswith(("open", "os.", "shutil.", "glob.")) and "lure" in repr(arguments):
        os.write(2, f"\nFILE SYSTEM: {event}\n".encode())


def main(options: Mapping[str, Any]) -> None:
    """Serve; with ``store`` from the online store there that RANKING_ONLINE names."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    sys.addaudithook(report_lures)
    settings = Settings.from_environment()
    names = [stand_ins.SCHEMA.name, *([second_model.NAME] if options["second"] else [])]
    admission = Admission(settings.limits, names)
    repositories = [first(options, settings, admission)]
    if options["second"]:
        repositories.append(second(options["second"], settings, admission))
    for repository in repositories:
        repository.load_if_there_is_one()
    RankingServer(
        ServedModels(repositories, admission),
        host="127.0.0.1",
        http_port=options["http_port"],
        grpc_port=options["grpc_port"],
        settings=settings,
    ).start()


def first(
    options: Mapping[str, Any], settings: Settings, admission: Admission
) -> ChampionRepository:
    """The stand-ins' model."""
    registry = stand_ins.FileRegistry(options["folder"])
    online: Any = stand_ins.StandInStore(stand_ins.SCHEMA, stand_ins.sample_rows())
    items: Any = lambda: None  # noqa: E731 - as the ranker's default
    if options["store"]:
        online = open_rows(
            stand_ins.SCHEMA, options["store"], timeout_seconds=settings.store.max_seconds
        )
        items = ItemRefresh(stand_ins.SCHEMA, online, settings.store)
        items.start()
    return ChampionRepository(
        Ranker(
            stand_ins.SCHEMA, online=online, items=items, settings=settings, admission=admission
        ),
        champion_version=lambda: registry.alias("champion"),
        load_champion=lambda version: Champion(
            version,
            stand_ins.scorer(version, is_released=lambda: registry.alias("released") is not None),
        ),
        shares=lambda: read_shares(registry),
    )


def second(folder: Path, settings: Settings, admission: Admission) -> ChampionRepository:
    """The other model, with a registry of its own."""
    registry = stand_ins.FileRegistry(folder)
    store = stand_ins.StandInStore(second_model.SCHEMA, second_model.rows())
    return ChampionRepository(
        Ranker(second_model.SCHEMA, online=store, settings=settings, admission=admission),
        champion_version=lambda: registry.alias("champion"),
        load_champion=lambda version: Champion(version, second_model.scorer(version)),
        shares=lambda: read_shares(registry),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--second", type=Path, help="the registry of a second model")
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    main(vars(parser.parse_args()))
