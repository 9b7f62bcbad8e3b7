# SPDX-License-Identifier: MIT
"""What bench/publish.py measures, a module each."""
