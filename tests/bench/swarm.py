"""64 processes that speak the wire protocol at a given rate, without the weight of 64 torches.

``python -m tests.bench.swarm COUNT`` forks COUNT children that each serve samples at whatever
period the viewer asks for, and ends when its standard input closes. Written from the protocol's
text; the viewer cannot tell it from a training.
"""

import json
import os
import select
import signal
import socket
import sys
import time

from vramtop.protocol import rendezvous

MIB = 1 << 20


def sample(step):
    """One sample with a sawtooth in the gradients."""
    gradient = (step % 4) * 30 * MIB
    return {
        "type": "sample",
        "at": time.time(),
        "step": step,
        "steps_per_s": 10.0,
        "overhead_percent": 0.1,
        "dropped": 0,
        "devices": [
            {
                "device": "cpu",
                "uuid": None,
                "allocator": None,
                "breakdown": {
                    "parameter_bytes": 120 * MIB,
                    "gradient_bytes": gradient,
                    "optimizer_state_bytes": 240 * MIB,
                    "buffer_bytes": 0,
                    "activation_bytes": 140 * MIB,
                    "input_bytes": 0,
                    "temporary_bytes": 0,
                    "autograd_detail_bytes": 0,
                    "unknown_bytes": 0,
                    "cached_bytes": None,
                    "fragmentation_bytes": None,
                    "autocast_cache_bytes": 0,
                    "kv_cache_bytes": 0,
                    "recomputed_bytes": 0,
                },
            }
        ],
        "detail": "off",
    }


def serve():
    """Answer one viewer after the other, as a probe does."""
    directory = rendezvous.bind_directory()
    rendezvous.ensure_directory(directory)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(rendezvous.socket_path(directory, os.getpid())))
    listener.listen()
    while True:
        peer, _ = listener.accept()
        peer.sendall(json.dumps({"type": "hello", "protocol": 1, "python": "3"}).encode() + b"\n")
        period_s = json.loads(peer.makefile().readline())["period_s"]
        step = 0
        try:
            while True:
                step += 1
                peer.sendall(json.dumps(sample(step)).encode() + b"\n")
                if select.select([peer], [], [], period_s)[0]:
                    line = peer.recv(4096)
                    if not line:
                        break
                    period_s = json.loads(line.splitlines()[-1])["period_s"]
        except OSError:
            pass


def main(count):
    """Fork the children, wait for the end of standard input, end them."""
    children = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            serve()
        children.append(pid)
    print("ready", flush=True)
    sys.stdin.read()
    for pid in children:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]))
