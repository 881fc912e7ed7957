"""Errors of this package: an input, a setting or the state of a pool is not what was expected."""

from __future__ import annotations


class ActiveLearningError(Exception):
    """Base of the errors below; the message says what was found, what was expected, what to do."""


class SettingError(ActiveLearningError, ValueError):
    """A setting has a value that it cannot have.

    Attributes:
        setting: The name of the setting.
    """

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(setting, message)
        self.setting = setting
        self._message = message

    def __str__(self) -> str:
        return self._message


class PredictionReadError(ActiveLearningError):
    """A source of predictions, or a pool's manifest, cannot be read as what it was said to be."""


class PoolStateError(ActiveLearningError):
    """The database does not hold what a step needs, for example scores without predictions."""


class DatabaseUnavailableError(ActiveLearningError):
    """The database is open in another process, cannot be written, or its disk is full."""


class StorageError(ActiveLearningError):
    """A pool's storage cannot be written to."""


class EngineError(ActiveLearningError):
    """Tasks cannot be run: their workers are lost again and again, or there is no cluster."""


class LabelingToolError(ActiveLearningError):
    """A labeling tool does not answer, or not as it should.

    Attributes:
        is_unclear: True if it may have done what it was asked for all the same.
    """

    def __init__(self, message: str, *, is_unclear: bool = False) -> None:
        super().__init__(message)
        self.is_unclear = is_unclear
