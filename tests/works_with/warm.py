"""A Python that has imported torch already, and becomes a script by forking: seconds saved a run.

Reads a job a line ({"command", "env", "out", "err", "done"}); writes the exit status, as waitpid
gives it, into ``done``.
"""

import json
import os
import runpy
import sys
from pathlib import Path

import torch._dynamo  # noqa: F401


def watched_over(job):
    """Fork a child that goes on as the script; tell its status when it has ended."""
    pid = os.fork()
    if pid == 0:
        return
    status = os.waitpid(pid, 0)[1]
    done = Path(job["done"])
    done.with_suffix(".part").write_text(str(status))
    done.with_suffix(".part").rename(done)
    os._exit(0)


def become(job):
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    os.environ.update(job["env"])
    sys.argv[:] = job["command"]
    sys.path[0] = str(Path(sys.argv[0]).parent)


def next_job():
    """Return only in the processes that have a job."""
    jobs = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115  reads not a byte too many
    while line := jobs.readline():
        if os.fork() == 0:
            return json.loads(line)
        os.wait()
    os._exit(0)


if __name__ == "__main__":
    job = next_job()
    if os.fork():
        os._exit(0)
    watched_over(job)
    become(job)
    runpy.run_path(sys.argv[0], run_name="__main__")
