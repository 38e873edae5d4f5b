"""Asking NVML one thing: what each error code means for us, and what need not be asked again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ...core.texts import printable

# Return codes by their numbers in NVML's public header: pynvml is imported late, and its older
# versions lack the newer names.
UNINITIALIZED: Final = 1
INVALID_ARGUMENT: Final = 2
NOT_SUPPORTED: Final = 3
NO_PERMISSION: Final = 4
NOT_FOUND: Final = 6
INSUFFICIENT_SIZE: Final = 7
DRIVER_NOT_LOADED: Final = 9
LIBRARY_NOT_FOUND: Final = 12
FUNCTION_NOT_FOUND: Final = 13
GPU_IS_LOST: Final = 15
RESET_REQUIRED: Final = 16
LIB_RM_VERSION_MISMATCH: Final = 18
ARGUMENT_VERSION_MISMATCH: Final = 25
DEPRECATED: Final = 26
GPU_NOT_FOUND: Final = 28

PERMANENT: Final = frozenset(
    {NOT_SUPPORTED, FUNCTION_NOT_FOUND, ARGUMENT_VERSION_MISMATCH, DEPRECATED}
)
"""This driver will never answer this call for this device."""
SESSION: Final = frozenset({UNINITIALIZED, DRIVER_NOT_LOADED, LIB_RM_VERSION_MISMATCH})
"""Everything that was opened is void: initialise again."""
DEVICE: Final = frozenset({GPU_IS_LOST, RESET_REQUIRED, GPU_NOT_FOUND})
"""The device is gone: nothing else needs to be asked this tick."""


NONSENSE: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What comes of reading an answer that is not of the kind that the call promises."""
_MOST_BYTES: Final = 1 << 60
_MOST_TEXT: Final = 300


class SessionLost(Exception):
    """The driver was unloaded, reloaded or replaced under us."""


class DeviceLost(Exception):
    """This device cannot be read at the moment; the others may."""


class Asker:
    """Asks one device, remembering for good what it cannot and for one tick what it did not.

    Attributes:
        unsupported: What the driver will never report, in the user's words.
        denied: What this user may not see, since ``start_tick``.
        failed: What went wrong for now, and how, since ``start_tick``.
    """

    def __init__(self, pynvml: Any) -> None:
        self._error = pynvml.NVMLError
        self._void: set[str] = set()
        self.unsupported: list[str] = []
        self.denied: set[str] = set()
        self.failed: dict[str, str] = {}

    def start_tick(self) -> None:
        """Forget what may pass."""
        self.denied.clear()
        self.failed.clear()

    def ask(
        self,
        what: str,
        call: Callable[..., Any],
        *arguments: Any,
        read: Callable[[Any], Any] = lambda answer: answer,
        key: str = "",
        expected: bool = False,
    ) -> Any:
        """The answer as ``read`` takes it, or None with the reason noted under ``what``.

        ``key`` names the call where ``what`` does not. ``expected``: that a driver cannot answer
        is no news for the user.

        Raises:
            SessionLost, DeviceLost: see there.
        """
        key = key or what
        if key in self._void:
            return None
        try:
            return read(call(*arguments))
        except self._error as error:
            code, words = error.value, str(error)
        except UnicodeDecodeError:
            code, words = 0, "garbled text"  # seen from drivers about to lose a GPU
        except NONSENSE:
            code, words = 0, "an answer that makes no sense"
        if code in SESSION:
            raise SessionLost(words)
        if code in DEVICE:
            raise DeviceLost(words)
        if code in PERMANENT:
            self._void.add(key)
            if not expected:
                self.lacks(what)
        elif code == NO_PERMISSION:
            self.denied.add(what)
        else:
            self.failed[what] = words
        return None

    def lacks(self, what: str) -> None:
        """Note that the driver never reports this."""
        if what not in self.unsupported:
            self.unsupported.append(what)

    def is_void(self, key: str) -> bool:
        """Whether the driver has said that it never answers this."""
        return key in self._void


def natural(answer: Any) -> int:
    """A number of bytes, of things, or of some unit.

    Raises:
        ValueError: it cannot be one.
    """
    if not isinstance(answer, int) or not 0 <= answer < _MOST_BYTES:
        raise ValueError
    return answer


def name(answer: Any) -> str:
    """A name, of a length that a screen can show.

    Raises:
        ValueError: it is no text.
    """
    if not isinstance(answer, str):
        raise ValueError  # noqa: TRY004  as for every other answer
    return printable(answer[:_MOST_TEXT])
