"""The one way a task becomes a job, whichever launcher starts it (RANKING_LAUNCHER).

``job(shop, "ingest", "features", "ingest", folders="landing lake")`` is a task that runs
``python -m features ingest --dataset=… --date=… --landing=… --lake=…``: as a process of the worker,
or as a pod or a TrainJob (``ranking_launchers``). Its log streams into the task's log. Its summary
is one JSON object, the task's XCom: the last line of a process' stdout, the result object of a pod.
Its exit code decides:

    0   done
    99  nothing to do: the task is skipped, for the reason that the JSON gives
    2   called wrongly: failed, and not retried
    any other, or a signal: failed, and retried

The JSON's ``report`` is a path under the reports folder; the task gets a link to that page. Its
``runbook`` is the page of infra/runbooks that the alert of this failure names.
"""

import datetime
import logging
import signal
from collections.abc import Mapping, Sequence
from typing import cast

import ranking_alerts
import ranking_assets as assets
from airflow.sdk import BaseOperator, BaseOperatorLink, Context
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
)
from airflow.sdk.types import TaskInstanceKey
from ranking_assets import DataSet
from ranking_launchers import lease as leases
from ranking_launchers import parent_run
from ranking_launchers.job import DeferringLauncher, Ended, JobSpec, Launcher
from ranking_launchers.processes import ProcessLauncher

EXIT_USAGE = 2
EXIT_NOTHING_TO_DO = 99
DAY = "{{ day(dag_run, params) }}"
"""Template of the day for which a run works, in a DAG of ``ranking_dag``."""
LEARNT_DAY = "{{ learnt_day(dag_run, params) }}"
"""Template of the newest day whose labels are final then; the same day where rows have them."""
OF_LEARNT_DAY = {
    *("examples", "train", "export", "evaluate", "upscale", "scaling", "canary", "promote"),
}
"""Commands that work for it: what is learnt, and all that follows from it."""
ANCHOR = "--anchor-days={{ params.anchor_days }}"
"""Of the gate, and of the retention that keeps for it what it compares with."""
HOLDOUT = "--holdout-days={{ params.holdout_days }}"
AGAIN = "{% if params.again %}--again{% endif %}"
"""Of a run by hand: a day that landed again is taken, whoever has learnt what it was."""
MIN_REQUESTS = "--min-requests={{ params.min_requests }}"
SIZES = {"features": "spark", "training": "model", "serving": "rollout"}
"""The size class of a package's jobs on Kubernetes, of ``infra/kubernetes/sizes.yaml``."""
log = logging.getLogger(__name__)


class JobFailedError(AirflowException):
    """A job failed; another try may help."""

    def __init__(self, message: str, *, runbook: str = "") -> None:
        """Args: the job's error, and the runbook that its alert names; empty: the task's."""
        super().__init__(message)
        self.runbook = runbook


class ReportLink(BaseOperatorLink):
    """Button on a task that opens the page which its job wrote."""

    name = ""
    """Text of the button."""
    xcom_key = "report_link"
    """Where the task runner leaves the link for the UI."""

    def __init__(self, label: str) -> None:
        """A button with this text."""
        self.name = label

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Address under the reports plugin; the data set's index where there is no page."""
        task = cast("JobOperator", operator)
        return f"{assets.REPORTS_URL}/{task.report or task.page or task.data_set.name + '/'}"


