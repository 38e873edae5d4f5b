"""Asking the tracer's process: answers, progress, the cache, faults."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from vramtop.errors import UsageError
from vramtop.estimator.workload import AllocatorConfig, Device, Loop, Lora, Model, Workload
from vramtop.trace import client
from vramtop.trace.tracer import Tracer, TracerFailed

LLAMA = Model(
    "a small llama",
    {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 6,
        "num_attention_heads": 2,
        "vocab_size": 100,
    },
)
WORKLOAD = Workload(LLAMA, batch=2, sequence=16)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "vramtop" / "traces"


def refuse(*_):
    raise AssertionError("the tracer was asked again")


def test_the_second_ask_needs_no_tracer(cache, monkeypatch):
    heard = []
    first = client.traces(WORKLOAD, [2, 3], lambda text, done: heard.append((text, done)))
    assert [trace["batch"] for trace in first] == [2, 3]
    assert heard[0][0] == "importing torch and transformers"
    assert [done for _, done in heard] == sorted(done for _, done in heard)
    assert len(list(cache.iterdir())) == 1

    monkeypatch.setattr(Tracer, "ask", refuse)
    card = Device("another card", 1 << 30)
    other = dataclasses.replace(
        WORKLOAD, batch=9, device=None, allocator=AllocatorConfig(expandable_segments=True)
    )
    assert client.traces(other, [2, 3], refuse) == first
    with pytest.raises(AssertionError):  # the card's kind does change the kernels
        client.traces(dataclasses.replace(other, device=card), [2, 3], refuse)


def test_another_backend_or_loop_is_another_question(cache):
    asked = [
        WORKLOAD,
        dataclasses.replace(WORKLOAD, backend="cpu"),
        dataclasses.replace(WORKLOAD, loop=Loop(keeps_outputs=False)),
    ]
    with Tracer() as tracer:
        answers = [client.traces(one, [2], lambda *_: None, tracer) for one in asked]
    assert len(list(cache.iterdir())) == len(asked)
    cuda, cpu, dropped = (answer[0]["recording"] for answer in answers)
    assert "workspace" in cuda["categories"]
    assert "workspace" not in cpu["categories"]
    assert cuda["events"] != dropped["events"]


def test_a_broken_cache_is_asked_anew(cache):
    with Tracer() as tracer:
        client.traces(WORKLOAD, [2], lambda *_: None, tracer)
        (place,) = cache.iterdir()
        place.write_bytes(b"not gzip")
        assert client.traces(WORKLOAD, [2], lambda *_: None, tracer)[0]["batch"] == 2


def test_a_cache_that_cannot_be_written_only_costs_time(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert client.traces(WORKLOAD, [2], lambda *_: None)


def test_what_the_tracer_refuses_comes_as_one_line():
    workload = Workload(Model("new", {"model_type": "no-such-type"}))
    with pytest.raises(UsageError, match=r"no-such-type.* is unknown to transformers") as caught:
        client.traces(workload, [2], lambda *_: None)
    assert "\n" not in str(caught.value)


def kill_tracer(_text, _done):
    (child,) = children_of(os.getpid())
    os.kill(int(child), signal.SIGKILL)


def test_a_tracer_that_dies_is_reported():
    with pytest.raises(TracerFailed, match="without an answer"):
        client.traces(WORKLOAD, [2], kill_tracer)


def test_a_kept_tracer_answers_as_a_new_one_does(monkeypatch):
    """What it traced before, errors among it, leaves no mark on what is asked next."""
    monkeypatch.setattr(client, "_read", lambda _: None)
    others = (
        dataclasses.replace(WORKLOAD, precision="amp-bf16", checkpointing="full"),
        dataclasses.replace(WORKLOAD, precision="nf4", lora=Lora(4)),
        Workload(Model("new", {"model_type": "no-such-type"})),
        dataclasses.replace(WORKLOAD, mode="inference", new_tokens=4),
    )
    with Tracer() as tracer:
        for other in others:
            with contextlib.suppress(UsageError):
                client.traces(other, [2, 3], lambda *_: None, tracer)
        heard = []
        kept = client.traces(WORKLOAD, [2, 3], lambda text, _: heard.append(text), tracer)
        assert not any("importing" in text for text in heard)
        assert len(children_of(os.getpid())) == 1
    assert not children_of(os.getpid())
    assert kept == client.traces(WORKLOAD, [2, 3], lambda *_: None)


def test_a_kept_tracer_that_dies_is_replaced():
    with Tracer() as tracer:
        with pytest.raises(TracerFailed):
            client.traces(WORKLOAD, [2], kill_tracer, tracer)
        assert client.traces(WORKLOAD, [2], lambda *_: None, tracer)


def test_ctrl_c_ends_the_tracer_too(tmp_path):
    program = (
        "import json, signal, sys\n"
        # A shell that runs the tests in the background has made SIGINT ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from vramtop.estimator.workload import from_json\n"
        "from vramtop.trace import client\n"
        "workload = from_json(json.loads(sys.argv[1]))\n"
        "client.traces(workload, [2, 3], lambda text, done: print(text, flush=True))\n"
    )
    from vramtop.estimator.workload import to_json

    asking = subprocess.Popen(
        [sys.executable, "-c", program, json.dumps(to_json(WORKLOAD))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ, XDG_CACHE_HOME=str(tmp_path)),
    )
    assert asking.stdout.readline()
    asking.send_signal(signal.SIGINT)
    _, errors = asking.communicate(timeout=20)
    assert "KeyboardInterrupt" in errors
    deadline = time.monotonic() + 10
    while children_of(asking.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not children_of(asking.pid)


def children_of(pid):
    found = subprocess.run(
        ["pgrep", "-P", str(pid), "-f", "vramtop.trace"],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.split()
