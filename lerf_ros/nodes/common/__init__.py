# SPDX-License-Identifier: Apache-2.0
"""What all nodes share: parameters, topics, life cycle, TF, conversions."""
