"""What can go wrong with the local stack, worded for the person who typed the command."""

from incident_pipelines.core.errors import IncidentPipelinesError


class StackError(IncidentPipelinesError):
    """The local stack cannot do what was asked.

    Args:
        message: What is wrong.
        hint: What the reader can do about it, if anything is known.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class PortTakenError(StackError):
    """A port that the stack needs belongs to somebody else."""


class ArtifactRejectedError(StackError):
    """A downloaded file is not the one that the lock file names."""
