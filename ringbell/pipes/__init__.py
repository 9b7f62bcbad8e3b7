# SPDX-License-Identifier: MIT
"""Connections with the interface of multiprocessing's."""
