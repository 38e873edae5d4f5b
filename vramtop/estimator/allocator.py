"""PyTorch's caching allocator (c10/cuda/CUDACachingAllocator.cpp), replayed. CONTRACT ONLY: H1."""
