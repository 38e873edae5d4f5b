"""Widgets that paint lines of their own; they do no I/O and read no clock."""
