"""NVIDIA GPUs through NVML: what the driver says of devices, MIG instances and processes."""

from .backend import NvmlBackend

__all__ = ["NvmlBackend"]
