# SPDX-License-Identifier: Apache-2.0
"""Time stamps as integer nanoseconds."""

from __future__ import annotations

from builtin_interfaces.msg import Time


def stamp_to_ns(stamp: Time) -> int:
    """Integer nanoseconds; floats would change almost every stamp."""
    return stamp.sec * 10**9 + stamp.nanosec


def ns_to_stamp(stamp_ns: int) -> Time:
    """The message for integer nanoseconds (not negative)."""
    return Time(sec=int(stamp_ns // 10**9), nanosec=int(stamp_ns % 10**9))
