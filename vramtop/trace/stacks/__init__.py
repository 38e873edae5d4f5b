"""Training loops of other libraries, modelled from their published sources, one module a library.

Each has ``build(workload, layers) -> (module, step)``: the model on the meta device and a step
``(module, batch, sequence) -> loss`` that does what the library does between two optimizer steps.
"""
