# SPDX-License-Identifier: Apache-2.0
"""The errors of lerf_ros; each has a code, and a message that says what to do."""

from __future__ import annotations


class LerfError(Exception):
    """Base of all errors of this module; `code` is the name of a constant in msg/ErrorCode."""

    code = 'INTERNAL'


class ConfigError(LerfError):
    """A setting is unknown, of the wrong type or out of its range."""

    code = 'INVALID_SETTING'


class EmptyTextError(LerfError):
    """The phrase to look for is empty."""

    code = 'EMPTY_TEXT'


class EmptyNegativeError(LerfError):
    """A negative phrase is empty."""

    code = 'EMPTY_NEGATIVE'


class NotUnderstoodError(LerfError):
    """The map's encoder cannot read a phrase: it does not know the emoji, script or language."""

    code = 'NOT_UNDERSTOOD'


class NotActiveError(LerfError):
    """The node that was called is not active."""

    code = 'NOT_ACTIVE'


class InvalidThresholdError(LerfError):
    """The threshold is not a number between 0 and 1."""

    code = 'INVALID_THRESHOLD'


class InvalidRequestError(LerfError):
    """A field of a request is too long, or fields contradict each other."""

    code = 'INVALID_REQUEST'


class NoTransformError(LerfError):
    """A frame is not connected to the map frame."""

    code = 'NO_TRANSFORM'


class BadImageError(LerfError):
    """The image of a query cannot be used."""

    code = 'BAD_IMAGE'


class NoSnapshotError(LerfError):
    """The map directory holds no complete snapshot yet."""

    code = 'NO_SNAPSHOT'


class MapUnreadableError(LerfError):
    """The map directory is damaged, of another kind, or cannot be read."""

    code = 'MAP_UNREADABLE'


class InvalidNameError(LerfError):
    """The name is not allowed for a saved map."""

    code = 'INVALID_NAME'


class NoSuchMapError(LerfError):
    """There is no saved map of this name."""

    code = 'NO_SUCH_MAP'


class NameTakenError(LerfError):
    """A saved map of this name exists already."""

    code = 'NAME_TAKEN'


class StorageError(LerfError):
    """A directory cannot be written, for lack of space or permission."""

    code = 'STORAGE'


class ForeignFolderError(LerfError):
    """A folder holds files that lerf_ros did not write, or is the input; nothing was changed."""

    code = 'FOREIGN_FOLDER'


class MapInTheWayError(LerfError):
    """A map exists where another one would be written, and it may not be deleted."""

    code = 'MAP_IN_THE_WAY'


class NothingToUndoError(LerfError):
    """There is no move of keyframes to undo."""

    code = 'NOTHING_TO_UNDO'


class LockedError(LerfError):
    """Another mapper is using the map directory."""

    code = 'LOCKED'


class StillLoadingError(LerfError):
    """The models are still loading."""


class TrainingFailedError(LerfError):
    """Training cannot continue: losses are not finite, or memory is exhausted."""


class EncoderUnavailableError(LerfError):
    """The encoder is unknown, or its package or weights are missing."""

    code = 'ENCODER_UNAVAILABLE'


class EncoderMismatchError(LerfError):
    """The map was made with another encoder than the loaded one."""

    code = 'ENCODER_MISMATCH'


class FrameError(LerfError):
    """An image, its camera, its depth or its mask do not fit together."""

    code = 'BAD_FRAME'


class ContradictionError(LerfError):
    """Poses, depth, lens or images of an input contradict each other."""

    code = 'CONTRADICTION'


class DatasetError(LerfError):
    """A folder of posed images cannot be read."""

    code = 'BAD_DATASET'
