"""The estimator: pure functions from a workload to the memory it will need; imports no torch.

``workload`` says what is asked, ``result`` what is answered; ``closed`` answers by formula and
``timeline`` + ``allocator`` by replay of what the tracer has recorded.
"""
