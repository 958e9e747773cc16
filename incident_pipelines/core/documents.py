"""YAML documents that remember where each value stands, so that an error can name file and line."""

from dataclasses import dataclass
from typing import Any

import yaml

from incident_pipelines.core.errors import InvalidDocument

MAX_BYTES = 1_000_000
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """A parsed YAML file.

    Args:
        name: file name, as messages show it.
        data: the top-level mapping.
        lines: line (from 1) of each value by its path.
    """

    name: str
    data: dict[str, Any]
    lines: dict[Path, int]

    def line(self, path: Path) -> int:
        """Return the line of a value; of what it stands in where it is not there."""
        known = path
        while known and known not in self.lines:
            known = known[:-1]
        return self.lines.get(known, 1)

    def error(self, path: Path, message: str) -> InvalidDocument:
        """Return an error that names file, line and place."""
        where = ".".join(str(part) for part in path)
        return InvalidDocument(f"{self.name}:{self.line(path)}: {where + ': ' if where else ''}{message}")


def parse_document(name: str, text: str) -> Document:
    """Parse YAML text with a mapping at the top.

    Args:
        name: file name for messages.
        text: at most 1 MB of YAML without aliases.

    Raises:
        InvalidDocument: no YAML, too large, aliases (they can blow up), a key twice, or no mapping at the top.
    """
    if len(text) > MAX_BYTES:
        raise InvalidDocument(f"{name}:1: larger than {MAX_BYTES} bytes")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise InvalidDocument(f"{name}:1: YAML aliases (*name) are not accepted; write the value out")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidDocument(f"{name}:{line}: {error.problem or error}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InvalidDocument(f"{name}:1: {error}") from error
    if not isinstance(root, yaml.MappingNode):
        raise InvalidDocument(f"{name}:1: a mapping is expected at the top")
    lines: dict[Path, int] = {}
    _collect(name, root, (), lines)
    return Document(name, data, lines)


def _collect(name: str, node: yaml.Node, path: Path, lines: dict[Path, int]) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if (*path, key) in lines:
                raise InvalidDocument(f"{name}:{key_node.start_mark.line + 1}: {key!r} is given twice")
            lines[(*path, key)] = key_node.start_mark.line + 1
            _collect(name, value_node, (*path, key), lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _collect(name, item, (*path, index), lines)
