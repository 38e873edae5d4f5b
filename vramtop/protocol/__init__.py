"""The wire between a probe and its viewers: standard library only, Python 3.9+.

Newline-delimited JSON over an AF_UNIX stream; the probe listens, viewers connect.
"""

from __future__ import annotations

PROTOCOL_VERSION = 1
