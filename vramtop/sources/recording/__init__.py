"""Recordings of snapshots: written while they come, replayed by the same app.

A recording is a gzip file of lines of JSON; ``zcat FILE`` shows them. Each run of the recorder
adds one gzip member, whose first line is its header and whose others are one snapshot each::

    {"vramtop":"recording","version":1,"started_at":1.7e9,"hostname":"...","vramtop_version":"..."}
    {"taken_at":1.7e9,"host":{...},"devices":[...],"processes":[...],"period_s":1.0}

A snapshot has the fields of ``core.model.Snapshot`` and of what is in it; those that have their
default are left out. What seldom changes (``codec.SHARED``) is written once, with a number,
``{"@new":7, ...}``, and is ``{"@same":7}`` from then on until the number is given anew; numbers
do not outlive a header. The stream is flushed after every line, so that whatever ends the recorder
costs at most the line that it was writing.

A minor change adds fields: readers ignore those they do not know. Anything else is a new version.
"""
