"""What fake tensors cannot say, as they have no values: that no row is padded or packed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def values_that_are_known() -> Iterator[None]:
    """Let transformers see on fake tensors what it would see in the values of a GPU's.

    No row holds several sequences and none is padded; without asking it would take neither for
    granted and mask each attention in full.
    """
    masks: Any = sys.modules.get("transformers.masking_utils")
    before = {name: getattr(masks, name) for name in _ASK_VALUES if hasattr(masks, name)}
    for name, function in before.items():
        setattr(masks, name, _ASK_VALUES[name](function))
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(masks, name, function)


def _none_packed(find: Any) -> Any:
    def found_none(position_ids: Any) -> None:
        find(position_ids)

    return found_none


def _none_padded(ignore: Any) -> Any:
    def ignore_full(_padding_mask: Any, *args: Any, **kwargs: Any) -> Any:
        return ignore(None, *args, **kwargs)

    return ignore_full


_ASK_VALUES = {
    "find_packed_sequence_indices": _none_packed,
    "_ignore_causal_mask_sdpa": _none_padded,
    "_ignore_bidirectional_mask_sdpa": _none_padded,
}
"""Functions of ``transformers.masking_utils`` and what makes one that knows the answer."""
