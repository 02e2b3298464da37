"""The Spark Connect server of the local stack: one JVM that the jobs of a day share.

A job that starts its own Spark waits for a JVM, and then runs all its code cold. Here a
job is a client: it sends its query plans and reads the answers (SPARK_REMOTE in
features/spark/session.py).
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import pyspark

from features.spark.session import SESSION_CONF, driver_conf, local_conf
from infra.local.settings import HOST, Settings

SERVER_CLASS = "org.apache.spark.sql.connect.service.SparkConnectServer"
_SUBMIT = Path(pyspark.__file__).parent / "bin" / "spark-submit"
_CLIENT_SETTINGS = ("SPARK_REMOTE", "SPARK_LOCAL_REMOTE", "SPARK_CONNECT_MODE_ENABLED")


def command(port: int) -> list[str]:
    """Starts the server in the foreground, on loopback."""
    conf = {
        **SESSION_CONF,
        **driver_conf(),
        **local_conf(),
        "spark.log.level": "WARN",
        "spark.connect.grpc.binding.address": HOST,
        "spark.connect.grpc.binding.port": str(port),
        # A killed job does not fetch its results; its query should not keep the cores busy.
        "spark.connect.execute.manager.detachedTimeout": "30s",
        # The push sends no query until impressions land, which may take a night; a job that ends
        # releases its session.
        "spark.connect.session.manager.defaultSessionTimeout": "-1",
    }
    flags = [word for key, value in conf.items() for word in ("--conf", f"{key}={value}")]
    return [str(_SUBMIT), "--master", "local[*]", "--class", SERVER_CLASS, *flags, "spark-internal"]


def environment(settings: Settings, base: Mapping[str, str]) -> dict[str, str]:
    """What the server sees: the token that it asks of its clients, and nothing of a client's."""
    kept = {name: value for name, value in base.items() if name not in _CLIENT_SETTINGS}
    return {
        **kept,
        "SPARK_LOCAL_IP": HOST,
        # Its tasks read an object store by our code; Spark would take any python3 on the path.
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_CONNECT_AUTHENTICATE_TOKEN": settings.spark_token,
    }
