# SPDX-License-Identifier: Apache-2.0
"""What people see of a map and of answers: words, colours, pictures, files, the page."""
