"""Parts of several processes: shared memory, messages, and workers that end again and again."""

import asyncio
import gc
import logging
import os
import socket
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.serving import stand_ins

from features.schema import Role
from serving import settings
from serving.inference.ranker import Ranker
from serving.lookup.item_cache import HeldItems
from serving.lookup.snapshot import Snapshot
from serving.processes import messages, workers
from serving.processes.channel import Channel, ChannelError
from serving.processes.shared_memory import SharedMoment, SharedObject, mapped
from serving.processes.worker import Worker
from serving.protocol.errors import RequestError
from serving.settings import Limits, Processes, Settings, Store
from training.resources import num_cores


def num_mappings():
    return Path("/proc/self/maps").read_text().count("memfd:ranking (deleted)")


def test_a_shared_snapshot_is_the_same_read_only_and_goes_with_its_last_array():
    rows = stand_ins.StandInStore(stand_ins.SCHEMA, stand_ins.sample_rows())
    ids = [1, 2]
    snapshot = Snapshot.of(stand_ins.SCHEMA, ids, rows.read(Role.ITEM, ids))
    before = num_mappings()
    shared = SharedObject(snapshot)
    found = mapped(shared.descriptor)
    assert (found.num_items, found.num_bytes) == (snapshot.num_items, snapshot.num_bytes)
    assert found.rows(ids).tolist() == snapshot.rows(ids).tolist()
    for name, table in snapshot.tables.items():
        assert found.tables[name].raw == table.raw
        assert (found.tables[name].moments == table.moments).all()
        assert not found.tables[name].moments.flags.writeable
    assert num_mappings() == before + 1
    kept = next(iter(found.tables.values())).moments
    del shared, found
    gc.collect()
    assert len(kept) == snapshot.num_items + 1
    del kept
    gc.collect()
    assert num_mappings() == before


def test_arrays_of_all_kinds_come_back():
    value = {
        "numbers": np.arange(100_000.0),
        "none": np.zeros(0, dtype=np.int64),
        "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "texts": pa.array(["a", None, "bc"]),
        "else": ("text", 1),
    }
    shared = SharedObject(value)
    found = mapped(shared.descriptor)
    for name in ("numbers", "none", "columns"):
        np.testing.assert_array_equal(found[name], value[name])
    assert (found["texts"], found["else"]) == (value["texts"], value["else"])


def test_a_moment_is_read_where_another_one_writes_it():
    written = SharedMoment()
    read = SharedMoment(os.dup(written.descriptor))
    assert read.get() == float("-inf")
    written.set(12.5)
    assert read.get() == 12.5


def pair(answer):
    """A channel whose other end answers by a function, that other end, and whether it has ended."""
    ends, ended = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET), asyncio.Event()
    ours = Channel(ends[0], answer=answer, on_end=ended.set)
    theirs = Channel(ends[1], answer=answer, on_end=lambda: None)
    for channel in (ours, theirs):
        channel.start()
    return ours, theirs, ended


def test_an_error_of_the_other_side_arrives_with_its_status_and_its_end_is_seen():
    async def answer(message, _):
        if message == "refuse":
            raise RequestError("field", 1, "2", status=409)
        if message == "wait":
            await asyncio.sleep(60)

    async def run():
        ours, theirs, ended = pair(answer)
        await ours.send("fine")
        with pytest.raises(RequestError, match="field: 1; 2") as refused:
            await ours.send("refuse")
        waiting = ours.send("wait")
        theirs.close()
        with pytest.raises(ChannelError, match="ended"):
            await waiting
        assert ended.is_set()
        return refused.value.status

    assert asyncio.run(run()) == 409


def test_what_no_one_waits_for_any_more_is_cancelled():
    async def run():
        cancelled = asyncio.Event()

        async def answer(message, _):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise

        ours, theirs, _ = pair(answer)
        asked = ours.send("wait")
        await asyncio.sleep(0.05)
        asked.cancel()
        await asyncio.wait_for(cancelled.wait(), 10)
        theirs.close()
        return asked.cancelled()

    assert asyncio.run(run())


def test_a_worker_whose_supervisor_is_killed_ends(monkeypatch, tmp_path):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    store = stand_ins.StandInStore(stand_ins.SCHEMA, stand_ins.sample_rows())
    items = HeldItems(Store(), equal_at=SharedMoment().get, schema=stand_ins.SCHEMA)
    stopped = []

    async def run():
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ranker = Ranker(stand_ins.SCHEMA, online=store)
        joining = Worker(ours, [(ranker, items)], admission=ranker.admission, num_threads=1).join
        theirs.close()
        with pytest.raises(ConnectionError, match="supervisor: ended"):
            await joining(stop=stopped.append, complete=lambda: None)

    asyncio.run(run())
    assert stopped == ["the end of its supervisor"]


@pytest.mark.process
def test_workers_that_end_again_and_again_are_not_replaced_for_ever(monkeypatch, caplog):
    # A module that prints a poem and ends.
    monkeypatch.setattr(workers, "MODULE", "this")
    monkeypatch.setattr(workers, "mark_process_dead", lambda pid: None)
    caplog.set_level(logging.CRITICAL)
    begin = messages.Begin(num_models=1, store="none", host="127.0.0.1", http_port=0, grpc_port=0)

    models = {"stand-in": (SharedObject(stand_ins.SCHEMA), SharedMoment())}

    async def run():
        one = workers.Workers(begin, models, number=1, on_change=None)
        one.start()
        await asyncio.wait_for(one.failed.wait(), 60)
        await one.stop(0.1)
        return one

    ended = asyncio.run(run())
    assert len(ended._crashes) == workers.MAX_CRASHES
    assert not ended._members


def test_a_worker_has_its_part_of_the_cores_and_of_the_limits_on_numbers():
    limits = Limits(max_concurrent=7, max_connections=100)
    part = Settings(limits=limits, processes=Processes(workers=2)).of_worker()
    assert (part.limits.max_concurrent, part.limits.max_connections) == (4, 50)
    assert part.limits.max_seconds == limits.max_seconds
    cores = max(1, num_cores() // 2)
    assert (part.scoring.num_workers, part.scoring.num_threads) == (cores, cores)


@pytest.mark.parametrize(
    ("quota", "gib", "expected"), [(None, 64, 1), (4, 64, 4), (4, 3, 3), (1, 64, 1), (4, 0.5, 1)]
)
def test_the_quota_says_how_many_workers_there_are(monkeypatch, quota, gib, expected):
    monkeypatch.setattr(settings, "quota_cores", lambda: quota)
    monkeypatch.setattr(settings, "memory_bytes", lambda: int(gib * 2**30))
    assert Processes().num_workers == expected
    assert Processes(workers=2).num_workers == 2
