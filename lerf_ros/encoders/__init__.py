# SPDX-License-Identifier: Apache-2.0
"""Image-text encoders, dense features, the pyramid of crops, and the cache of what they give."""
