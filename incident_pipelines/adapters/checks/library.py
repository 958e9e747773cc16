"""Loading the check library: late, at less cost than it asks for, and without a mark on the process."""

import importlib
import importlib.util
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

# The library imports these for plots and distribution tests, which no rule of a contract uses. They are a third of
# its start-up time and of its memory, and a refresh starts a new process every minute.
_UNUSED = ("altair", "scipy.stats")

_lock = threading.RLock()


def load() -> ModuleType:
    """Return the package `great_expectations`, imported on the first call (seconds).

    Python warnings are shown as before: the library sends them to the logging system, for the whole process.
    """
    with _lock:
        if "great_expectations" in sys.modules:
            return importlib.import_module("great_expectations")
        logger = logging.getLogger("great_expectations")
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)
        show = warnings.showwarning
        try:
            with _deferred(_UNUSED):
                library = importlib.import_module("great_expectations")
        finally:
            if warnings.showwarning is not show:
                logging.captureWarnings(False)
        logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.NOTSET)
        return library


class _Deferred(ModuleType):
    """Stands for a module until something is asked of it; who holds it then gets the real one's attributes."""

    def __getattr__(self, name: str) -> Any:
        # `inspect` asks every loaded module for __file__ and the like: that is no use of it.
        if name.startswith("__"):
            raise AttributeError(name)
        with _lock:
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
            return getattr(importlib.import_module(self.__name__), name)


@contextmanager
def _deferred(names: tuple[str, ...]) -> Iterator[None]:
    placed: list[_Deferred] = []
    for name in names:
        if name in sys.modules:
            continue
        spec = importlib.util.find_spec(name)
        if spec is None:
            continue
        module = _Deferred(name)
        module.__path__ = list(spec.submodule_search_locations or [])
        sys.modules[name] = module
        placed.append(module)
    try:
        yield
    finally:
        for module in placed:
            if sys.modules.get(module.__name__) is module:
                del sys.modules[module.__name__]
