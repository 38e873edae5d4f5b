"""Every error that vramtop raises on purpose, and the exit code it ends with.

    VramtopError                exit 1
    ├── UsageError              exit 2   the command line asks for something impossible
    ├── BackendUnavailable      exit 3   the requested backend has nothing to show
    ├── ProtocolError           exit 1   a peer sent what the wire protocol does not allow
    ├── RendezvousRefused       exit 1   the socket directory is not safely ours
    ├── AttachRefused           exit 1   nothing was touched: this process cannot be attached to
    ├── AttachFailed            exit 1   it was tried and given up; the process runs on
    └── FileUnreadable          exit 1   a recording or post-mortem is none, or of another version

Loaded inside training processes too, so it stays importable on Python 3.9.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_NOTHING_TO_SHOW = 3
EXIT_ALERT = 4
"""``--once`` has shown something that an alert is about."""


class VramtopError(Exception):
    """Base of all errors that are shown to the user as one line."""

    exit_code = EXIT_FAILURE


class UsageError(VramtopError):
    """The command line asks for something impossible; the message says what is allowed."""

    exit_code = EXIT_USAGE


class BackendUnavailable(VramtopError):
    """The requested backend has nothing to show; the message says which of the causes it is."""

    exit_code = EXIT_NOTHING_TO_SHOW


class ProtocolError(VramtopError):
    """A peer sent something that the wire protocol does not allow."""


class RendezvousRefused(VramtopError):
    """The rendezvous directory is not safely ours (a link, a foreign owner, open permissions)."""


class AttachRefused(VramtopError):
    """The probe cannot be put into this process; the message says why and what to do instead."""


class AttachFailed(VramtopError):
    """The probe was not heard from; the process runs on as before."""


class FileUnreadable(VramtopError):
    """A file is not what it should be, or was written by another version."""
