"""What is deployed: a service, and the model that it begins with.

No heavy import: the command line takes its flags from here.
"""

import dataclasses
import enum
import re

from features.options import OfDataset, from_flags, option

MAX_LABEL_CHARACTERS = 63
_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?")


class Mode(enum.StrEnum):
    """How KServe runs the pods."""

    STANDARD = "Standard"
    KNATIVE = "Knative"


class Autoscaler(enum.StrEnum):
    """What decides the number of pods; KPA is Knative's own."""

    HPA = "hpa"
    KEDA = "keda"
    KPA = "kpa"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """One exported ranker: its version, and where the cluster fetches its folder from."""

    version: str
    storage_uri: str

    def __post_init__(self) -> None:
        """Check what the cluster would reject only once the pod starts."""
        if not re.fullmatch(r"[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?", self.version):
            raise ValueError(
                f"version: {self.version!r}; at most {MAX_LABEL_CHARACTERS} letters, digits, "
                "'-', '_' or '.', as in a label's value"
            )
        if not re.fullmatch(r"[a-z][a-z0-9+.-]*://\S+", self.storage_uri):
            raise ValueError(f"storage_uri: {self.storage_uri!r}; such as s3://bucket/folder")

    @property
    def revision(self) -> str:
        """The version as a part of the names of Kubernetes objects."""
        return "v" + re.sub(r"[^a-z0-9]+", "-", self.version.lower()).strip("-")


@from_flags
class Service(OfDataset):
    """What stays when the model changes."""

    service: str = option("name of the InferenceService")
    namespace: str = option("its namespace", default="default")
    image: str = option("container image with this package")
    store_claim: str = option("volume claim with the online store")
    secret: str = option(
        "secret whose entries become the pod's environment, such as RANKING_TOKEN", default=""
    )
    tls_secret: str = option(
        "secret of type kubernetes.io/tls with which pods answer over TLS", default=""
    )
    service_account: str = option(
        "service account of the pods, whose secrets give access to --storage-uri", default=""
    )
    mode: Mode = option("of KServe", default=Mode.STANDARD)
    autoscaler: Autoscaler | None = option("hpa, or kpa in mode Knative", default=None)
    prometheus: str = option(
        "address of Prometheus: keda then counts requests at one time, not the processor's time",
        default="",
    )
    min_replicas: int = option("pods at least", default=2)
    max_replicas: int = option("pods at most", default=4)
    cpu: str = option("CPUs requested for a pod, and its limit", default="2")
    memory: str = option("memory requested for a pod, and its limit", default="4Gi")

    def __post_init__(self) -> None:
        """ValueError with field, value and limit for what KServe would reject or ignore."""
        optional = ("secret", "tls_secret", "service_account")
        for field in ("service", "namespace", "store_claim", *optional):
            value = getattr(self, field)
            if not _LABEL.fullmatch(value) and (value or field not in optional):
                raise ValueError(f"{field}: {value!r}; lower-case letters, digits and '-'")
        for field in ("cpu", "memory"):
            if not _QUANTITY.fullmatch(value := getattr(self, field)):
                raise ValueError(f"{field}: {value!r}; a quantity such as 500m or 4Gi")
        if not 1 <= self.min_replicas <= self.max_replicas:
            raise ValueError(
                f"min_replicas: {self.min_replicas}; from 1 to max_replicas, {self.max_replicas}"
            )
        if (self.mode is Mode.KNATIVE) != (self.scaled_by is Autoscaler.KPA):
            raise ValueError(
                f"autoscaler: {self.scaled_by.value}; hpa or keda in mode Standard, kpa in Knative"
            )

        if self.tls_secret and self.mode is Mode.KNATIVE:
            raise ValueError(f"tls_secret: {self.tls_secret}; in mode Standard, Knative's has none")
        if self.prometheus and self.scaled_by is not Autoscaler.KEDA:
            raise ValueError(f"prometheus: {self.prometheus!r}; with autoscaler keda only")

    @property
    def scaled_by(self) -> Autoscaler:
        """The autoscaler that was asked for, or the mode's own."""
        own = Autoscaler.HPA if self.mode is Mode.STANDARD else Autoscaler.KPA
        return self.autoscaler or own
