"""torch.compile in whole graphs; argv[1] is what is compiled, argv[2] the backend."""

import sys

import parts
import torch
from proof import STEPS, Proof
from torch._dynamo.utils import counters

proof = Proof()
what, backend = sys.argv[1:]
torch._dynamo.config.error_on_recompile = True
options = {"backend": backend, "fullgraph": True}
model = parts.Perceptron()
optimizer = torch.optim.AdamW(model.parameters())
call, step = model, optimizer.step
if what == "module":
    call = torch.compile(model, **options)
elif what == "method":
    model.compile(**options)
elif what == "function":
    call = torch.compile(lambda x: model(x), **options)
elif what == "inner":  # a submodule and the optimizer's step
    model.layers[3] = torch.compile(model.layers[3], **options)
    step = torch.compile(optimizer.step, backend=backend)
elif what == "late":  # the probe has hooked the module when the compiler first sees it
    parts.loss_of(model, *parts.batch()).backward()
    optimizer.step()
    model.compile(**options)
for _ in range(STEPS):
    x, y = parts.batch()
    loss = torch.nn.functional.cross_entropy(call(x), y)
    optimizer.zero_grad()
    loss.backward()
    step()
    proof.loss(loss)
proof.end(
    model,
    graphs=counters["stats"]["unique_graphs"],
    calls=counters["stats"]["calls_captured"],
    breaks=dict(counters["graph_break"]),
    recompiles=dict(counters["recompiles"]),
)
