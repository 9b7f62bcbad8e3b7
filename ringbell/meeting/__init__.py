# SPDX-License-Identifier: MIT
"""How two processes come to share memory."""
