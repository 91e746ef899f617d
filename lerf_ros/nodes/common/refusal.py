# SPDX-License-Identifier: Apache-2.0
"""Says in a service's response why something was not done, by a code of msg/ErrorCode."""

from __future__ import annotations

from typing import Protocol

from std_srvs.srv import Trigger

from lerf_ros.msg import ErrorCode


class CommandResponse(Protocol):
    """What the responses of all these services have in common."""

    success: bool
    message: str


def refuse(response: CommandResponse, code: str, message: str) -> None:
    """Writes why a command was not done. code: the name of a constant of msg/ErrorCode.

    The response of a Trigger has no field for it: there it is the first word of the message.
    """
    name = code if hasattr(ErrorCode, code) else 'INTERNAL'
    if isinstance(response, Trigger.Response):
        response.message = f'{name}: {message}'
        return
    response.message = message
    response.error_code = getattr(ErrorCode, name)      # type: ignore[attr-defined]
