"""Messages as PyTorch has worded them; the first is from issue reports of 2.x, the last of 1.13."""

from vramtop.core.oom_message import Said, read

GIB, MIB = 1 << 30, 1 << 20

NEW = (
    "CUDA out of memory. Tried to allocate 1.90 GiB. GPU 0 has a total capacity of 23.50 GiB of "
    "which 1.25 GiB is free. Process 4102 has 3.00 GiB memory in use. Including non-PyTorch "
    "memory, this process has 19.25 GiB memory in use. Of the allocated memory 15.50 GiB is "
    "allocated by PyTorch, with 100.00 MiB allocated in private pools (e.g., CUDA Graphs), and "
    "3.25 GiB is reserved by PyTorch but unallocated. If reserved but unallocated memory is large "
    "try setting PYTORCH_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
)
LIMITED = (
    "CUDA out of memory. Tried to allocate 512.00 MiB. GPU 1 has a total capacity of 79.11 GiB of "
    "which 60.00 GiB is free. This process has 16.00 GiB memory in use. 15.50 GiB allowed; Of the "
    "allocated memory 15.25 GiB is allocated by PyTorch, and 0 bytes is reserved by PyTorch but "
    "unallocated."
)
OLD = (
    "CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 15.75 GiB total capacity; 13.50 GiB "
    "already allocated; 12.88 MiB free; 14.25 GiB reserved in total by PyTorch) If reserved memory "
    "is >> allocated memory try setting max_split_size_mb to avoid fragmentation."
)


def test_a_recent_message():
    assert read(NEW) == Said(
        in_use_bytes=19 * GIB + 256 * MIB,
        allocated_bytes=15 * GIB + 512 * MIB,
        idle_bytes=3 * GIB + 256 * MIB,
        others=((4102, 3 * GIB),),
    )


def test_one_of_a_process_that_limits_itself():
    said = read(LIMITED)
    assert said.allowed_bytes == 15 * GIB + 512 * MIB
    assert said.in_use_bytes == 16 * GIB
    assert said.idle_bytes == 0


def test_an_old_one_tells_what_is_idle_by_what_is_reserved():
    said = read(OLD)
    assert said.allocated_bytes == 13 * GIB + 512 * MIB
    assert said.idle_bytes == 768 * MIB


def test_anything_else_tells_nothing():
    for text in (None, "", "MemoryError", "killed by 9.99.9 GiB memory", "Process x has 1 GiB"):
        assert read(text) == Said()
