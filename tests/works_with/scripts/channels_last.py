"""A convolutional network and its images in channels_last."""

import parts
import torch
from proof import STEPS, Proof

proof = Proof()
model = parts.convnet().to(memory_format=torch.channels_last)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
strides = set()
model[3].register_forward_hook(lambda module, args, output: strides.add(output.stride()))
for _ in range(STEPS):
    x, y = parts.images()
    loss = parts.loss_of(model, x.to(memory_format=torch.channels_last), y)
    optimizer.zero_grad()
    loss.backward()
    strides.add(model[3].weight.grad.stride())
    optimizer.step()
    proof.loss(loss)
proof.end(model, strides=sorted(strides))
