"""In MLflow's image: the server makes its tables, and keeps a registered model."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

URL = "http://127.0.0.1:15999"


def call(path: str, body: object = None) -> bytes:
    """The answer to a GET, or to a POST with a body."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        URL + path, data=data, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return bytes(answer.read())


command = ["mlflow", "server", "--port=15999", "--backend-store-uri=sqlite:////tmp/mlflow.db"]
server = subprocess.Popen([*command, "--workers=1", "--no-serve-artifacts"], start_new_session=True)
try:
    for _ in range(120):
        try:
            call("/health")
            break
        except OSError:
            time.sleep(1)
    call("/api/2.0/mlflow/registered-models/create", {"name": "ranker"})
    found = call("/api/2.0/mlflow/registered-models/get?name=ranker")
finally:
    os.killpg(server.pid, signal.SIGTERM)
    server.wait(30)
print(found.decode())
sys.exit(b'"ranker"' not in found)
