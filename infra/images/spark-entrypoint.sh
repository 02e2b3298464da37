#!/usr/bin/env bash
# What a pod of the Spark image runs: its command, or an executor where Spark's driver asks for one.
# The driver puts an executor's settings into its environment. pyspark's wheel has no such script.
set -euo pipefail
[ "${1:-}" = executor ] || exec "$@"

mapfile -t options < <(env | sed -nE 's/^SPARK_JAVA_OPT_([0-9]+)=/\1 /p' | sort -n | cut -d' ' -f2-)
exec java "${options[@]}" "-Xms$SPARK_EXECUTOR_MEMORY" "-Xmx$SPARK_EXECUTOR_MEMORY" \
    -cp "${SPARK_CONF_DIR:-$SPARK_HOME/conf}:$SPARK_HOME/jars/*" \
    org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend \
    --driver-url "$SPARK_DRIVER_URL" --executor-id "$SPARK_EXECUTOR_ID" --cores "$SPARK_EXECUTOR_CORES" \
    --app-id "$SPARK_APPLICATION_ID" --hostname "$SPARK_EXECUTOR_POD_IP" \
    --resourceProfileId "$SPARK_RESOURCE_PROFILE_ID" --podName "$SPARK_EXECUTOR_POD_NAME"
