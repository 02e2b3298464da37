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
    from support.serving import stand_ins

    from features.online_store.reader import open_rows
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
    registry = stand_ins.FileRegistry(options["folder"])
    sys.addaudithook(report_lures)
    settings = Settings.from_environment()
    if options["store"]:
        online = open_rows(
            stand_ins.SCHEMA, options["store"], timeout_seconds=settings.store.max_seconds
        )
        items = ItemRefresh(stand_ins.SCHEMA, online, settings.store)
        items.start()
        ranker = Ranker(stand_ins.SCHEMA, online=online, items=items, settings=settings)
    else:
        ranker = Ranker(
            stand_ins.SCHEMA,
            online=stand_ins.StandInStore(stand_ins.SCHEMA, stand_ins.sample_rows()),
            settings=settings,
        )
    repository = ChampionRepository(
        ranker,
        champion_version=lambda: registry.alias("champion"),
        load_champion=lambda version: Champion(
            version,
            stand_ins.scorer(version, is_released=lambda: registry.alias("released") is not None),
        ),
        shares=lambda: read_shares(registry),
    )
    repository.load_if_there_is_one()
    RankingServer(
        ServedModels([repository], ranker.admission),
        host="127.0.0.1",
        http_port=options["http_port"],
        grpc_port=options["grpc_port"],
        settings=settings,
    ).start()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    main(vars(parser.parse_args()))
