# SPDX-License-Identifier: Apache-2.0
"""Parts of the query node: its service, messages, publishers, diagnostics and memory."""
