"""An error that names the page of ``infra/runbooks`` that says what to do."""


class RunbookError(ValueError):
    """A problem that a person or a command has to repair."""

    def __init__(self, reason: str, *, runbook: str) -> None:
        """Args: the sentence for people, and the page's name; it joins the job's JSON object."""
        super().__init__(reason)
        self.summary = {"runbook": runbook}
