"""The post-mortem file: what was known of a process when an allocation failed or it was lost.

Written by the probe inside the process, or by a viewer from what it had heard; one format::

    {"schema": "vramtop.postmortem/1", "written_at": 1.7e9, "written_by": "probe"|"viewer",
     "pid": 123, "start_time": 1.7e9, "user": "me"|null, "command": "python train.py",
     "failure": {...},           an ``oom`` message; of a lost process with "type": "lost"
     "traceback": "..."|null,    of the exception that nobody caught
     "messages": [...],          hello, job, history (the last minute), detail, segments, stages,
                                 sample, as a viewer would have been sent them
     "host": {...}|null, "prediction": {...}|null}       only a viewer knows these

Bounded by ``MAX_FILE_BYTES``: segments go first, then the history, then modules.
"""

from __future__ import annotations

SCHEMA = "vramtop.postmortem/1"
SUFFIX = ".postmortem.json"
MAX_FILE_BYTES = 2 << 20
MAX_FILES = 20
"""So many are kept in a directory; the oldest go."""
HISTORY_S = 60.0
