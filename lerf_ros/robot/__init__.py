# SPDX-License-Identifier: Apache-2.0
"""What a robot does with an answer: where to stand, where to look next, what not to hit."""
