# SPDX-License-Identifier: Apache-2.0
"""Parts of the demo and the replay: bags, the client of the query service, settings."""
