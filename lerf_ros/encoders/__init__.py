# SPDX-License-Identifier: Apache-2.0
"""Image-text encoders and dense features: what they see in a keyframe."""
