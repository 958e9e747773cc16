"""The ageing of open differences as a picture that Dagster's markdown shows.

Dagster hides markdown of 1,000 characters and more behind a link: the picture has to be smaller, image and all.
"""

import base64
from collections.abc import Mapping, Sequence

_UNEXPLAINED, _EXPLAINED = "#b32", "#9ab"
_LEFT, _LONGEST_BAR, _ROW, _BAR = 150, 270, 18, 12


def ageing_picture(ages: Mapping[tuple[str, str], Sequence[int]], names: Sequence[str]) -> str:
    """Return markdown with a bar for each age: what nothing explains in red, behind it what is explained in grey.

    Args:
        ages: kind and explanation (``unexplained`` for none) → how many of each age.
        names: of the ages.
    """
    unexplained = [_total(ages, index, explained=False) for index in range(len(names))]
    explained = [_total(ages, index, explained=True) for index in range(len(names))]
    scale = _LONGEST_BAR / max(1, *(one + other for one, other in zip(unexplained, explained, strict=True)))
    red = grey = labels = ""
    for index, name in enumerate(names):
        top = index * _ROW + 4
        first, second = (_width(count, scale) for count in (unexplained[index], explained[index]))
        red += _bar(_LEFT, top, first)
        grey += _bar(_LEFT + first, top, second)
        labels += f'<text y="{top + 10}">{name}: {unexplained[index] + explained[index]}</text>'
    bottom = len(names) * _ROW + 14
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _LONGEST_BAR}" height="{bottom + 6}" font-size="12" '
        'font-family="sans-serif">'
        f'{labels}<path fill="{_UNEXPLAINED}" d="{red}"/><path fill="{_EXPLAINED}" d="{grey}"/>'
        f'<text y="{bottom}" fill="{_UNEXPLAINED}">unexplained <tspan fill="{_EXPLAINED}">explained</tspan></text>'
        "</svg>"
    )
    return f"![ageing](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode('ascii')})"


def _total(ages: Mapping[tuple[str, str], Sequence[int]], index: int, *, explained: bool) -> int:
    return sum(counts[index] for (_, by), counts in ages.items() if (by != "unexplained") == explained)


def _width(count: int, scale: float) -> int:
    """One difference among very many must be seen too."""
    return max(1, round(count * scale)) if count else 0


def _bar(left: int, top: int, width: int) -> str:
    return f"M{left} {top}h{width}v{_BAR}h-{width}z" if width else ""
