"""An error that names the page of ``infra/runbooks`` that says what to do."""


class RunbookError(ValueError):
    """What a job found that a person, or a command, has to mend."""

    def __init__(self, reason: str, *, runbook: str) -> None:
        """Args: the sentence for people, and the page's name; it joins the job's JSON object."""
        super().__init__(reason)
        self.summary = {"runbook": runbook}
