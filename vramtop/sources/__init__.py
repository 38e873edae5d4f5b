"""Adapters to the world: drivers, /proc, probes' sockets; and the collector that joins them."""
