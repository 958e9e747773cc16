"""What a benchmark prints: each figure as it is measured, and the ratio to the reference of the same run."""

import os
import platform
import statistics


class Figures:
    """Prints one benchmark's figures.

    Args:
        name: of the benchmark.
    """

    def __init__(self, name: str) -> None:
        print(
            f"== {name}: {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}", flush=True
        )

    def say(self, text: str) -> None:
        """Print a line."""
        print(f"   {text}", flush=True)

    def row(self, title: str, **values: float | str) -> None:
        """Print one measurement; numbers from 100 on without decimals."""
        shown = (
            f"{k}={v:,.0f}"
            if isinstance(v, float) and abs(v) >= 100
            else f"{k}={v:.3g}"
            if isinstance(v, float)
            else f"{k}={v}"
            for k, v in values.items()
        )
        print(f"   {title:<28} {'  '.join(shown)}", flush=True)

    def ratio(self, title: str, ratios: list[float], at_least: float | None = None) -> None:
        """Print the median of the rounds' ratios beside what is asked for."""
        wanted = "" if at_least is None else f"  (asked for: >= {at_least})"
        print(f"-> {title}: {statistics.median(ratios):.2f}{wanted}", flush=True)
