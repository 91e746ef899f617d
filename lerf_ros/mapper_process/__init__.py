# SPDX-License-Identifier: Apache-2.0
"""The mapper in a process of its own: `supervisor` starts it, `loop` is what it does."""
