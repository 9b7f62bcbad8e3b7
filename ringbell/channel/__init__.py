# SPDX-License-Identifier: MIT
"""One side of a channel."""