class JobOperator(BaseOperator):
    """Runs ``python -m <package> <command> <arguments>`` and returns its JSON summary.

    Arguments are templates; one that renders to an empty text is left out.
    """

    template_fields: Sequence[str] = ("arguments", "page")
    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        data_set: DataSet,
        package: str,
        command: str,
        arguments: Sequence[str],
        link: str,
        page: str = "",
        size: str = "",
        takes_lease: bool = True,
        partitions: str = "",
        **kwargs: object,
    ) -> None:
        """A task for one command.

        Args:
            data_set: Whose lease it takes.
            package: ``features``, ``training`` or ``serving``.
            command: A command of that package.
            arguments: Flags; templates.
            link: Text of the button that opens the job's page.
            page: That page, where the job ends without naming one; a template.
            size: Its size class on Kubernetes; empty: the package's.
            takes_lease: Not where it only looks at what other runs write.
            partitions: What its summary calls the days that others are to act on; each outlet gets
                an event for each, and where there are none the task is skipped. Empty: no such.
            **kwargs: Passed to the base class.
        """
        super().__init__(**kwargs)
        self.data_set = data_set
        self.package = package
        self.command = command
        self.arguments = list(arguments)
        self.operator_extra_links = (ReportLink(link),)
        self.page = page
        self.size = size or SIZES[package]
        self.takes_lease = takes_lease
        self.partitions = partitions
        self.report = ""
        self.launcher: Launcher | None = None

    def execute(self, context: Context) -> dict[str, object]:
        """Take the lease, start the job, and turn its end into the task's."""
        return self._conclude(context, self._launcher(context).start())

    def resume(self, context: Context, event: Mapping[str, object]) -> dict[str, object]:
        """Go on where the task was deferred."""
        launcher = cast("DeferringLauncher", self._launcher(context))
        return self._conclude(context, launcher.resume(event))

    def on_kill(self) -> None:
        """End the job and all that it started: the task was cleared, stopped or timed out."""
        if self.launcher is not None:
            self.launcher.kill()

    def _launcher(self, context: Context) -> Launcher:
        ti = context["ti"]
        lease = leases.hold(context, self.data_set) if self.takes_lease else 0
        spec = JobSpec(
            package=self.package,
            command=self.command,
            arguments=tuple(argument for argument in self.arguments if argument),
            size=self.size,
            environment={
                "RANKING_RUN": f"{ti.dag_id}/{ti.run_id}",
                "RANKING_LEASE": str(lease),
                **parent_run.variables(ti),
            },
        )
        if assets.LAUNCHER == "process":
            self.launcher = ProcessLauncher(spec, on_line=self.log.info)
        else:
            # The provider and its client take seconds to import, which no DAG file may.
            from ranking_launchers.kubernetes_launcher import launcher_of

            self.launcher = launcher_of(spec, context, self)
        return self.launcher

    def _conclude(self, context: Context, ended: Ended) -> dict[str, object]:
        summary = ended.summary
        self.report = str(summary.get("report", ""))
        name = f"{self.package} {self.command}"
        if ended.exit_code == 0:
            if not summary:
                raise AirflowException(f"{name}: {ended.source} {ended.output!r}; not JSON")
            ranking_alerts.raised(context, self.data_set, summary)
            self._emit_partitions(context, summary)
            return summary
        # A task that is skipped or fails returns nothing, but its summary says why.
        context["ti"].xcom_push(key="return_value", value=summary)
        if ended.exit_code == EXIT_NOTHING_TO_DO:
            raise AirflowSkipException(str(summary.get("skipped", "nothing to do")))
        if ended.exit_code == EXIT_USAGE:
            raise AirflowFailException(f"{name}: called wrongly: {ended.error}")
        if ended.exit_code < 0:
            cause = signal.Signals(-ended.exit_code).name
            # What the task's own page says of wrong data is no help with a job that was killed.
            raise JobFailedError(
                f"{name}: ended by {cause}; {ended.error or 'no error line'}",
                runbook="" if self.command == "train" else "job-failed",
            )
        raise JobFailedError(
            f"{name}: {ended.error or f'exit code {ended.exit_code}'}",
            runbook=str(summary.get("runbook", "")),
        )

    def _emit_partitions(self, context: Context, summary: Mapping[str, object]) -> None:
        """Let each outlet have an event for each day on which others are to act."""
        if not self.partitions:
            return
        days = cast("list[str]", summary[self.partitions])
        if not days:
            context["ti"].xcom_push(key="return_value", value=dict(summary))
            raise AirflowSkipException(f"{self.partitions}: no day; nobody has to act")
        for outlet in self.outlets:
            context["outlet_events"][outlet].add_partitions(days)


def job(
    data_set: DataSet,
    task_id: str,
    package: str,
    command: str,
    *arguments: str,
    folders: str,
    link: str = "Reports",
    page: str = "",
    size: str = "",
    partitions: str = "",
    is_dated: bool = True,
    takes_lease: bool = True,
    **kwargs: object,
) -> JobOperator:
    """The task that runs one command of one package, for the run's day or the one it learns.

    Args:
        data_set: What it works on.
        task_id: Name of the task.
        package: ``features``, ``training`` or ``serving``.
        command: A command of that package.
        *arguments: Flags in addition to the data set, the day and the folders; templates.
        folders: Names of the folders that the command gets, separated by spaces.
        link: Text of the button that opens the job's page.
        page: As the operator takes it.
        size: As the operator takes it.
        partitions: As the operator takes it.
        is_dated: Whether the command works for a day.
        takes_lease: As the operator takes it.
        **kwargs: Passed to the operator.
    """
    day = LEARNT_DAY if command in OF_LEARNT_DAY else DAY
    date = [f"--date={day}"] if is_dated else []
    named = assets.folder_flags(folders)
    arguments = (f"--dataset={data_set.name}", *date, *named, *arguments)
    return JobOperator(
        task_id=task_id,
        data_set=data_set,
        package=package,
        command=command,
        arguments=arguments,
        link=link,
        page=page,
        size=size,
        takes_lease=takes_lease,
        partitions=partitions,
        **kwargs,
    )


def validation(data_set: DataSet, table: str) -> JobOperator:
    """The task that checks the impressions or the features of the run's day; has their page."""
    return job(
        data_set,
        f"validate_{table}",
        "features",
        "validate",
        f"--table={table}",
        folders="lake docs",
        # A day that is stopped has a page too.
        link="Data Docs",
        page=f"{data_set.name}/quality/{DAY}-{table}.html",
        outlets=[data_set.asset(table)],
        execution_timeout=datetime.timedelta(minutes=20),
    )
