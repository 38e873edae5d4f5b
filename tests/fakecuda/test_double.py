"""The double against what the CPU computes, and what torch says of its own tensors."""

import json
from itertools import pairwise

from tests.fakecuda.conftest import PREAMBLE

BEGIN = (
    PREAMBLE
    + """
import json, threading
memory = install({install})
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
"""
)


def answer(run, code, install=""):
    """What the code prints as JSON, in a process with the double and no probe."""
    status, out, err = run(BEGIN.format(install=install) + code, probed=False)
    assert status == 0, err
    return json.loads(out)


def test_a_training_computes_what_it_computes_on_the_cpu(run):
    code = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 64)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True) for _ in range(2)
        )
        self.head = nn.Linear(64, 50)

    def forward(self, x):
        x = self.embed(x)
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=False)
        return self.head(x)

def losses(device):
    torch.manual_seed(0)
    model = Model().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    found = []
    for _ in range(6):
        x = torch.randint(0, 50, (4, 16)).to(device)
        logits = model(x).flatten(0, 1)
        loss = nn.functional.cross_entropy(logits, x.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return found

print(json.dumps([losses("cpu"), losses("cuda")]))
"""
    on_cpu, on_double = answer(run, code)
    # Memory given twice would be another loss; the attention's algorithm is another one.
    assert max(abs(a - b) for a, b in zip(on_cpu, on_double, strict=True)) < 1e-4
    assert on_cpu[-1] < on_cpu[0]


def test_every_storage_is_one_allocated_block_of_the_snapshot(run):
    code = """
held = [torch.randn(n, device="cuda") for n in (1, 100, 1000, 200_000, 300_000, 3_000_000)]
held += [held[3].view(2, -1)[1], held[4] + 1, torch.arange(1000, device="cuda")]
del held[1]
storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in held}
blocks = [block for segment in torch.cuda.memory_snapshot() for block in segment["blocks"]]
stats = torch.cuda.memory_stats()
print(json.dumps([sorted(storages.items()), blocks, stats]))
"""
    storages, blocks, stats = answer(run, code)
    allocated = [block for block in blocks if block["state"] == "active_allocated"]
    assert [(block["address"], block["requested_size"]) for block in allocated] == [
        tuple(storage) for storage in storages
    ]
    for one, other in pairwise(blocks):
        assert one["address"] + one["size"] <= other["address"]
    assert sum(block["size"] for block in allocated) == stats["allocated_bytes.all.current"]
    assert sum(block["size"] for block in blocks) == stats["reserved_bytes.all.current"]
    assert sum(size for _, size in storages) == stats["requested_bytes.all.current"]


def test_backward_runs_on_a_thread_of_the_engines(run):
    code = """
threads = []
x = torch.ones(8, device="cuda", requires_grad=True)
x.register_hook(lambda grad: threads.append(threading.get_native_id()))
(x * 2).sum().backward()
print(json.dumps([threads[0] == threading.get_native_id(), str(x.grad.device), x.grad.tolist()]))
"""
    assert answer(run, code) == [False, "cuda:0", [2.0] * 8]


def test_memory_runs_out_as_torch_says_it(run):
    code = """
seen = []
torch._C._cuda_attach_out_of_memory_observer(lambda *args: seen.append(args))
kept = torch.empty(6 << 20, device="cuda", dtype=torch.uint8)
try:
    torch.empty(16 << 20, device="cuda", dtype=torch.uint8)
    text = None
except torch.OutOfMemoryError as error:
    text = str(error)
stats = torch.cuda.memory_stats()
del kept
after = torch.empty(16 << 20, device="cuda", dtype=torch.uint8).numel()
print(json.dumps([text, seen, stats["num_ooms"], stats["num_alloc_retries"], after]))
"""
    text, seen, ooms, retries, after = answer(run, code, "capacity_bytes=30 << 20")
    assert text.startswith("CUDA out of memory. Tried to allocate 16.00 MiB.")
    assert "of which 10.00 MiB is free" in text
    # 6 MiB are a piece of a segment of 20 MiB; 16 fit no other and need a segment of their own.
    assert seen == [[0, 16 << 20, 30 << 20, 10 << 20]]
    assert (ooms, retries, after) == (1, 1, 16 << 20)


def test_cuda_is_asked_through_torch_cuda_itself(run):
    code = """
before = torch.cuda.is_initialized()
x = torch.ones(1000, device="cuda")
peak = torch.cuda.max_memory_allocated()
del x
torch.cuda.empty_cache()
torch.cuda.reset_peak_memory_stats()
print(json.dumps([
    torch.cuda.is_available(), before, torch.cuda.is_initialized(), torch.cuda.device_count(),
    torch.cuda.get_device_name(), torch.cuda.is_current_stream_capturing(),
    peak, torch.cuda.max_memory_allocated(), torch.cuda.memory_reserved(),
    torch.cuda.mem_get_info(), sorted({"memoryStats", "emptyCache"} & set(memory.asked_after)),
]))
"""
    found = answer(run, code, "capacity_bytes=1 << 30")
    assert found == [
        *(True, False, True, 1, "NVIDIA Double", False, 4096, 0, 0),
        *([1 << 30, 1 << 30], ["emptyCache", "memoryStats"]),
    ]


def test_autocast_and_other_attention(run):
    code = """
with torch.autocast("cuda", dtype=torch.bfloat16):
    linear = nn.Linear(8, 8).cuda()
    q = torch.randn(2, 4, 16, 8, device="cuda", requires_grad=True)
    made = nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True)
    out = linear(made)
out.float().sum().backward()
print(json.dumps([str(out.dtype), str(q.grad.device), str(linear.weight.grad.dtype)]))
"""
    assert answer(run, code) == ["torch.bfloat16", "cuda:0", "torch.float32"]
