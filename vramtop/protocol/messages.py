"""The messages of wire protocol 1. This docstring is the specification.

Every message is one JSON object on one line with a ``type``; unknown types and unknown fields are
ignored, so either side may be the newer one. Bytes are integers, times are seconds since the
epoch, unknown is null.

Probe to viewer, on connect::

    {"type": "hello", "protocol": 1, "version": "0.1.0", "pid": 123, "start_time": 1.7e9,
     "python": "3.11.7", "argv": ["python", "train.py"]}

Viewer to probe; may be sent again to change the period (clamped to ``PERIOD_RANGE_S``)::

    {"type": "subscribe", "protocol": 1, "period_s": 1.0, "history": true}

Probe to viewer, after the subscription::

    {"type": "history", "device": "cuda:0",            one or more lines a device,
     "points": [[at, step|null, parameter, gradient,   each at most HISTORY_POINTS_A_LINE
                 optimizer_state, other_allocated|null, cached|null, buffer,
                 process|null], ...]}

    {"type": "job", "torch": "2.13.0"|null, "cuda": "12.8"|null,
     "rank": 0|null, "local_rank": 0|null, "world_size": 8|null,
     "models": [{"class": "GPT2LMHeadModel", "parameters": 1, "trainable_parameters": 1,
                 "parameters_by_dtype": {"float32": 1}, "batch_shapes": [[8, 128]],
                 "hf_config": {...}|null}],
     "optimizers": [{"class": "AdamW", "steps": 12, "defaults": {...}}]}     whenever it changed

    {"type": "sample", "at": 1.7e9, "step": 12|null, "steps_per_s": 3.2|null,
     "overhead_percent": 0.1, "dropped": 0,
     "devices": [{"device": "cuda:0", "uuid": "GPU-..."|null,
                  "allocator": {"allocated_bytes": 1, "reserved_bytes": 1, "active_bytes": 1,
                                "requested_bytes": 1|null, "inactive_split_bytes": 1|null,
                                "peak_allocated_bytes": 1, "peak_reserved_bytes": 1,
                                "segments": 1, "alloc_retries": 0, "ooms": 0}|null,
                  "breakdown": {"parameter_bytes": 1, "gradient_bytes": 1,
                                "optimizer_state_bytes": 1, "buffer_bytes": 1,
                                "other_allocated_bytes": 1|null, "cached_bytes": 1|null}|null}]}

    {"type": "problem", "message": "..."}     a fault inside the probe; the named part is off

In the history ``process`` is the RSS on the device ``cpu``; a GPU's driver was not asked.
``buffer`` is the part of ``parameter`` that module buffers hold. On the device ``cpu`` there is no
allocator: ``allocator``, ``other_allocated`` and ``cached`` are null. What lies outside the
allocator is the viewer's to say: only it knows the driver's figure. ``step`` is the largest step
count over the optimizers (one optimizer per parameter is one step), null before any.
"""

from __future__ import annotations

PERIOD_RANGE_S = (0.05, 60.0)
HISTORY_POINTS_A_LINE = 500
# Not read by code: the order of a point, for whoever writes the other side.
HISTORY_FIELDS = (
    "at",
    "step",
    "parameter",
    "gradient",
    "optimizer_state",
    "other_allocated",
    "cached",
    "buffer",
    "process",
)
