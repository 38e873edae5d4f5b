"""torch.func: gradients of each example by vmap(grad), a Jacobian, forward-mode derivatives."""

import parts
import torch
from proof import STEPS, Proof
from torch.func import functional_call, grad, grad_and_value, jacrev, jvp, vmap

proof = Proof()
model = parts.Perceptron(64)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


def loss_of(parameters, x, y):
    out = functional_call(model, parameters, (x[None],))
    return torch.nn.functional.cross_entropy(out, y[None])


each = vmap(grad(loss_of), in_dims=(None, 0, 0), randomness="different")
for step in range(STEPS):
    x, y = parts.batch(16)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    gradients, value = grad_and_value(loss_of)(parameters, x[0], y[0])
    for name, gradient in each(parameters, x, y).items():
        model.get_parameter(name).grad = gradient.mean(0) + 0.0 * gradients[name]
    optimizer.step()
    if step % 2:
        optimizer.zero_grad()
        parts.loss_of(model, x, y).backward()
        optimizer.step()
    if step % 5 == 0:
        proof.loss(jacrev(model)(x[0]), *jvp(model, (x,), (torch.ones_like(x),)))
    proof.loss(value)
proof.end(model)
