"""How much the system may do by itself."""

from typing import Literal, get_args

from incident_pipelines.core.errors import InvalidDocument

Mode = Literal["observe", "propose", "act"]
"""observe: signals and incidents only; propose: reversible containment, plans wait for approval; act: all of it."""
MODES: tuple[Mode, ...] = get_args(Mode)
DEFAULT_MODE: Mode = "propose"
MODE_VARIABLE = "INCIDENT_PIPELINES_MODE"


def response_mode(text: str) -> Mode:
    """Return the mode of that name.

    Raises:
        InvalidDocument: there is none.
    """
    for mode in MODES:
        if mode == text:
            return mode
    raise InvalidDocument(f"response mode {text!r} is not known; one of {', '.join(MODES)}")
