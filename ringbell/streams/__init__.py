# SPDX-License-Identifier: MIT
"""One-way streams: a producer and a consumer, of messages or of records."""
