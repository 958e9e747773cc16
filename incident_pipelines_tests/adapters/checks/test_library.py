import subprocess
import sys
import textwrap
from pathlib import Path

BEGIN = """
import logging, os, socket, sys, tempfile, threading, warnings

reached = []
def refuse(*arguments, **named):
    reached.append(arguments)
    raise OSError("no network here")
socket.getaddrinfo = socket.socket.connect = socket.socket.connect_ex = refuse

def state():
    return {
        "showwarning": warnings.showwarning,
        "root": (list(logging.root.handlers), logging.root.level, logging.root.manager.disable),
        "excepthook": sys.excepthook,
        "environment": dict(os.environ),
        "threads": [thread.name for thread in threading.enumerate() if thread.name != "tqdm_monitor"],
        "path": list(sys.path),
    }
before = state()
from incident_pipelines.adapters.checks.great_expectations import ContractSuite
from incident_pipelines.core.contracts.rules import Measurement, Rule
assert "great_expectations" not in sys.modules and "pandas" not in sys.modules
"""
JUDGE = """
rule = Rule(name="a_is_present", kind="required", columns=("a",), max_share=0.0, description="a.")
(result,) = ContractSuite("payments", [rule]).validate([Measurement("a_is_present", 10, 1)])
assert not result.passed
"""


def run(tmp_path: Path, *parts: str) -> None:
    script = "\n".join(textwrap.dedent(part) for part in parts)
    environment = {"TMPDIR": str(tmp_path), "HOME": str(tmp_path), "PYTHONPATH": ":".join(filter(None, sys.path))}
    finished = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert finished.returncode == 0, finished.stderr
    assert (finished.stdout, finished.stderr) == ("", "")


def test_a_verdict_leaves_no_mark(tmp_path: Path) -> None:
    run(
        tmp_path,
        BEGIN,
        "logging.basicConfig(level=logging.DEBUG, filename='log')",
        "before = state()",
        JUDGE,
        """
        after = state()
        assert after == before, {name: (before[name], after[name]) for name in before if before[name] != after[name]}
        assert reached == [], reached
        assert not [name for name in ("altair", "scipy.stats", "matplotlib") if name in sys.modules]
        """,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert "great_expectations" not in (tmp_path / "log").read_text()


def test_warnings_are_captured_still_where_they_were(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        import logging, warnings
        logging.captureWarnings(True)
        capturing = warnings.showwarning
        """,
        BEGIN,
        JUDGE,
        """
        assert warnings.showwarning is capturing
        logging.captureWarnings(False)
        assert warnings.showwarning is not capturing
        """,
    )


def test_warnings_can_be_captured_later(tmp_path: Path) -> None:
    run(
        tmp_path,
        BEGIN,
        JUDGE,
        """
        shown = warnings.showwarning
        logging.captureWarnings(True)
        assert warnings.showwarning is not shown
        """,
    )


def test_a_level_that_was_asked_for_stays(tmp_path: Path) -> None:
    run(
        tmp_path,
        BEGIN,
        """
        logging.getLogger("great_expectations").setLevel(logging.ERROR)
        """,
        JUDGE,
        """
        assert logging.getLogger("great_expectations").level == logging.ERROR
        """,
    )


def test_deferred_modules_are_the_real_ones_for_who_uses_them(tmp_path: Path) -> None:
    run(
        tmp_path,
        BEGIN,
        JUDGE,
        """
        from importlib import import_module
        held = import_module("great_expectations.expectations.core.expect_column_kl_divergence_to_be_less_than").stats
        assert "scipy.stats" not in sys.modules
        assert held.norm.cdf(0) == 0.5
        import scipy.stats
        assert scipy.stats is not held and scipy.stats.norm is held.norm
        import scipy.stats.distributions
        import altair
        assert altair.Chart.__module__.startswith("altair.")
        """,
    )


def test_a_module_that_is_there_already_stays(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        import altair, scipy.stats
        """,
        BEGIN.replace(' and "pandas" not in sys.modules', ""),
        JUDGE,
        """
        from importlib import import_module
        module = import_module("great_expectations.expectations.core.expect_column_kl_divergence_to_be_less_than")
        assert module.stats is scipy.stats is sys.modules["scipy.stats"]
        assert module.alt is altair is sys.modules["altair"]
        """,
    )
