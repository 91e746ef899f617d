# SPDX-License-Identifier: Apache-2.0
"""The errors that lerf_ros raises on purpose: each has a code and says what to do."""

from __future__ import annotations


class LerfError(Exception):
    """Base of all named errors; `code` is the name of a constant in srv/Query."""

    code = 'INTERNAL'


class ConfigError(LerfError):
    """A setting is unknown, of the wrong type or out of its range."""

    code = 'INVALID_SETTING'


class EmptyTextError(LerfError):
    """The phrase to look for is empty."""

    code = 'EMPTY_TEXT'


class EmptyNegativeError(LerfError):
    """A phrase to win against is empty."""

    code = 'EMPTY_NEGATIVE'


class NotUnderstoodError(LerfError):
    """The map's encoder cannot read a phrase: an emoji, a script or a language beyond it."""

    code = 'NOT_UNDERSTOOD'


class NotActiveError(LerfError):
    """The node that should answer is not active."""

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
    """A picture that was asked for cannot be used."""

    code = 'BAD_IMAGE'


class NoSnapshotError(LerfError):
    """The map directory holds no complete snapshot yet."""

    code = 'NO_SNAPSHOT'


class MapUnreadableError(LerfError):
    """The map directory is damaged, foreign or cannot be read."""

    code = 'MAP_UNREADABLE'


class InvalidNameError(LerfError):
    """The name of a saved map is not one."""

    code = 'INVALID_NAME'


class NoSuchMapError(LerfError):
    """There is no saved map of this name."""

    code = 'NO_SUCH_MAP'


class NameTakenError(LerfError):
    """There is a saved map of this name already."""

    code = 'NAME_TAKEN'


class StorageError(LerfError):
    """A directory cannot be written: no space, no permission."""

    code = 'STORAGE'


class ForeignFolderError(LerfError):
    """A folder holds things that lerf_ros did not write, or is the input: nothing is touched."""

    code = 'FOREIGN_FOLDER'


class MapInTheWayError(LerfError):
    """A map stands where another one would be written, and nobody said that it may go."""

    code = 'MAP_IN_THE_WAY'


class NothingToUndoError(LerfError):
    """No move of keyframes is left to undo."""

    code = 'NOTHING_TO_UNDO'


class LockedError(LerfError):
    """Another mapper works on the map directory."""

    code = 'LOCKED'


class StillLoadingError(LerfError):
    """The models are not loaded yet; they go on loading."""


class TrainingFailedError(LerfError):
    """Training cannot go on: its losses are not finite, or it has no memory."""


class EncoderUnavailableError(LerfError):
    """The encoder is unknown, or its package or weights are missing."""

    code = 'ENCODER_UNAVAILABLE'


class EncoderMismatchError(LerfError):
    """The map was made with another encoder than the one at hand."""

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
