# SPDX-License-Identifier: MIT
"""The two ends of a ring."""
