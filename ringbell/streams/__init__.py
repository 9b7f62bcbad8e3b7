# SPDX-License-Identifier: MIT
"""One way: a producer and a consumer, of messages or of records."""
