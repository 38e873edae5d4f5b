"""Screens over the main one; each is imported when it is first opened."""
