# SPDX-License-Identifier: MIT
"""The comparison with other libraries: an adaptor for each, and what runs them in turn."""
