"""Fills report templates: a template is data that cannot act, and what is filled in is text and never Markdown."""

import re
from collections.abc import Mapping

from jinja2 import StrictUndefined
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from incident_pipelines.core.errors import IncidentPipelinesError
from incident_pipelines.core.masking import masked, printable

_ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_FIRST = re.compile(r"^(?:[-+](?=\s|$)|[-=]+\s*$|\d+(?=[.)](?:\s|$)))")
_ACTS = re.compile(r"(?i)(?<=[a-z]):(?=//)|(?<=www)\.|&(?=#?\w+;)")
_ESCAPED = str.maketrans(
    {
        **{mark: f"\\{mark}" for mark in "\\`*_{}[]#!"},
        # Not every renderer takes a backslash before these; all take entities.
        **{mark: f"&#{ord(mark)};" for mark in "|~@"},
        "<": "&lt;",
        ">": "&gt;",
    }
)
MAX_LENGTH = 2_000
"""Of one value; a longer one is cut, and says so."""


class BadTemplate(IncidentPipelinesError):
    """A report template cannot be filled in; the message names it."""


def shown(value: object) -> str:
    """Return a value as Markdown that shows it on one line and does nothing else: no format, link, mention or template.

    E-mail addresses are masked: free text may hold them, whatever the contracts say.
    """
    text = str(value)
    if len(text) > MAX_LENGTH:
        text = f"{text[:MAX_LENGTH]}… ({len(text):,} characters)"
    text = _ADDRESS.sub(lambda found: str(masked(found.group())), text)
    text = printable(" ".join(text.split()))
    text = _ACTS.sub(lambda found: f"\0{ord(found.group())};", text).translate(_ESCAPED).replace("\0", "&#")
    first = _FIRST.match(text)
    if first:  # would begin a list or underline a title
        return f"\\{text}" if not first.group().isdigit() else f"{first.group()}\\{text[first.end() :]}"
    return text


def filled(template: str, values: Mapping[str, object], name: str) -> str:
    """Return a template with its values.

    Args:
        template: Jinja; it sees the values and nothing else.
        values: texts, numbers and containers of them; only `Markup` is taken for Markdown.
        name: of the template, for messages.

    Raises:
        BadTemplate: it is none, or asks for what is not there.
    """
    try:
        text = _ENVIRONMENT.from_string(template).render(dict(values))
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise BadTemplate(f"report template {name} cannot be filled in: {type(error).__name__}: {error}") from error
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _finalized(value: object) -> Markup:
    return value if isinstance(value, Markup) else Markup(shown(value))


_ENVIRONMENT = ImmutableSandboxedEnvironment(
    autoescape=True, finalize=_finalized, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
# Of the filters those that make no markup of text, and none that walks over objects; of the functions none.
_FILTERS = ("count", "default", "first", "int", "last", "length", "lower", "round", "upper")
vars(_ENVIRONMENT).update(filters={name: vars(_ENVIRONMENT)["filters"][name] for name in _FILTERS}, globals={})
