# SPDX-License-Identifier: Apache-2.0
"""The panel of rqt as a window of its own, where rqt is not installed."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence

import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from lerf_ros.errors import ConfigError
from lerf_ros.nodes.common.running import EXIT_WRONG_SETTINGS, spin


def main(args: Sequence[str] | None = None) -> int:
    """Shows the window until it is closed; returns the exit code, 2 where Qt is missing."""
    try:
        from lerf_ros.nodes.rqt.connection import connected_widget
        from lerf_ros.nodes.rqt.qt import QtWidgets
    except ConfigError as error:
        print(f'lerf_ros: {error}', file=sys.stderr)
        return EXIT_WRONG_SETTINGS
    # Qt ends with Ctrl-C only if Python does not catch it.
    rclpy.init(args=None if args is None else list(args),
               signal_handler_options=SignalHandlerOptions.NO)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    application = QtWidgets.QApplication.instance() or QtWidgets.QApplication(['lerf_ros'])
    node, stop = Node('lerf_panel'), threading.Event()
    thread = threading.Thread(target=spin, args=(node, stop, stop), daemon=True)
    thread.start()
    widget, close = connected_widget(node)
    widget.resize(760, 420)
    widget.show()
    try:
        return int(application.exec())
    finally:
        stop.set()
        thread.join()
        close()
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == '__main__':
    raise SystemExit(main())
