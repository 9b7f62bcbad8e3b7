#!/bin/sh
# SPDX-License-Identifier: MIT
# Copy a folder between two shell commands through shared memory:
#
#     examples/pipeline.sh FROM TO
set -eu
: "${2:?usage: pipeline.sh FROM TO}"

# A name of its own, so that two runs at once do not meet each other.
name="copy-$$"
mkdir -p "$2"

# Whichever side starts first waits for the other.
tar c -C "$1" . | ringbell produce "$name" &
ringbell consume "$name" | tar x -C "$2"
wait $! # the producer's exit code: not 0 when not all was taken
