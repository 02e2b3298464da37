"""Clients of an InferenceService; each request goes to a version by the weights of the route."""

import contextlib
import datetime
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from http import HTTPStatus

import urllib3
from support.cluster.serving_cluster import Pods

from features.datasets.catalog import schema_of
from features.schema import REQUEST_TIME

_CLIENTS = 2
_CANDIDATES = 5
_PAUSE_SECONDS = 0.1
"""Between two requests of a client while there is one version; none while a canary counts them."""


class Clients:
    """Sends requests as long as it runs, and counts the answers."""

    def __init__(
        self, pods: Pods, *, token: str, num_users: int, num_items: int, moment: datetime.datetime
    ) -> None:
        """Nothing is asked yet.

        Args:
            pods: The versions.
            token: What they ask for.
            num_users: Of the ids from which requests are drawn.
            num_items: The same.
            moment: Time of the requests.
        """
        self.pods = pods
        self.headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        self.num_users, self.num_items = num_users, num_items
        self.microseconds = int(moment.timestamp() * 1_000_000)
        self.devices = [str(value) for value in schema_of("synthetic").context[0].vocabulary]
        self.answered: Counter[str] = Counter()
        self.errors: list[str] = []
        self._stopped = threading.Event()

    @contextlib.contextmanager
    def running(self) -> Iterator["Clients"]:
        """Some clients that ask one request after the other."""
        clients = [threading.Thread(target=self._ask, args=(n,)) for n in range(_CLIENTS)]
        for client in clients:
            client.start()
        try:
            yield self
        finally:
            self._stopped.set()
            for client in clients:
                client.join()

    def _ask(self, seed: int) -> None:
        chance, connections = random.Random(seed), urllib3.PoolManager(retries=False)
        pause = _PAUSE_SECONDS
        while not self._stopped.wait(pause):
            weights, pods = self.pods.weights(), self.pods.pods()  # of one moment or the next
            pause = 0 if len(weights) > 1 else _PAUSE_SECONDS
            ready = {v: share for v, share in weights.items() if v in pods and pods[v].is_ready}
            if not sum(ready.values()):
                continue
            (version,) = chance.choices([*ready], [*ready.values()])
            url = pods[version].url("/v2/models/synthetic/infer")
            try:
                answer = connections.request(
                    "POST", url, body=self._request(chance), headers=self.headers, timeout=10
                )
            except urllib3.exceptions.HTTPError as error:
                self.errors.append(f"{version}: {error}")
                continue
            if answer.status != HTTPStatus.OK:
                self.errors.append(f"{version}: {answer.status}")
                continue
            self.answered[str(answer.json()["model_version"])] += 1

    def _request(self, chance: random.Random) -> bytes:
        items = chance.sample(range(self.num_items), _CANDIDATES)
        device = chance.choice(self.devices)
        inputs = [
            _tensor("user_id", "INT64", [chance.randrange(self.num_users)]),
            _tensor("item_id", "INT64", items),
            _tensor("device", "BYTES", [device]),
            _tensor(REQUEST_TIME.name, "INT64", [self.microseconds]),
        ]
        return json.dumps({"inputs": inputs}).encode()


def _tensor(name: str, datatype: str, values: Sequence[object]) -> dict[str, object]:
    return {"name": name, "shape": [len(values)], "datatype": datatype, "data": values}
