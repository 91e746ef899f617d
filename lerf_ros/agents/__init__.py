# SPDX-License-Identifier: Apache-2.0
"""What language-model agents are told of a map: short JSON with units, and pictures."""
