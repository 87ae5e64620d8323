"""What can go wrong for a user: each message is one sentence saying what was given, what was expected, what to do."""

from __future__ import annotations


class ExplorerError(Exception):
    """Root of every error that the user can fix. Shown as its sentence, never as a traceback."""


class ModelError(ExplorerError):
    """A model that cannot be found, read, or edited faithfully."""


class MatrixError(ExplorerError):
    """A matrix key that is malformed or not in the model."""


class TaskError(ExplorerError):
    """A task, or one of its examples, that cannot be used."""


class MaskError(ExplorerError):
    """A mask that is malformed, or that belongs to another model."""


class SettingsError(ExplorerError):
    """A setting, option or environment variable with an unusable value."""


class NotFiniteError(ExplorerError):
    """Losses or scores that are not finite, where only finite ones can be used."""


class ClusterError(ExplorerError):
    """A cluster that cannot be reached, or workers that cannot answer."""


class ExportError(ExplorerError):
    """A result that cannot be written in a format, or that the format's own reader does not read as it was meant."""


class Stopped(Exception):
    """Long work was asked to stop; nothing is wrong and nothing was changed."""


def in_a_line(error: BaseException, most: int = 120) -> str:
    """What an error of a library says, as one line of so many letters, for a sentence; its type if it says nothing."""
    return " ".join(str(error).split())[:most] or type(error).__name__
