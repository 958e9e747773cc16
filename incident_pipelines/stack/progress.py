"""Showing a person what a command is doing."""

import time
from types import TracebackType

from rich.console import Console
from rich.status import Status

_LOG_INTERVAL_SECONDS = 5.0


class Progress:
    """Shows one step at a time, and each finished one with the seconds it took.

    On a terminal the current step has a spinner; in a log every step is one line as it begins. A step whose text
    differs from the former one in its numbers only replaces it.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._step: str | None = None
        self._since = 0.0
        self._line = ""
        self._printed = 0.0
        self._status: Status | None = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._finish("[red]✗[/red]" if error else "[green]✓[/green]")

    def report(self, step: str) -> None:
        """Begin a step, which ends the former one."""
        if self._step is not None and _without_numbers(step) == _without_numbers(self._step):
            is_due = step != self._line and time.monotonic() - self._printed > _LOG_INTERVAL_SECONDS
            if is_due and not self._console.is_terminal:
                self._print_line(step)
            self._step = step
            if self._status is not None:
                self._status.update(_escaped(step))
            return
        self._finish("[green]✓[/green]")
        self._step, self._since = step, time.monotonic()
        if self._console.is_terminal:
            self._status = self._console.status(_escaped(step))
            self._status.start()
        else:
            self._print_line(step)

    def _print_line(self, step: str) -> None:
        self._console.print(f"  {step}", markup=False, highlight=False, soft_wrap=True)
        self._line, self._printed = step, time.monotonic()

    def _finish(self, mark: str) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
            seconds = time.monotonic() - self._since
            self._console.print(f"{mark} {_escaped(self._step or '')} [dim]{seconds:.1f} s[/dim]", highlight=False)
        self._step = None


def _without_numbers(step: str) -> str:
    return "".join(letter for letter in step if not letter.isdigit())


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")
