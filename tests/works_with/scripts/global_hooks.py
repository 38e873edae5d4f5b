"""The user's own hooks on all modules, on one, and on tensors: the same calls in the same order."""

import hashlib

import parts
import torch
from proof import STEPS, Proof
from torch.nn.modules import module as modules

proof = Proof()
heard, count = hashlib.sha256(), 0


def hear(what):
    def hook(module, *values):
        global count
        count += 1
        heard.update(f"{what} {type(module).__name__} {len(values)}".encode())

    return hook


def double(parameter):
    parameter.grad.mul_(2)


model = parts.Transformer()
optimizer = torch.optim.AdamW(model.parameters())
modules.register_module_forward_pre_hook(hear("before"))
modules.register_module_forward_hook(hear("after"), always_call=True)
modules.register_module_full_backward_pre_hook(hear("before backward"))
modules.register_module_full_backward_hook(hear("after backward"))
model.register_forward_hook(lambda module, args, output: output * 1.5)
model.blocks[1].register_forward_pre_hook(lambda module, args: (args[0] * 0.9,), prepend=True)
model.head.weight.register_hook(lambda gradient: gradient * 0.5)
model.head.bias.register_post_accumulate_grad_hook(double)
optimizer.register_step_pre_hook(hear("before step"))
optimizer.register_step_post_hook(hear("after step"))
for _ in range(STEPS):
    loss = parts.next_token_loss(model, parts.tokens())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    proof.loss(loss)
proof.end(model, count=count, heard=heard.hexdigest())
