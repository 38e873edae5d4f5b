"""Two gloo ranks, each a process; argv[1] is ddp, ddp-views (gradients in the buckets) or fsdp2."""

import gc
import os
import subprocess
import sys
import tempfile
from pathlib import Path


def start():
    """Both ranks, and what they print in the order of their ranks."""
    with tempfile.TemporaryDirectory() as directory:
        ranks = [
            subprocess.Popen(
                [sys.executable, *sys.argv],
                env={**os.environ, "RANK": str(rank), "STORE": f"{directory}/store"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        for rank in ranks:
            out, err = rank.communicate()
            print(rank.returncode, out, end="", flush=True)
            print(err, end="", file=sys.stderr)


def train(kind):
    import parts
    import torch
    import torch.distributed as dist
    from proof import STEPS, Proof

    rank, store = int(os.environ["RANK"]), os.environ["STORE"]
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    proof = Proof()
    model = whole = parts.Transformer()
    if kind == "fsdp2":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (2,))
        for block in model.blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
    else:
        views = kind == "ddp-views"
        whole = torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=views)
    optimizer = torch.optim.AdamW(model.parameters())
    torch.manual_seed(rank)  # every rank its own batches
    for step in range(STEPS // 2):
        optimizer.zero_grad()
        if kind == "ddp-views" and step % 3 == 0:
            with whole.no_sync():
                parts.next_token_loss(whole, parts.tokens()).backward()
        loss = parts.next_token_loss(whole, parts.tokens())
        loss.backward()
        optimizer.step()
        proof.loss(loss)
        if kind == "fsdp2":  # shapes that DTensor has not met work out theirs on fake tensors
            proof.loss(model.head.weight[:, : 1 + step % 60].abs().sum().full_tensor())
    proof.end(model)
    # Gloo's threads must end before the interpreter does, or they may abort it.
    del model, whole, optimizer, loss
    gc.collect()
    dist.destroy_process_group()


if "RANK" in os.environ:
    sys.path.insert(0, str(Path(__file__).parent))
    train(sys.argv[1])
else:
    start()
