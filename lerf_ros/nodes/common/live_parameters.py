# SPDX-License-Identifier: Apache-2.0
"""Parameters that change while a node runs: checked as at its start, and why others cannot."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from lerf_ros.errors import LerfError
from lerf_ros.nodes.common.parameters import setting_types, to_parameter
from lerf_ros.settings import override


class LiveParameters:
    """Answers requests to set parameters of a node that `declare_all` declared."""

    def __init__(self, node: Node, configs: Sequence[Any], why_fixed: Callable[[str], str],
                 changed: Callable[[Mapping[str, Any]], None]) -> None:
        """why_fixed: why a setting cannot change while the node runs; empty when it can.

        changed: takes the new values by dotted name, and may refuse them with a LerfError.
        """
        self._node, self._configs, self._why_fixed, self._changed = (
            node, configs, why_fixed, changed)
        self._types = {k: hint for c in configs for k, hint in setting_types(c).items()}
        self._telling: int | None = None    # the thread that only shows values
        node.add_on_set_parameters_callback(self.on_set)

    def on_set(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        """All of them, or none and the reason."""
        if self._telling == threading.get_ident():
            return SetParametersResult(successful=True)
        ours = {*self._types, 'preset'}
        values = {p.name: p.value for p in parameters if p.name in ours}
        for name in values:
            if reason := self._why_fixed(name):
                return SetParametersResult(successful=False, reason=f'{name}: {reason}')
        try:
            for config in self._configs:
                known = setting_types(config)
                override(config, {k: v for k, v in values.items() if k in known})
            if values:
                self._changed(values)
        except LerfError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def show(self, values: Mapping[str, Any]) -> None:
        """Sets parameters to what is in force without anybody having asked for it."""
        self._telling = threading.get_ident()
        try:
            self._node.set_parameters([
                to_parameter(name, self._types[name], value) for name, value in values.items()])
        finally:
            self._telling = None
