"""The requests of ``python -m serving``: the flags of each command, and what it is for."""

import collections
import datetime
from pathlib import Path

from features.datasets.catalog import known
from features.options import OfDataset, OfDay, folder, from_flags, local_folder, option
from features.parity.results import max_unexplained, parity_is_required
from features.places import Place
from serving.release.analysis import Limits
from serving.release.endpoint_client import DEFAULT_URL, NOWHERE
from serving.release.kserve.service import Service


@from_flags
class OfArtifacts:
    """A request about exported rankers."""

    artifacts: Place = folder("artifacts", "the exported rankers")


@from_flags
class OfTracking:
    """A request about the registry."""

    tracking: Path = local_folder("mlflow", "the MLflow database, which holds the aliases")


@from_flags
class OfEndpoint:
    """A request about a running server."""

    endpoint: str | None = option(
        f"REST address of the server, which must answer; without it {DEFAULT_URL}, if a "
        f"server answers there; {NOWHERE}: there is none",
        metavar="URL",
        default=None,
    )


@from_flags
class _OfLocalServer(OfEndpoint, OfTracking):
    dataset: str | None = option(
        "the data set; required without --service", metavar="NAME", parse=known, default=None
    )


@from_flags
class OfCluster:
    """A request about an InferenceService, wherever the cluster is."""

    service: str | None = option("name of the InferenceService", default=None)
    namespace: str = option("its namespace", default="default")
    kubeconfig: str | None = option("file; without it, $KUBECONFIG or ~/.kube/config", default=None)
    context: str | None = option(
        "context of the kubeconfig; without it, the current one", default=None
    )


@from_flags
class _TakesOver:
    force: bool = option("take over fields that others manage", default=False)


@from_flags
class _AwaitsReady:
    ready_timeout_seconds: float = option(
        "a service that is not ready fails after this", default=Limits.ready_timeout_seconds
    )


@from_flags
class OfCandidate(OfCluster, _OfLocalServer):
    """A request about the candidate of a day, where it is named by its day."""

    date: datetime.date | None = option(
        "day of the candidate, whose gate must have said promote", default=None
    )
    upscaled: bool = option("the day's candidate that grew, not the daily one", default=False)
    again: bool = option("a version that was rolled back, all the same", default=False)
    reports: Place = folder("reports", "where the gate's decisions and results of parity are")
    max_unexplained: float = option(
        "share of candidates with an unexplained mismatch, of `python -m features parity`, above "
        "which the candidate of a day is held",
        default_factory=max_unexplained,
    )
    max_parity_age_hours: float = option(
        "a result of parity that was made longer ago says nothing", default=48.0
    )
    require_parity: bool = option(
        "hold, too, where no result of parity says anything",
        default_factory=parity_is_required,
    )


@from_flags
class ServeRequest(OfTracking, OfArtifacts):
    """Answer ranking requests until SIGINT or SIGTERM.

    One model for each --dataset, with its name, over REST and gRPC: features from the online store,
    scores from the champion. Starts without a champion too: /v2/health/ready then answers 503 until
    a load succeeds.
    """

    datasets: tuple[str, ...] = option(
        "a data set; given several times, the server has a model for each",
        flag="--dataset",
        metavar="NAME",
        parse=known,
        is_repeated=True,
    )
    store: Place = folder("feast", "the Feast registry and online store")
    compiled: Path = local_folder(
        "compiled", "native code of this machine, which only this user may write"
    )
    host: str = option("address to listen on", default="127.0.0.1")
    http_port: int = option("port of REST", default=8081)
    grpc_port: int = option("port of gRPC", default=8082)
    metrics_port: int | None = option(
        "a port for metrics alone, which asks for no token: for a cluster's own network",
        default=None,
    )
    model: Place | None = option(
        "serve this artifact, whatever the champion is, such as a folder mounted in a pod; with "
        "one --dataset",
        metavar="DIR",
        default=None,
    )

    def __post_init__(self) -> None:
        """ValueError for a data set that is named twice, or one artifact for several."""
        for name, count in collections.Counter(self.datasets).items():
            if count > 1:
                raise ValueError(f"--dataset: {name} {count} times; each data set once")
        if self.model is not None and len(self.datasets) > 1:
            raise ValueError(
                f"--model: {self.model} for {', '.join(self.datasets)}; with one --dataset"
            )


@from_flags
class DeployRequest(_AwaitsReady, _TakesOver, Service, OfCluster):
    """Apply an InferenceService to a Kubernetes cluster with KServe and wait until it is ready.

    One model, which has all traffic at once: for the first one, or to change what stays around the
    model. Another version than the one that serves is refused: it takes over by `canary`. With
    --dry-run only the manifest is printed, without the JSON, and no cluster is needed.
    """

    version: str = option("version of the exported ranker")
    storage_uri: str = option("its folder, such as s3://bucket/folder")
    end_canary: bool = option(
        "in mode Standard, although a canary is under way, which then ends", default=False
    )
    dry_run: bool = option("print the manifest as YAML only", default=False)


