"""Threads that do one thing again and again, and live through outages of what they depend on."""

import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType

from incident_pipelines.adapters.logs import fields
from incident_pipelines.core.errors import SourceUnavailable

LOGGER = logging.getLogger(__name__)
FIRST_PAUSE_SECONDS = 0.2
MAX_PAUSE_SECONDS = 5.0
JOIN_SECONDS = 10.0


class Loops:
    """The threads of one process."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._failed = False

    def add(self, name: str, step: Callable[[], float], wake: threading.Event | None = None) -> None:
        """Add a thread.

        Args:
            name: for the log.
            step: does what there is to do and returns after how many seconds to look again.
            wake: set by others to have it look at once.
        """
        wake = wake or threading.Event()
        self._threads.append(threading.Thread(target=self._run, args=(name, step, wake), name=name, daemon=True))

    def run(self) -> int:
        """Run until SIGTERM or SIGINT, or until a step fails in a way that no outage explains.

        Returns:
            The exit code: 0 after a signal; supervisors start the process again after anything else.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask_to_stop)
        self.start()
        # A wait without end would keep the main thread from seeing signals on some systems.
        while not self.stopping.wait(1.0):
            pass
        self.join()
        return 1 if self._failed else 0

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Ask all threads to end and wait for them."""
        self.stopping.set()
        for thread in self._threads:
            thread.join(JOIN_SECONDS)

    def _ask_to_stop(self, number: int, _frame: FrameType | None) -> None:
        LOGGER.info("stopping", extra=fields(signal=signal.Signals(number).name))
        self.stopping.set()

    def _run(self, name: str, step: Callable[[], float], wake: threading.Event) -> None:
        pause_seconds = 0.0
        while not self.stopping.is_set():
            try:
                wait_seconds = step()
                if pause_seconds:
                    LOGGER.info("works again", extra=fields(loop=name))
                pause_seconds = 0.0
            except SourceUnavailable as error:
                if not pause_seconds:
                    LOGGER.warning("waits for what it depends on", extra=fields(loop=name, cause=str(error)))
                pause_seconds = min(max(2 * pause_seconds, FIRST_PAUSE_SECONDS), MAX_PAUSE_SECONDS)
                self.stopping.wait(pause_seconds)
                continue
            except Exception:
                LOGGER.exception("ends the process", extra=fields(loop=name))
                self._failed = True
                self.stopping.set()
                return
            wake.wait(min(wait_seconds, 1.0))
            wake.clear()
