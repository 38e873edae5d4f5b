"""Trainings that are not one module with one optimizer, and tensors that are not plain ones."""

from __future__ import annotations

import gc
import weakref

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402


def train(model, optimizer, x, steps=2):
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).float().pow(2).mean().backward()
        optimizer.step()


def test_shared_and_expanded_storages_count_once(viewer, by_hand, three):
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].weight = model[0].weight
    whole = torch.zeros(100)
    model[0].register_buffer("a", whole[:10])
    model[0].register_buffer("b", whole[50:])
    model[1].register_buffer("wide", torch.zeros(1).expand(1000))
    optimizer = torch.optim.Adam(model.parameters())
    train(model, optimizer, torch.randn(2, 8))
    told = three(viewer.breakdown())
    assert told == by_hand(model, optimizer)
    assert told[0] == 4 * (64 + 8 + 8 + 100 + 1)


def test_sparse_gradients(viewer, by_hand, three):
    model = nn.Embedding(50, 4, sparse=True)
    optimizer = torch.optim.SparseAdam(list(model.parameters()))
    train(model, optimizer, torch.tensor([1, 2, 2, 7]))
    told = three(viewer.breakdown())
    assert model.weight.grad.is_sparse
    assert told == by_hand(model, optimizer)
    assert told[1] > 0


def test_two_models_with_an_optimizer_each(viewer, by_hand, three):
    generator, critic = nn.Linear(4, 8), nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 1))
    g_optimizer = torch.optim.Adam(generator.parameters())
    c_optimizer = torch.optim.Adam(critic.parameters())
    for _ in range(3):
        c_optimizer.zero_grad()
        critic(generator(torch.randn(2, 4)).detach()).mean().backward()
        c_optimizer.step()
        g_optimizer.zero_grad()
        critic(generator(torch.randn(2, 4))).mean().backward()
        g_optimizer.step()
    expected = by_hand([generator, critic], [g_optimizer, c_optimizer])
    assert three(viewer.breakdown()) == expected


def test_optimizer_inside_backward(viewer, by_hand, three):
    model = nn.Sequential(*[nn.Linear(8, 8) for _ in range(3)])
    optimizers = {p: torch.optim.Adam([p]) for p in model.parameters()}

    def step(parameter):
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    hooks = [p.register_post_accumulate_grad_hook(step) for p in model.parameters()]
    for _ in range(3):
        out = model(torch.randn(2, 8))
        out.mean().backward()
    model(torch.randn(2, 8))
    assert three(viewer.breakdown()) == by_hand(model, list(optimizers.values()))
    assert viewer.now()["step"] == 3
    for hook in hooks:  # a cycle that the garbage collector does not see
        hook.remove()


def test_a_wrapper_stands_for_the_model_inside(viewer, by_hand, three):
    class Trainer(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def training_step(self, x):
            return self.model(x).mean()  # as Lightning does: the wrapper is never called

    trainer = Trainer(nn.Linear(4, 4))
    optimizer = torch.optim.Adam(trainer.parameters())
    for _ in range(3):
        trainer.training_step(torch.randn(2, 4)).backward()
        optimizer.step()
    assert three(viewer.breakdown()) == by_hand(trainer, optimizer)
    assert [m["class"] for m in viewer.job["models"]] == ["Trainer"]


def test_wrapped_tensors_count_what_they_wrap(viewer):
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.tensor import Replicate, distribute_tensor

        mesh = init_device_mesh("cpu", (1,))
        model = nn.Linear(4, 4, bias=False)
        model.weight = nn.Parameter(distribute_tensor(model.weight.data, mesh, [Replicate()]))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, foreach=False)
        model.weight.grad = torch.zeros_like(model.weight)
        optimizer.step()
        row = viewer.breakdown()
        sizes = row["parameter_bytes"], row["gradient_bytes"], row["optimizer_state_bytes"]
        assert sizes == (64, 64, 64)
    finally:
        torch.distributed.destroy_process_group()


def test_meta_and_lazy_parameters_hold_no_memory(viewer):
    model = nn.Sequential(nn.Linear(4, 4), nn.LazyLinear(4))
    model.register_buffer("ghost", torch.empty(1000, device="meta"))
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1)
    model[0](torch.randn(2, 4)).mean().backward()
    optimizer.step()
    assert viewer.breakdown()["parameter_bytes"] == 4 * (16 + 4)


def test_nothing_is_kept_alive(viewer):
    model = nn.Linear(4, 4)
    optimizer = torch.optim.Adam(model.parameters())
    train(model, optimizer, torch.randn(2, 4))
    assert viewer.breakdown()["parameter_bytes"] == 80
    dead = [weakref.ref(model), weakref.ref(optimizer), weakref.ref(model.weight)]
    del model, optimizer
    gc.collect()
    assert [ref() for ref in dead] == [None, None, None]
    assert all(d["breakdown"]["parameter_bytes"] == 0 for d in viewer.now()["devices"])


def test_watch_takes_models_and_optimizers_in_any_order(viewer, by_hand, three):
    import vramtop

    model = nn.Linear(4, 4)
    optimizer = torch.optim.Adam(model.parameters())
    assert vramtop.watch(optimizer, model) is None
    model(torch.randn(2, 4))  # counted without any step
    assert three(viewer.breakdown()) == by_hand(model, optimizer) == (80, 0, 0)
    train(model, optimizer, torch.randn(2, 4))
    vramtop.watch(model)
    assert three(viewer.breakdown()) == by_hand(model, optimizer)
    with pytest.raises(TypeError, match="not str"):
        vramtop.watch(model, "adam")
