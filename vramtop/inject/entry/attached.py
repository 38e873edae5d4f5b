"""Runs inside the process that is attached to: has the probe loaded from the viewer's files.

A debugger, or ``sys.remote_exec``, executes this on the main thread between any two bytecodes of
the user's: perhaps inside ``with lock:`` somewhere in the standard library, perhaps halfway
through an import. So the main thread takes no lock and imports nothing here, it only starts
another one. Handlers of signals run on the main thread alone: what they raise (a Ctrl-C, a SLURM
job's warning) finds none of our code to fall into, but for the lines at the end.

Any Python from 3.9 on; the globals are TICKET, ``__file__`` and ``__name__``.
"""

import sys

_FORK_WAIT_S = 2.0


def _start(ticket):
    import _thread  # since the interpreter's start in sys.modules: this takes no lock

    try:
        _thread.start_new_thread(_work, (ticket, _thread.get_ident()))
    except KeyboardInterrupt:
        # The user's, and out of here it would end nothing: whoever runs us catches everything.
        # Raised again as soon as the main thread is back in the user's code.
        _thread.start_new_thread(_interrupt_again, (_thread.interrupt_main,))


def _interrupt_again(interrupt):
    import time

    time.sleep(0.02)
    interrupt()


def _work(ticket, main):
    try:
        import os

        taken = ticket + ".taken"
        try:
            os.rename(ticket, taken)  # noqa: PTH104  as few imports as will do
        except FileNotFoundError:
            return  # the viewer has given up; once the ticket is ours, it waits for the answer
        import json

        with open(taken, "rb") as file:  # noqa: PTH123
            asked = json.load(file)
        answer = {"python": sys.version.split()[0], "torch": None, "error": None}
        release = _hold_forks()
        try:
            _import_threading(main)
            late = _probe(asked["package"])
            answer["torch"] = late.attach(asked["directory"])
        except BaseException as error:
            answer["error"] = f"{type(error).__name__}: {error}"[:300]
        finally:
            release()
        if os.path.exists(taken):  # noqa: PTH110  else nobody waits for it
            _write(ticket + ".answer", json.dumps(answer).encode())
    except BaseException:
        # Nothing of ours may be seen in a process that is not ours; the viewer waits in vain.
        pass


def _hold_forks():
    """Until the returned function is called, forks wait (a little while).

    What this thread is importing just then a forked child could never import: the lock of that
    module would be held by a thread that does not exist there. No Event: who finds it set may fork
    before its lock is given back, and setting it in the child would wait for that lock.
    """
    import _thread
    import os

    done = []
    held = _thread.allocate_lock()
    held.acquire()

    def wait():
        if not done and held.acquire(timeout=_FORK_WAIT_S):
            held.release()

    def release():
        done.append(True)
        held.release()

    os.register_at_fork(before=wait, after_in_child=lambda: done.append(True))
    return release


def _import_threading(main):
    """Has the main thread stay the main one.

    Before Python 3.13 the thread that imports ``threading`` first is taken for it; as soon as that
    one has ended, nobody would wait for the program's other threads at exit.
    """
    import _thread
    import os
    import threading

    thread = threading.main_thread()
    if thread.ident != _thread.get_ident():
        return
    alive = _thread.allocate_lock()
    alive.acquire()
    with threading._active_limbo_lock:
        threading._active.pop(thread.ident, None)
        thread._ident, thread._native_id, thread._tstate_lock = main, os.getpid(), alive
        threading._active[main] = thread


def _probe(package):
    """The module that attaches: of a probe that is here already, else of the given package."""
    from importlib import import_module

    root = "_vramtop_injected"
    session = sys.modules.get("vramtop.probe.session")  # of the program's own `vramtop.watch`
    if root + ".probe" not in sys.modules and getattr(session, "_session", None) is not None:
        root = "vramtop"
    elif root not in sys.modules:
        module = type(sys)(root)
        module.__path__ = [package]
        sys.modules[root] = module
    return import_module(root + ".probe.late")


def _write(path, content):
    """So that whoever sees the file sees all of it."""
    import os

    unready = path + ".unready"
    descriptor = os.open(unready, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123
        file.write(content)
    os.replace(unready, path)  # noqa: PTH105


_start(TICKET)  # noqa: F821  given by whoever runs this