@from_flags
class CanaryRequest(Limits, _TakesOver, OfCandidate):
    """Give a new model 5, 25, 50 and 95 percent of the traffic, then all.

    At 0 it must get ready. At each step it must be shown to do as well as the stable model in the
    same minutes: failed and degraded requests, p95, scores. At 100 the stable model stays up;
    `promote` then lets it go. When a check is broken, or not shown to be kept in four times
    --min-requests, or time is up, or on SIGINT or SIGTERM, all traffic goes back and the exit code
    is 1; a version that did not hold is not promoted by a re-run. A local server without any
    traffic is no failure: the JSON says `no traffic`. Works on the local server, for the candidate
    of a day whose gate said promote or for a version, and with --service on a cluster.
    """

    version: str | None = option("version of the exported ranker, instead of --date", default=None)
    storage_uri: str | None = option(
        "with --service: its folder, such as s3://bucket/{version}, where {version} becomes the "
        "version",
        default=None,
    )
    image: str | None = option("container image; without it, the stable model's", default=None)

    def __post_init__(self) -> None:
        """ValueError for limits that are none, and where version or server are not named once."""
        super().__post_init__()
        if bool(self.date) == bool(self.version):
            raise ValueError("--date or --version: one of them")
        if self.date and not self.dataset:
            raise ValueError("--date: with --dataset only")
        if self.service and not self.storage_uri:
            raise ValueError("--storage-uri: required with --service")
        if not (self.service or self.dataset):
            raise ValueError("--dataset is required, or --service for a cluster")


@from_flags
class PromoteRequest(_AwaitsReady, _TakesOver, OfCandidate):
    """Make a day's candidate the champion and have the endpoint load it.

    Moves the alias `champion` to the candidate of a day whose gate said promote, has the endpoint
    load it, and waits until it answers with that version. When the endpoint cannot load it, the
    alias goes back and the command fails; so it does when a server that --endpoint names does not
    answer. When none is named and none answers, the alias moves and the JSON says so. A day that is
    not newer than the champion's is skipped; with --upscaled, a ranker that grew may replace the
    champion of its own day, shown to be better than it. With --service it works on a cluster
    instead: the canary of that InferenceService, which must have passed its steps and have all its
    pods ready, becomes its stable model. --version names it; or --dataset and --date do, and then
    it becomes the champion too.
    """

    version: str | None = option(
        "version of the canary on a cluster, instead of --date", default=None
    )

    def __post_init__(self) -> None:
        """ValueError where day or server are not named."""
        has_day = bool(self.dataset and self.date)
        if not (has_day or self.service):
            raise ValueError("--dataset and --date are required, or --service for a cluster")
        if not has_day and (self.dataset or self.date or self.upscaled):
            raise ValueError("--service: with both --dataset and --date, or with neither")
        if has_day == bool(self.version):
            raise ValueError("--version: with --service, and without --dataset and --date")


@from_flags
class RollbackRequest(_AwaitsReady, OfCluster, _OfLocalServer, OfArtifacts):
    """Undo the newest change of the model that serves.

    On the local server: a canary loses its traffic; without a canary the champion gives way to the
    one before it, and running this again goes further back. What was taken back is not promoted
    again by a re-run of its day. With --service, on a cluster: all traffic is taken from the
    service's canary; fields that others manage are taken over where need be.
    """

    to: str | None = option("make this version the champion", metavar="VERSION", default=None)

    def __post_init__(self) -> None:
        """ValueError where one server is not named, and for a version on a cluster."""
        if bool(self.service) == bool(self.dataset):
            raise ValueError("--dataset for the local server, or --service for a cluster")
        if self.service and self.to:
            raise ValueError("--to: not with --service")


@from_flags
class PruneLogRequest(OfDay, OfDataset):
    """Join the small files of the prediction log, and let its old days go.

    The hours of a day that is over become a file each; days before RANKING_LOG_KEEP_DAYS are
    deleted. Servers go on writing meanwhile. Nothing to do where there is no log.
    """

    log: Place | None = option(
        "the folder of the logs; without it, RANKING_LOG_FOLDER", metavar="DIR", default=None
    )
    grace_hours: int = option(
        "delete files that no version names when they are older: more than a write and the longest "
        "reader take",
        default=48,
    )


@from_flags
class ShadowRequest(OfEndpoint, OfTracking, OfDataset):
    """Let a challenger score copies of a share of the requests on the local server.

    Its scores are compared and logged, and no caller gets them. The share 0 ends it.
    """

    version: str | None = option("the challenger; without it, the alias `challenger`", default=None)
    percent: float = option("of the requests; 0: none", default=10.0)
