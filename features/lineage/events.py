"""From what a job has read and written to OpenLineage's events, with its own classes."""

import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
from collections.abc import Mapping
from urllib.parse import urlsplit

from openlineage.client import facet_v2
from openlineage.client.event_v2 import (
    InputDataset,
    Job,
    OutputDataset,
    Run,
    RunEvent,
    RunState,
)
from openlineage.client.naming.dataset import S3, LocalFileSystem

from features.lineage import facets
from features.lineage.observed import Dataset, ModelFacts, Observed
from features.lineage.settings import DEFAULT_NAMESPACE, NAMESPACE

PARENT, ROOT_PARENT = "OPENLINEAGE_PARENT_ID", "OPENLINEAGE_ROOT_PARENT_ID"
"""Variables: the run that started this one, and the first of all: ``namespace/job/run id``."""
INTEGRATION = "WUKONG_RANKING"
_ENGINES = {"features": "pyspark", "training": "torch"}
"""By package the library with which its jobs compute."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobDescription:
    """The job of a run: the same in all of its events."""

    run_id: str
    package: str
    command: str
    dataset: str
    fingerprint: str
    """Of the data set's schema."""
    parameters: Mapping[str, str]
    """What it was asked, by flag."""
    first_day: datetime.date | None
    last_day: datetime.date | None
    environment: Mapping[str, str]

    @property
    def name(self) -> str:
        """Of the job; each data set has its own."""
        return f"{self.dataset}.{self.package}.{self.command.replace(' ', '-')}"


def event(
    job: JobDescription,
    state: RunState,
    observed: Observed,
    *,
    moment: datetime.datetime,
    error: str = "",
    skipped: str = "",
) -> RunEvent:
    """One event of a run.

    Args:
        job: The job.
        state: Where the run is.
        observed: What it has read and written until now.
        moment: When.
        error: Why it failed; empty: it did not.
        skipped: Why there was nothing to do; empty: there was.
    """
    facet_v2.set_producer(facets.PRODUCER)
    said: dict[str, facet_v2.RunFacet] = dict(_run_facets(job))
    if error:
        said["errorMessage"] = facet_v2.error_message_run.ErrorMessageRunFacet(error, "PYTHON")
    if skipped:
        said[f"{facets.PREFIX}skipped"] = facets.SkippedRunFacet(skipped)
    return RunEvent(
        eventTime=moment.isoformat(),
        eventType=state,
        producer=facets.PRODUCER,
        run=Run(job.run_id, said),
        job=Job(job.environment.get(NAMESPACE) or DEFAULT_NAMESPACE, job.name, _job_facets()),
        inputs=[_input(one) for one in observed.inputs],
        outputs=[_output(one) for one in observed.outputs],
    )


def _job_facets() -> dict[str, facet_v2.JobFacet]:
    kind = facet_v2.job_type_job.JobTypeJobFacet("BATCH", INTEGRATION, "JOB")
    return {"jobType": kind}


def _run_facets(job: JobDescription) -> dict[str, facet_v2.RunFacet]:
    parameter = facet_v2.execution_parameters_run.ExecutionParameter
    found: dict[str, facet_v2.RunFacet] = {
        f"{facets.PREFIX}schema": facets.SchemaRunFacet(job.dataset, job.fingerprint),
        "executionParameters": facet_v2.execution_parameters_run.ExecutionParametersRunFacet(
            [parameter(key=name, name=name, value=text) for name, text in job.parameters.items()]
        ),
    }
    if parent := _parent(job.environment):
        found["parent"] = parent
    if job.first_day and job.last_day:
        end = _midnight(job.last_day + datetime.timedelta(days=1))
        found["nominalTime"] = facet_v2.nominal_time_run.NominalTimeRunFacet(
            _midnight(job.first_day), end
        )
    if engine := _ENGINES.get(job.package):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found["processing_engine"] = facet_v2.processing_engine_run.ProcessingEngineRunFacet(
                version=importlib.metadata.version(engine), name=engine
            )
    return found


def _parent(environment: Mapping[str, str]) -> facet_v2.parent_run.ParentRunFacet | None:
    """Who started the job, as the environment says; None: nobody, or it cannot be read."""
    runs = facet_v2.parent_run
    own, first = (_split(environment.get(name, "")) for name in (PARENT, ROOT_PARENT))
    if own is None:
        return None
    root = first and runs.Root(run=runs.RootRun(first[2]), job=runs.RootJob(first[0], first[1]))
    return runs.ParentRunFacet(run=runs.Run(own[2]), job=runs.Job(own[0], own[1]), root=root)


def _split(text: str) -> tuple[str, str, str] | None:
    """Namespace, job and run id."""
    parts = text.rsplit("/", 2)
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else None


def _midnight(day: datetime.date) -> str:
    return datetime.datetime.combine(day, datetime.time(), tzinfo=datetime.UTC).isoformat()


