"""Where the bytes of the closed form go: one file a component."""
