"""When a request's rows were read, and which version of the items in memory it used."""

import orjson
from support.serving import stand_ins

from serving.lookup.item_cache import ItemRefresh
from serving.lookup.snapshot import microseconds_now
from serving.lookup.transformer import ReadTimes, Transformer
from serving.protocol.inference_request import from_rest
from serving.protocol.ranking_request import parse
from serving.settings import Store

SCHEMA = stand_ins.SCHEMA


class Versioned(stand_ins.StandInStore):
    """A store whose version a test changes, and with it all items."""

    number = 1

    def version(self, of):
        return self.number

    def changed(self, of, since):
        return None

    def read_all(self, of, *, most):
        ids = list("abcdef")
        return ids, self.read(of, ids)


def times_of(transformer, body):
    call = from_rest(orjson.dumps(body), json_length=None)
    return transformer.transform(parse(SCHEMA, call, now=stand_ins.NOON)).times


def test_a_request_knows_the_version_of_its_items_and_when_they_were_compared(body):
    """What the log of answers says; a version is the moment at which a load began."""
    store, before = Versioned(SCHEMA, stand_ins.sample_rows()), microseconds_now()
    refresh = ItemRefresh(SCHEMA, store, Store())
    refresh.look()
    transformer = Transformer(SCHEMA, online=store, items=refresh)
    first = times_of(transformer, body())
    # Both clocks are read one after the other, and one of them may be set meanwhile.
    assert before <= first.items_version <= first.items_compared_at + 1_000 <= first.read_at + 2_000
    refresh.look()
    again = times_of(transformer, body())
    assert again.items_version == first.items_version
    assert again.items_compared_at > first.items_compared_at
    store.number = 2
    refresh.look()
    renewed = times_of(transformer, body())
    assert first.read_at <= renewed.items_version <= renewed.read_at


def test_without_items_in_memory_there_is_the_time_of_the_read_alone(body):
    store, before = stand_ins.StandInStore(SCHEMA, stand_ins.sample_rows()), microseconds_now()
    times = times_of(Transformer(SCHEMA, online=store), body())
    assert times == ReadTimes(times.read_at)
    assert before <= times.read_at <= microseconds_now()
