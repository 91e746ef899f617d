# SPDX-License-Identifier: Apache-2.0
"""The map directory, the contract between mapper and query: `map_directory` is the door."""
