"""Glyph rasters: pure functions from numbers to characters and layers; no colours."""
