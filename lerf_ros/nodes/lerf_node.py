# SPDX-License-Identifier: Apache-2.0
"""mapper_node and query_node in one process, for machines with little memory.

Each keeps its name, its parameters and its life cycle; the training has a process of its own in any
case. What ends this process ends both.
"""

from __future__ import annotations

from collections.abc import Sequence

from lerf_ros.nodes.common.lifecycle import started
from lerf_ros.nodes.common.running import run_nodes
from lerf_ros.nodes.mapper_node import MapperNode
from lerf_ros.nodes.query.heap import limit_heaps, limit_kernel_cache
from lerf_ros.nodes.query_node import QueryNode


def main(args: Sequence[str] | None = None) -> int:
    """Runs both nodes and returns the exit code."""
    limit_heaps()
    limit_kernel_cache()
    return run_nodes([lambda: started(QueryNode()), lambda: started(MapperNode())], 'lerf_node',
                     args)


if __name__ == '__main__':
    raise SystemExit(main())
