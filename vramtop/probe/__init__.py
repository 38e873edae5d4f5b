"""The part of vramtop that runs inside the training process: it watches and never interferes.

Standard library only, Python 3.9+, relative imports only: when injected, the package is loaded
under a private name. torch is taken from ``sys.modules``, never imported.

``boot`` waits for torch (``late`` comes into a process that has long begun, ``waiting`` is sent
until there is torch); ``session`` holds the parts together; ``observer`` hears of forwards and
optimizer steps on the training thread, counts (``accounting``) and has single steps recorded in
``detail``; ``server`` is the one thread, which sends what was counted and recorded and the
allocator's ``counters`` to viewers; ``presence`` holds it. ``ears`` is all that is in torch.
"""
