"""A configuration by its Hugging Face id, from the cache or the hub."""

from __future__ import annotations

from typing import Any

from ..errors import UsageError


def find_config(name: str) -> dict[str, Any]:
    """The configuration as a plain dictionary, ``model_type`` in it.

    Raises:
        UsageError: neither the cache nor the hub has it.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"no configuration for {name!r}: {first}") from None
    return dict(config.to_diff_dict(), model_type=config.model_type)
