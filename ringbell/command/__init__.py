# SPDX-License-Identifier: MIT
"""What the `ringbell` command does."""
