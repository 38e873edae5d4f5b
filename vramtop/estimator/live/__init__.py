"""Pure: from what is known of a live process to what it should hold."""
