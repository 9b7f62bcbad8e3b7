# SPDX-License-Identifier: MIT
"""Processes started for the user: a device, or both sides of a stream."""
