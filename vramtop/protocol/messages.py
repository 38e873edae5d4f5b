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
     "points": [[at, step|null, ...HISTORY_FIELDS],   each at most HISTORY_POINTS_A_LINE
                 ...]}

    {"type": "job", "torch": "2.13.0"|null, "cuda": "12.8"|null,
     "rank": 0|null, "local_rank": 0|null, "world_size": 8|null, "group": "host:29500"|null,
     "models": [{"class": "GPT2LMHeadModel", "parameters": 1, "trainable_parameters": 1,
                 "parameters_by_dtype": {"float32": 1}, "trainable_by_dtype": {"float32": 1},
                 "tensors": 148, "trainable_tensors": 148,
                 "hf_config": {...}|null, "attention": "sdpa"|null,
                 "checkpointing": false|null, "quantized": "Params4bit"|null,
                 "lora": {"rank": 8, "targets": ["c_attn"], "dropout": 0.0}|null,
                 "wrappers": ["DistributedDataParallel"],
                 "arguments": ["input_ids"], "batch_shapes": [[8, 128]],     last sampled forward
                 "training": true|null, "autocast": "bfloat16"|null}],
     "optimizers": [{"class": "AdamW", "module": "torch.optim.adamw", "steps": 12,
                     "defaults": {...}, "parameters": 1,
                     "state_by_dtype": {"float32": 2}}]}                     whenever it changed

    {"type": "sample", "at": 1.7e9, "step": 12|null, "steps_per_s": 3.2|null,
     "overhead_percent": 0.1, "dropped": 0,
     "devices": [{"device": "cuda:0", "uuid": "GPU-..."|null,
                  "allocator": {"allocated_bytes": 1, "reserved_bytes": 1, "active_bytes": 1,
                                "requested_bytes": 1|null, "inactive_split_bytes": 1|null,
                                "peak_allocated_bytes": 1, "peak_reserved_bytes": 1,
                                "segments": 1, "alloc_retries": 0, "ooms": 0}|null,
                  "breakdown": BREAKDOWN|null, "boundary": "backward"|null}],
     "detail": "ready"|"pending"|"off"}      whether a step has been sampled in detail

    {"type": "detail", "device": "cuda:0", "at": 1.7e9, "step": 12|null,       whenever a step
     "phases": [{"name": "forward", "before_bytes": 1, "after_bytes": 2,       was sampled in
                 "peak_bytes": 3|null, "count": 1, "after": BREAKDOWN|null}],  detail, a device
     "peak": {"phase": "backward", "module": "h.0.mlp"|null, "total_bytes": 3,
              "breakdown": BREAKDOWN}|null,
     "modules": [["h.0.mlp", "MLP", activation_bytes, parameter_bytes], ...],
     "notes": ["..."], "batch_shapes": [[8, 128]]}                             last forward's

    {"type": "segments", "device": "cuda:0", "at": 1.7e9,                      likewise
     "omitted_segments": 0, "omitted_bytes": 0,
     "segments": [{"total_bytes": 2097152, "pool": "small", "stream": 0, "expandable": false,
                   "blocks": [[size_bytes, "allocated"|"pending"|"free", category|null], ...]}]}

    {"type": "stages", "stages": [{"device": "cuda:0", "path": "epoch / load", "calls": 1,
                                   "before_bytes": 1, "after_bytes": 2, "peak_bytes": 3|null,
                                   "seconds": 0.1}]}                    whenever one has ended

    {"type": "problem", "message": "..."}     a fault inside the probe; the named part is off

    {"type": "oom", "device": "cuda:0", "at": 1.7e9, "step": 12|null,      whenever an allocation
     "phase": "backward"|null, "module": "h.0.mlp"|null,                   has failed, and again
     "module_source": "exact"|"nearest"|"last_peak"|null,                  when it is known
     "requested_bytes": 1|null, "free_bytes": 1|null,                      whether the program
     "total_bytes": 1|null, "message": "..."|null, "caught": true|null,    went on
     "limited_by": "address_space"|"cgroup"|"ram"|null,                    on the CPU
     "caught_ooms": 0, "file": "/path"|null}

    {"type": "bye", "why": "exit"|"detached"}     the last line of a probe that ends in order

Viewer to probe, instead of a subscription or after it::

    {"type": "detach", "protocol": 1}         take the hooks out, say bye, end the thread

BREAKDOWN has the keys of ``BREAKDOWN_FIELDS``, each with ``_bytes``; those after
``optimizer_state`` are null where unknown (``cached`` and ``fragmentation`` always on the device
``cpu``, which has no allocator to ask) and may be left out. The fields of ``PART_FIELDS`` are
parts of a category and not null. What lies outside the allocator is the viewer's to say: only it
knows the driver's figure. In the history ``process`` is the RSS on the device ``cpu``; a GPU's
driver was not asked.

Parameters and state are counted in elements, each tensor once; of what ``fully_shard`` has split
the whole is counted, of a FullyShardedDataParallel the local shard. ``state_by_dtype`` is without
tensors of one element. ``arguments`` are the names of the tensors in ``batch_shapes``: "0" is a
positional one, "0.input_ids" and "features.1" are members of a container. ``class`` and
``hf_config`` are those of the model that adapters were put into, ``targets`` the last parts of the
names of its modules. ``torch`` is null while a probe that was attached waits for torch to be
imported. ``group`` names the job of a rank. ``boundary`` is the phase that had ended last when the
rows of ``breakdown`` were told apart, by the names of the phases in ``detail``; null while that is
not known. ``step`` is the largest step count over the optimizers (one optimizer per parameter is
one step), null before any.
"""

from __future__ import annotations

PERIOD_RANGE_S = (0.05, 60.0)
HISTORY_POINTS_A_LINE = 500
TENSOR_FIELDS = (
    "parameter",
    "gradient",
    "optimizer_state",
    "activation",
    "input",
    "temporary",
    "autograd_detail",
    "unknown",
)
PART_FIELDS = ("buffer", "autocast_cache", "kv_cache", "recomputed")
BREAKDOWN_FIELDS = (*TENSOR_FIELDS, "cached", "fragmentation", *PART_FIELDS)
HISTORY_FIELDS = (*BREAKDOWN_FIELDS, "process")
"""What follows the time and the step in a point."""
MAX_PHASES = 64
MAX_MODULES = 300
MAX_SEGMENTS = 512
MAX_BLOCKS = 4096
"""Of all segments of a message together; neighbours alike are merged until they fit."""
MAX_STAGES = 64
