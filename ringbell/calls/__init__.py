# SPDX-License-Identifier: MIT
"""Requests and answers: a driver and a device."""
