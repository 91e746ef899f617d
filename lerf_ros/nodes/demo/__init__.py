# SPDX-License-Identifier: Apache-2.0
"""Parts of the demo and of the replay: players, client, their settings."""
