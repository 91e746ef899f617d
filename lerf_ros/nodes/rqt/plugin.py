# SPDX-License-Identifier: Apache-2.0
"""The panel as a plugin of rqt; rqt/plugin.xml names this class."""

from __future__ import annotations

from rqt_gui_py.plugin import Plugin

from lerf_ros.nodes.rqt.connection import connected_widget

HISTORY = 'history'


class LerfPanel(Plugin):        # type: ignore[misc]
    """Asks the nodes through the node of rqt, which rqt spins."""

    def __init__(self, context: object) -> None:
        """context: of rqt, with its node."""
        super().__init__(context)
        self.setObjectName('LerfPanel')
        self._widget, self._close = connected_widget(
            context.node, context.serial_number())      # type: ignore[attr-defined]
        context.add_widget(self._widget)                # type: ignore[attr-defined]

    def shutdown_plugin(self) -> None:
        """Frees the clients."""
        self._close()

    def save_settings(self, plugin_settings: object, instance_settings: object) -> None:
        """Keeps namespace and history for the next start of rqt."""
        instance_settings.set_value('namespace', self._widget.namespace.text())  # type: ignore
        instance_settings.set_value(HISTORY, list(self._widget.panel.view.history))  # type: ignore

    def restore_settings(self, plugin_settings: object, instance_settings: object) -> None:
        """Brings namespace and history back."""
        self._widget.restore(
            instance_settings.value('namespace', ''),           # type: ignore[attr-defined]
            instance_settings.value(HISTORY, []))               # type: ignore[attr-defined]
