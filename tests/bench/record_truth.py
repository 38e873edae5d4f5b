"""Measure configurations on a card: ``python -m tests.bench.record_truth [--only PART] [--list]``.

Each runs in a process of its own (``truth_run``); the answers go to tests/truth/recorded-CARD.json
as they come, and ``tests.bench.accuracy`` reads that file. What does not fit is recorded as such.
With ``--double`` on the double of a CUDA device, to try the command where there is no card.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

from tests.bench.machine import ROOT, describe

FOLDER = Path(__file__).parents[1] / "truth"
TIMEOUT_S = 300


def llama(hidden, layers, heads, kv_heads, inner, vocabulary):
    return {
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "max_position_embeddings": 8192,
    }


MODELS = {
    "0.1b": {"model_type": "gpt2", "vocab_size": 50257},
    "0.5b": {
        "model_type": "qwen2",
        "hidden_size": 896,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "intermediate_size": 4864,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
    "1b": llama(2048, 16, 32, 8, 8192, 128256),
    "3b": llama(3072, 28, 24, 8, 8192, 128256),
    "7b": llama(4096, 32, 32, 32, 11008, 32000),
    "8b": llama(4096, 32, 32, 8, 14336, 128256),
}


def asked(model, precision, batch, sequence, **more):
    words = [model, precision, f"b{batch}", f"s{sequence}"]
    words += [f"{k}-{v}" for k, v in more.items() if k not in ("mode", "new_tokens")]
    if more.get("mode"):
        words.append(f"{more['mode']}-{more['new_tokens']}")
    return {
        "name": " ".join(words),
        "config": MODELS[model],
        "precision": precision,
        "batch": batch,
        "sequence": sequence,
        **more,
    }


def configurations():
    """Precision, optimizer, checkpointing, LoRA, attention, batch, sequence, inference: 50 runs."""
    for model in ("0.1b", "0.5b", "1b"):
        for precision in ("fp32", "bf16", "amp-bf16"):
            for batch, sequence in ((1, 1024), (8, 512)):
                yield asked(model, precision, batch, sequence)
    for optimizer in ("sgd", "sgd-momentum", "adagrad", "rmsprop"):
        yield asked("1b", "bf16", 4, 512, optimizer=optimizer)
    yield asked("1b", "bf16", 4, 512, fused=True)
    for model in ("0.5b", "1b", "3b"):
        yield asked(model, "bf16", 4, 1024, checkpointing="full")
        yield asked(model, "amp-bf16", 4, 1024, checkpointing="full")
        yield asked(model, "bf16", 4, 1024, lora=16)
        yield asked(model, "bf16", 4, 1024, lora=16, checkpointing="full")
    for model in ("0.1b", "1b"):
        yield asked(model, "fp32", 2, 1024, attention="eager")
        yield asked(model, "bf16", 2, 1024, attention="eager")
        yield asked(model, "amp-fp16", 2, 1024)
    for batch, sequence in ((1, 512), (2, 2048), (8, 2048)):
        yield asked("7b", "bf16", batch, sequence)
    yield asked("8b", "bf16", 1, 2048)
    yield asked("8b", "bf16", 4, 2048, checkpointing="full")
    yield asked("8b", "bf16", 2, 2048, lora=16)
    for model in ("1b", "7b", "8b"):
        yield asked(model, "bf16", 1, 512, mode="inference", new_tokens=64)
        yield asked(model, "bf16", 8, 1024, mode="inference", new_tokens=64)


def run(request):
    """What truth_run prints, or how it ended."""
    command = [sys.executable, "-m", "tests.bench.truth_run"]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(request) + "\n",
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"asked": request, "failed": f"took more than {TIMEOUT_S} s"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"asked": request, "failed": last}
    return json.loads(done.stdout.splitlines()[-1])


def main(options=None):
    parser = argparse.ArgumentParser(prog="python -m tests.bench.record_truth")
    parser.add_argument("--only", default="", help="configurations whose name has this part")
    parser.add_argument("--list", action="store_true", help="only print their names")
    parser.add_argument("--double", action="store_true", help="on the double; nothing is kept")
    chosen = parser.parse_args(options)
    requests = [each for each in configurations() if chosen.only in each["name"]]
    if chosen.list:
        print(*(each["name"] for each in requests), sep="\n")
        return
    print(describe())
    answers = []
    for number, request in enumerate(requests, 1):
        answer = run({**request, "double": chosen.double})
        answers.append(answer)
        said = answer.get("failed") or answer.get("died")
        if said is None:
            gib = [answer[f"peak_{which}_bytes"] / 2**30 for which in ("allocated", "reserved")]
            said = f"allocated {gib[0]:.3f} GiB, reserved {gib[1]:.3f} GiB"
        print(f"{number}/{len(requests)}  {request['name']}: {said}", flush=True)
        card = answer.get("device")
        if card:
            place = FOLDER / f"recorded-{re.sub('[^a-z0-9]+', '-', card.lower())}.json"
            place.write_text(json.dumps(answers, indent=1) + "\n")


if __name__ == "__main__":
    main()
