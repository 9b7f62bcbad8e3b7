# SPDX-License-Identifier: MIT
"""Publications: streams of one writer and many readers."""
