"""Requests to the endpoint all along: each is answered, by a version that may answer."""

import collections
import datetime
import http.client
import json
import random
import threading
import time
import urllib.error

from features.schema import REQUEST_TIME
from infra.local.network import JsonObject, call

PAUSE_SECONDS = 0.3
PATIENCE_SECONDS = 20.0
"""For which a caller asks again, as any client of a service does, before a request is lost."""
NUM_CANDIDATES = 20


class Traffic:
    """A thread that asks, now and then, for one user of the day; and bursts of many."""

    def __init__(self, url: str, model: str, *, users: int, items: int, seed: int = 0) -> None:
        """Args: the endpoint, its model, how many users and items the log has."""
        self._url = f"{url}/v2/models/{model}/infer"
        self._random = random.Random(seed)
        self._num_users, self._num_items = users, items
        self.day: datetime.date | None = None
        """Of the moments that are asked for."""
        self.device: str | None = None
        """That all requests have; None: any."""
        self.sent = self.answered = self.retried = 0
        self.lost: list[str] = []
        self.versions: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._ask_on, daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """End it, after the request under way."""
        self._stopping.set()
        self._thread.join(PATIENCE_SECONDS + 10)

    def burst(self, requests: int) -> None:
        """Ask so many times at once, one after the other."""
        for _ in range(requests):
            self.ask()

    def is_whole(self) -> bool:
        """Whether an answer has all its features."""
        body = self._body()
        try:
            answer = call(self._url, method="POST", body=body, seconds=10)
        except (OSError, http.client.HTTPException, ValueError):
            return False
        return not any(
            output["data"] for output in answer["outputs"] if output["name"] == "degraded_by"
        )

    def _ask_on(self) -> None:
        while not self._stopping.wait(PAUSE_SECONDS):
            self.ask()

    def ask(self) -> None:
        """One request, until it is answered or lost."""
        body = self._body()
        if body is None:
            return
        deadline, reason = time.monotonic() + PATIENCE_SECONDS, ""
        with self._lock:
            self.sent += 1
        while time.monotonic() < deadline:
            try:
                self._note(call(self._url, method="POST", body=body, seconds=10))
            except urllib.error.HTTPError as error:
                reason = f"{error.code}: {error.read()[:200]!r}"
                if error.code < http.client.INTERNAL_SERVER_ERROR and error.code != 429:
                    break
            except Exception as error:  # noqa: BLE001 - whatever it is, there is no answer
                reason = repr(error)
            else:
                return
            with self._lock:
                self.retried += 1
            time.sleep(0.2)
        with self._lock:
            self.lost.append(reason)

    def _note(self, answer: JsonObject) -> None:
        outputs = {output["name"]: output["data"] for output in answer["outputs"]}
        scores = outputs["score"]
        with self._lock:
            self.answered += 1
            self.versions[answer["model_version"]] += 1
            if len(scores) != NUM_CANDIDATES or not all(0 < one < 1 for one in scores):
                self.wrong.append(f"{answer['model_version']}: {json.dumps(scores)[:200]}")

    def _body(self) -> JsonObject | None:
        if self.day is None:
            return None
        with self._lock:
            user = int(self._random.random() ** 2 * self._num_users)
            items = self._random.sample(range(self._num_items), NUM_CANDIDATES)
            second = self._random.randrange(6 * 3600, 22 * 3600)
            device = self.device or self._random.choice(("phone", "tablet", "desktop"))
        midnight = datetime.datetime.combine(self.day, datetime.time(), datetime.UTC)
        moment = int((midnight.timestamp() + second) * 1_000_000)
        values: tuple[tuple[str, str, list[object]], ...] = (
            ("user_id", "INT64", [user]),
            ("item_id", "INT64", [*items]),
            ("device", "BYTES", [device]),
            (REQUEST_TIME.name, "INT64", [moment]),
        )
        inputs = [
            {"name": name, "shape": [len(data)], "datatype": kind, "data": data}
            for name, kind, data in values
        ]
        return {"inputs": inputs}
