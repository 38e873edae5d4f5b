"""Boots the probe at the start of every Python below ``vramtop run``, then steps aside.

What follows is the sitecustomize that Python would have run. Any Python may meet this file: it is
valid Python 2, and does nothing there or below 3.9.
"""

import sys


def _boot_probe(package_directory):
    # A root package with a private name: neither `vramtop` nor its dependencies need be installed
    # in this environment, and a project's own `vramtop` stays what it is.
    root = type(sys)("_vramtop_injected")
    root.__path__ = [package_directory]
    sys.modules[root.__name__] = root
    from _vramtop_injected.probe import boot

    boot.install()


def _step_aside():
    # The directory goes from sys.path but stays in PYTHONPATH: child processes need it there.
    here = __file__.rpartition("/")[0]
    sys.path[:] = [entry for entry in sys.path if entry != here]
    sys.path_importer_cache.pop(here, None)
    if sys.version_info >= (3, 9):  # noqa: UP036  the linter's minimum is not the process's
        try:
            _boot_probe(here.rpartition("/inject/")[0])
        except KeyboardInterrupt:
            raise  # the user's, and it would have ended the start anywhere else too
        except BaseException:
            # Nothing of ours may be seen in, or stop, a process that is not ours.
            pass


# Python 2 empties a module that nobody holds any more, while it still runs.
_this_module = sys.modules.pop(__name__)
_step_aside()

# Now as if this file had never been found: whatever this import does or raises reaches `site`,
# which expects exactly that (no module of this name, or an error in the user's own).
import sitecustomize  # noqa: E402, F401
