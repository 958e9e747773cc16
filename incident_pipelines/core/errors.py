"""What can go wrong, as a person is told: each message names what is wrong, where, and what to do."""


class IncidentPipelinesError(Exception):
    """Base of every error that is raised for a reader and not for a debugger."""


class InvalidDocument(IncidentPipelinesError):
    """A catalog file does not say what it has to; the message starts with file and line."""


class InvalidIdentifier(IncidentPipelinesError):
    """A name that must become an SQL identifier is not one."""


class SourceUnavailable(IncidentPipelinesError):
    """A database or broker does not answer; says nothing about the data in it."""


class CheckError(IncidentPipelinesError):
    """A check could not run; says nothing about the data."""


class WindowOwned(IncidentPipelinesError):
    """Another run is publishing the window; the message names its owner."""


class WindowRefused(IncidentPipelinesError):
    """A window failed its checks and was not published; what was published before stays."""


class RecoveryOwned(IncidentPipelinesError):
    """Another run recovers the incident; the message names it."""


class LedgerOwned(IncidentPipelinesError):
    """Another run is writing the differences of a reconciliation; the message names its owner."""


class UnknownIncident(IncidentPipelinesError):
    """There is no incident of that id."""


class IllegalTransition(IncidentPipelinesError):
    """An incident may not go where it was asked to, or not by whoever asked."""


class IncidentConflict(IncidentPipelinesError):
    """An incident has changed since it was looked at; nothing was done."""


class GuardrailReached(IncidentPipelinesError):
    """A recovery may not go on by itself; what it did stays, and nothing is half done."""


class RecoveryStopped(IncidentPipelinesError):
    """A person has stopped the incident, or it has grown; what was done stays, and it goes on from there."""
