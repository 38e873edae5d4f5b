"""The post-mortem file: what was known of a process when an allocation failed or it was lost.

Written by the probe inside the process, or by a viewer from what it had heard; one format::

    {"schema": "vramtop.postmortem/1", "written_at": 1.7e9, "written_by": "probe"|"viewer",
     "pid": 123, "start_time": 1.7e9, "user": "me"|null, "command": "python train.py",
     "failure": {...},           an ``oom`` message; of a lost process with "type": "lost"
     "traceback": "..."|null,    of the exception that nobody caught
     "messages": [...],          hello, job, history (the last minute), detail, segments, stages,
                                 sample, as a viewer would have been sent them
     "rss_bytes": 1|null,        of the process, when the last sample was taken
     "host": HOST|null, "prediction": {...}|null}       only a viewer knows these

HOST is the machine as of the viewer's last reading, with the devices that the process was on::

    {"hostname": "node1", "ram_total_bytes": 1|null, "ram_used_bytes": 1|null,
     "cpu_percent": 9.5|null, "driver_version": "..."|null, "cuda_driver_version": "..."|null,
     "devices": [{"index": 0, "uuid": "GPU-...", "name": "...", "backend": "nvml"|"host",
                  "total_bytes": 1|null, "used_bytes": 1|null, "free_bytes": 1|null,
                  "driver_reserved_bytes": 1|null,
                  "process_bytes": 1|null, "kind": "C"}]}      what the process held there

Named ``<pid>-<start ticks>-<n>`` + ``SUFFIX``, beside the process's socket. Bounded by
``MAX_FILE_BYTES``: segments go first, then the history, then modules.
"""

from __future__ import annotations

SCHEMA = "vramtop.postmortem/1"
SUFFIX = ".postmortem.json"
MAX_FILE_BYTES = 2 << 20
MAX_FILES = 20
"""So many are kept in a directory; the oldest go."""
HISTORY_S = 60.0