def name_of(where: str) -> tuple[str, str]:
    """Namespace and name of what lies somewhere, by OpenLineage's naming.

    Example: ``s3://bucket/lake/shop/examples`` is ``lake/shop/examples`` of ``s3://bucket``.
    """
    if "://" not in where:
        local = LocalFileSystem(where)
        return local.get_namespace(), local.get_name()
    url = urlsplit(where)
    if url.scheme == "s3":
        remote = S3(url.netloc, url.path.strip("/"))
        return remote.get_namespace(), remote.get_name()
    host = url.netloc.rpartition("@")[2]  # never with a password
    return f"{url.scheme}://{host}", url.path.strip("/")


def _input(dataset: Dataset) -> InputDataset:
    namespace, name = name_of(dataset.where)
    rows = _num_rows(dataset)
    counted: dict[str, facet_v2.InputDatasetFacet] = {}
    if rows is not None:
        quality = facet_v2.data_quality_metrics_input_dataset.DataQualityMetricsInputDatasetFacet
        counted["dataQualityMetrics"] = quality(columnMetrics={}, rowCount=rows)
    if dataset.broken_rules is not None:
        counted["dataQualityAssertions"] = _assertions(dataset.broken_rules)
    return InputDataset(
        namespace=namespace, name=name, facets=_dataset_facets(dataset), inputFacets=counted
    )


def _output(dataset: Dataset) -> OutputDataset:
    namespace, name = name_of(dataset.where)
    rows = _num_rows(dataset)
    counted: dict[str, facet_v2.OutputDatasetFacet] = {}
    if rows is not None:
        statistics = facet_v2.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet
        counted["outputStatistics"] = statistics(rowCount=rows)
    return OutputDataset(
        namespace=namespace, name=name, facets=_dataset_facets(dataset), outputFacets=counted
    )


def _num_rows(dataset: Dataset) -> int | None:
    if dataset.rows is not None:
        return dataset.rows
    counted = [of_day.rows for of_day in dataset.days.values() if of_day.rows is not None]
    return sum(counted) if counted and len(counted) == len(dataset.days) else None


def _dataset_facets(dataset: Dataset) -> dict[str, facet_v2.DatasetFacet]:
    found: dict[str, facet_v2.DatasetFacet] = {
        "datasetType": facet_v2.dataset_type_dataset.DatasetTypeDatasetFacet(
            dataset.kind.value, dataset.sub_kind or None
        )
    }
    if dataset.version:
        found["version"] = facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet(
            dataset.version
        )
    if dataset.struct:
        field = facet_v2.schema_dataset.SchemaDatasetFacetFields
        columns = json.loads(dataset.struct)["fields"]
        found["schema"] = facet_v2.schema_dataset.SchemaDatasetFacet(
            [field(name=one["name"], type=_type_name(one["type"])) for one in columns]
        )
    return found | _own_facets(dataset)


def _own_facets(dataset: Dataset) -> dict[str, facet_v2.DatasetFacet]:
    found: dict[str, facet_v2.DatasetFacet] = {}
    if dataset.days:
        days: list[dict[str, object]] = [
            {"day": str(day), "contentHash": one.content_hash or None, "rows": one.rows}
            for day, one in sorted(dataset.days.items())
        ]
        found[f"{facets.PREFIX}partitions"] = facets.PartitionsDatasetFacet(days)
    if dataset.files:
        found[f"{facets.PREFIX}files"] = facets.FilesDatasetFacet(list(dataset.files))
    if dataset.model is not None:
        found[f"{facets.PREFIX}model"] = _model(dataset.model)
    return found


def _model(known: ModelFacts) -> facet_v2.DatasetFacet:
    return facets.ModelDatasetFacet(
        recipe=known.recipe,
        metrics=known.metrics,
        parents=known.parents,
        checkpoint=known.checkpoint,
        trainedThrough=known.trained_through,
        schemaFingerprint=known.schema_fingerprint,
        config=known.config,
        alias=known.alias,
    )


def _assertions(broken_rules: Mapping[str, str]) -> facet_v2.InputDatasetFacet:
    """A failed assertion for each broken rule; without one, that all were kept."""
    quality = facet_v2.data_quality_assertions_dataset
    failed = [
        quality.Assertion(
            assertion=rule.partition(":")[2] or rule,
            success=False,
            column=rule.partition(":")[0] if ":" in rule else None,
            actual=seen,
            name=rule,
        )
        for rule, seen in sorted(broken_rules.items())
    ]
    kept = [quality.Assertion(assertion="all_rules", success=True)]
    return quality.DataQualityAssertionsDatasetFacet(failed or kept)


def _type_name(of_column: object) -> str:
    """A column's type as JSON has it: a name, or what is nested as its kind."""
    return str(of_column["type"]) if isinstance(of_column, dict) else str(of_column)
