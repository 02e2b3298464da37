"""A request to load versions, which its caller may give up until the versions serve."""

import logging
import threading
from http import HTTPStatus

from serving.protocol.errors import RequestError

logger = logging.getLogger(__name__)


class LoadRequest:
    """Decides between the thread that loads and the caller that waits for it.

    A thread cannot be stopped. But a version that serves after its caller got an error would be a
    version that no one knows of.
    """

    def __init__(self, seconds: float) -> None:
        """Args: the seconds that the caller waits."""
        self._seconds = seconds
        self._lock = threading.Lock()
        self._is_done = self._is_given_up = False

    def give_up(self) -> bool:
        """Whether the loaded versions will not serve; False where the change has begun already."""
        with self._lock:
            self._is_given_up = not self._is_done
            return self._is_given_up

    def begin_change(self) -> None:
        """Let the loaded versions serve from now on; RequestError where the caller gave up."""
        with self._lock:
            if self._is_given_up:
                logger.warning("load: ready too late, and not taken up")
                raise self.too_late()
            self._is_done = True

    def too_late(self) -> RequestError:
        """The error (409) of a load that takes longer than its caller waits."""
        limit = f"within {self._seconds:g} seconds; what was loaded before stays"
        return RequestError("load", "not done", limit, status=HTTPStatus.CONFLICT)
