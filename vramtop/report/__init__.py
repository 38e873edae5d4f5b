"""Headless fronts: a snapshot as text or JSON."""
