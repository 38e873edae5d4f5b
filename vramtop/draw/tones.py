"""Colours of what is shown, by tone: a segment of a bar, or a role such as text, dim, warn."""

from __future__ import annotations

from typing import Final

PENDING: Final = "pending"
"""Key of memory that the program has freed and a stream still holds back."""

# Okabe and Ito's palette, told apart with any kind of colour vision, is for tensors alone; their
# black is the lightest grey on a dark screen.
DARK_TONES: Final = {
    "parameter": "#56B4E9",
    "gradient": "#E69F00",
    "optimizer_state": "#009E73",
    "activation": "#D55E00",
    "input": "#F0E442",
    "temporary": "#CC79A7",
    "autograd_detail": "#0072B2",
    "unknown": "#E6EDF3",
    "cached": "#57606A",
    "fragmentation": "#9AA4AF",
    "outside_allocator": "#8B949E",
    "other_processes": "#7A88A8",
    "driver_reserved": "#7D8590",
    "unattributed": "#B1BAC4",
    "free": "#21262D",
    PENDING: "#E6EDF3",
    "background": "#0D1117",
    "text": "#E6EDF3",
    "dim": "#8B949E",
    "rule": "#3D444D",
    "accent": "#56B4E9",
    "warn": "#E69F00",
    "error": "#FF7B72",
    "good": "#2EBF8F",
    "selected": "#1F4468",
    "chip": "#21262D",
}
# The same hues, dark enough to be seen on white.
LIGHT_TONES: Final = {
    "parameter": "#2B7FB8",
    "gradient": "#CC8500",
    "optimizer_state": "#00795A",
    "activation": "#A83E00",
    "input": "#A89B00",
    "temporary": "#A8507F",
    "autograd_detail": "#004A77",
    "unknown": "#1F2328",
    "cached": "#9AA2AB",
    "fragmentation": "#59636E",
    "outside_allocator": "#6E7781",
    "other_processes": "#5A6A8C",
    "driver_reserved": "#6E7781",
    "unattributed": "#8A929B",
    "free": "#E4E8ED",
    PENDING: "#1F2328",
    "background": "#FFFFFF",
    "text": "#1F2328",
    "dim": "#59636E",
    "rule": "#C1C8D0",
    "accent": "#00568F",
    "warn": "#8A5A00",
    "error": "#B3261E",
    "good": "#00694E",
    "selected": "#CBE3F7",
    "chip": "#EAEEF2",
}
# The values are exactly those that rich takes the sixteen colours for, so none falls together.
SIXTEEN_TONES: Final = {
    "parameter": "#55FFFF",
    "gradient": "#AA5500",
    "optimizer_state": "#00AA00",
    "activation": "#FF5555",
    "input": "#FFFF55",
    "temporary": "#FF55FF",
    "autograd_detail": "#5555FF",
    "unknown": "#FFFFFF",
    "cached": "#AAAAAA",
    "fragmentation": "#AAAAAA",
    "outside_allocator": "#AAAAAA",
    "other_processes": "#00AAAA",
    "driver_reserved": "#AAAAAA",
    "unattributed": "#FFFFFF",
    "free": "#555555",
    PENDING: "#FFFFFF",
    "background": "#000000",
    "text": "#FFFFFF",
    "dim": "#AAAAAA",
    "rule": "#555555",
    "accent": "#55FFFF",
    "warn": "#FFFF55",
    "error": "#FF5555",
    "good": "#55FF55",
    "selected": "#0000AA",
    "chip": "#555555",
}

SIXTEEN_LIGHT_TONES: Final = {
    "parameter": "#00AAAA",
    "gradient": "#AA5500",
    "optimizer_state": "#00AA00",
    "activation": "#AA0000",
    "input": "#FFFF55",
    "temporary": "#AA00AA",
    "autograd_detail": "#0000AA",
    "unknown": "#000000",
    "cached": "#555555",
    "fragmentation": "#555555",
    "outside_allocator": "#555555",
    "other_processes": "#5555FF",
    "driver_reserved": "#555555",
    "unattributed": "#000000",
    "free": "#AAAAAA",
    PENDING: "#000000",
    "background": "#FFFFFF",
    "text": "#000000",
    "dim": "#555555",
    "rule": "#AAAAAA",
    "accent": "#0000AA",
    "warn": "#AA5500",
    "error": "#AA0000",
    "good": "#00AA00",
    "selected": "#55FFFF",
    "chip": "#AAAAAA",
}

COMPONENT_TONES: Final = {
    "kv_cache": "unknown",
    "workspace": "fragmentation",
    "context": "outside_allocator",
    "reserve": "driver_reserved",
}
"""Estimated components that the live screen does not tell apart, in colours that nothing else has
in an estimate; all others have tones of their own name."""
