"""In the endpoint's image: an artifact is loaded as a pod loads it, and candidates are scored."""

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

URL = "http://127.0.0.1:15998/v2"


def call(path: str, body: bytes | None = None) -> bytes:
    """The answer to a GET, or to a POST with a body."""
    request = urllib.request.Request(
        URL + path, data=body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bytes(answer.read())


Path("/tmp/feast/synthetic").mkdir(parents=True)
Path("/tmp/feast/synthetic/registry.db").touch()
options = ["--dataset=synthetic", "--model=/trial/artifact", "--store=/tmp/feast"]
ports = ["--http-port=15998", "--grpc-port=15997", "--compiled=/tmp/compiled"]
server = subprocess.Popen([sys.executable, "-m", "serving", "serve", *options, *ports])
started = time.monotonic()
try:
    while time.monotonic() - started < 180 and server.poll() is None:
        try:
            call("/health/ready")
            break
        except OSError:
            time.sleep(0.5)
    seconds = time.monotonic() - started
    answer = json.loads(call("/models/synthetic/infer", Path("/trial/request.json").read_bytes()))
finally:
    server.terminate()
    server.wait(60)
print(json.dumps({"ready_seconds": round(seconds, 1), "outputs": answer["outputs"]}))
sys.exit(len(answer["outputs"][0]["data"]) != 3)
