# SPDX-License-Identifier: MIT
"""The claims that the design stands on, each measured, plotted and judged by its numbers."""
