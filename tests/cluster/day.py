"""``make cluster-test``: one day on the parts of a cluster, without containers.

Real are PostgreSQL (Airflow's metadata, MLflow's records, Feast's registry), Redis, an S3 server,
Spark standalone with two workers, and Airflow with its triggerer. The Kubernetes API is a stand-in
at the wire (kmock), and so are kubelets and Trainer's controller (``support.cluster.kubelet``: each
pod is a process of another user, which sees no folder of this run) and KServe's controller.

A history is built on a disk and copied to S3. Then the same day is built twice: on the disk by this
machine's jobs, and on S3 by Airflow's pods, up to a promoted InferenceService, while one executor, one
pod and one training node are killed. The last line of stdout is JSON: ``hashes_equal``, ``pods``,
``killed``, ``seconds``.
"""

import asyncio
import contextlib
import dataclasses
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from kmock import Server as ApiHttp
from support.cluster import postgres, sandbox
from support.cluster.kubelet import Kubelet, image_environment
from support.cluster.spark_nodes import SparkNodes
from support.dags.job_cluster import JobCluster
from support.serving.release.kubernetes_api import ApiServer
