"""A time-out for engines inside this process, which have none of their own."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.reconciliation.comparison import InvalidComparison


@contextmanager
def asking(
    name: str, seconds: float, interrupt: Callable[[], None], errors: tuple[type[Exception], ...]
) -> Iterator[None]:
    """Interrupt what takes too long, and say what went wrong.

    Args:
        name: what messages call the side.
        interrupt: ends what is running, from another thread.
        errors: of the driver.

    Raises:
        SourceUnavailable: it took too long.
        InvalidComparison: the engine refused.
    """
    late = threading.Event()

    def end() -> None:
        late.set()
        interrupt()

    watch = threading.Timer(seconds, end)
    watch.daemon = True
    watch.start()
    try:
        yield
    except errors as error:
        if late.is_set():
            raise SourceUnavailable(f"{name} did not answer within {seconds:g} s") from error
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InvalidComparison(f"{name} cannot be read: {first_line}") from error
    finally:
        watch.cancel()
