"""The tracer: records on fake tensors what a workload allocates, in a process of its own.

The only package that imports torch and transformers; ``client``, which starts that process, and
this module do not.
"""
