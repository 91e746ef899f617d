# SPDX-License-Identifier: Apache-2.0
"""The map as a web page."""
