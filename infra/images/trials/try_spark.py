"""In Spark's image: a day is landed and read by Spark, and an executor looks for its driver."""

import json
import os
import subprocess
import sys


def run(command: str, *options: str) -> None:
    """Run a command of features, and show its summary."""
    started = [sys.executable, "-m", "features", command, "--dataset=synthetic", *options]
    done = subprocess.run(started, stdout=subprocess.PIPE, text=True, check=True)
    print(json.loads(done.stdout.splitlines()[-1]))


run("fetch", "--rows=2000", "--users=50", "--items=40", "--days=2")
run("ingest", "--date=2025-01-01")

settings = {
    "SPARK_LOCAL_IP": "127.0.0.1",
    "SPARK_LOCAL_HOSTNAME": "127.0.0.1",
    "SPARK_DRIVER_URL": "spark://CoarseGrainedScheduler@127.0.0.1:1",
    "SPARK_EXECUTOR_ID": "1",
    "SPARK_EXECUTOR_CORES": "1",
    "SPARK_EXECUTOR_MEMORY": "512m",
    "SPARK_APPLICATION_ID": "trial",
    "SPARK_EXECUTOR_POD_IP": "127.0.0.1",
    "SPARK_EXECUTOR_POD_NAME": "trial",
    "SPARK_RESOURCE_PROFILE_ID": "0",
    "SPARK_JAVA_OPT_0": "-Dspark.rpc.numRetries=1",
}
executor = subprocess.run(
    ["/usr/local/bin/spark-entrypoint", "executor"],
    env={**os.environ, **settings},
    capture_output=True,
    text=True,
    check=False,
)
print(executor.stderr[-1000:])
sys.exit(executor.returncode == 0 or "127.0.0.1:1" not in executor.stdout + executor.stderr)
