# SPDX-License-Identifier: Apache-2.0
"""Online language embedded radiance fields for ROS 2."""

from pkgutil import extend_path

# From the source tree, find the generated msg and srv in the installed package.
__path__ = extend_path(__path__, __name__)
