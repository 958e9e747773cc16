"""The recoverability map as a picture that Dagster's markdown shows.

Dagster hides markdown of 1,000 characters and more behind a link: equal days that follow each other are one rectangle.
"""

import base64
from collections.abc import Sequence
from itertools import groupby

from incident_pipelines.core.recovery.coverage import Recoverability

_SAFE, _UNSURE, _GONE, _NONE = "#3a7", "#da4", "#b32", "#ccc"
_WORDS = {_SAFE: "safe", _UNSURE: "unsure", _GONE: "gone", _NONE: "no data"}
# Dagster cuts off what is wider than its column.
_LEFT, _WIDEST, _WIDEST_DAY, _ROW, _BAR = 130, 270, 16, 18, 12


def recoverability_picture(days: Sequence[Recoverability]) -> str:
    """Return markdown with a row for each dataset and a square for each day: what would be gone without landing.

    Args:
        days: by dataset, then in order.
    """
    paths: dict[str, str] = {}
    by_dataset = {dataset: list(windows) for dataset, windows in groupby(days, lambda day: day.dataset)}
    width = max(1, min(_WIDEST_DAY, _WIDEST // max(map(len, by_dataset.values()), default=1)))
    labels, top = "", 0
    for dataset, windows in by_dataset.items():
        labels += f'<text y="{top + 10}">{dataset}</text>'
        left = _LEFT
        for color, run in groupby(map(_color, windows)):
            length = width * len(list(run))
            paths[color] = paths.get(color, "") + f"M{left} {top + _BAR // 2}h{length}"
            left += length
        top += _ROW
    bars = "".join(f'<path stroke="{color}" d="{path}"/>' for color, path in paths.items())
    legend = " ".join(f'<tspan fill="{color}">{word}</tspan>' for color, word in _WORDS.items())
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDEST}" height="{top + 20}" font-size="12" '
        f'stroke-width="{_BAR}">'
        f'{labels}{bars}<text y="{top + 12}">without landing: {legend}</text></svg>'
    )
    return f"![recoverability](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode('ascii')})"


def _color(day: Recoverability) -> str:
    gone = day.gone_without()
    if gone.at_most is None or gone.unknown:
        return _SAFE if gone.at_most == 0 else _UNSURE
    if gone.at_most == 0:
        return _SAFE if day.most else _NONE
    return _GONE if gone.at_least else _UNSURE
