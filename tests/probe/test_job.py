"""What the probe says of models, optimizers and the batch; oracles: the live objects, by torch."""

from __future__ import annotations

import contextlib
import time
import types

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from vramtop.probe import describe  # noqa: E402
from vramtop.probe.calls import Call, autocast  # noqa: E402
from vramtop.probe.faults import Faults  # noqa: E402
from vramtop.probe.session import session  # noqa: E402

LAYERS = 2


def gpt2(**settings):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=64,
        n_positions=16,
        n_embd=16,
        n_layer=LAYERS,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
        **settings,
    )
    return transformers.GPT2LMHeadModel(config)


def llama(**settings):
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        max_position_embeddings=16,
        **settings,
    )
    return transformers.LlamaForCausalLM(config)


def peft_model(base, **settings):
    peft = pytest.importorskip("peft")
    return peft.get_peft_model(base, peft.LoraConfig(r=3, fan_in_fan_out=True, **settings))


def train(model, optimizer, steps=3, batch=2):
    for _ in range(steps):
        ids = torch.randint(0, 64, (batch, 8))
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def adamw(model, **settings):
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], **settings)


def record_next():
    """Whatever the recordings before have cost, which makes them rare."""
    session().observer.detail_pace._slot = None


def recorded(viewer, step):
    """What a step that is recorded after this call tells; ``step`` is taken until one was."""
    began = time.time()
    record_next()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for _ in range(10):
            step()
        with contextlib.suppress(AssertionError):
            detail = viewer.next("detail", timeout_s=0.2)
            if detail["at"] > began:
                return detail
    raise AssertionError("no step was recorded")


def described(model):
    faults = Faults()
    told = describe.model(torch, model, faults)
    assert faults.messages == []
    return told


@pytest.fixture
def job(viewer):
    """The one model and the one optimizer of the job as it is now."""

    def job():
        viewer.now()
        (model,), (optimizer,) = viewer.job["models"], viewer.job["optimizers"]
        return model, optimizer

    return job


def test_a_model_of_transformers_over_the_socket(job):
    model = gpt2()
    model.transformer.wpe.requires_grad_(False)
    optimizer = adamw(model)
    train(model, optimizer)
    told, stepped = job()
    assert told["class"] == "GPT2LMHeadModel"
    # The head is the embedding, one tensor. Eight tensors in a layer, two norms with two each.
    assert told["tensors"] == len(list(model.parameters())) == 2 + 12 * LAYERS + 2
    assert told["trainable_tensors"] == told["tensors"] - 1
    everything = sum(p.numel() for p in model.parameters())
    assert told["parameters_by_dtype"] == {"float32": everything}
    assert told["trainable_by_dtype"] == {"float32": everything - 16 * 16}
    assert told["arguments"] == ["input_ids", "labels"]
    assert told["batch_shapes"] == [[2, 8], [2, 8]]
    assert told["training"] is True
    assert told["autocast"] is None
    assert told["attention"] == model.config._attn_implementation
    assert told["checkpointing"] is False
    assert told["lora"] is None
    assert told["wrappers"] == []
    assert told["quantized"] is None
    assert stepped["class"] == "AdamW"
    assert stepped["module"] == "torch.optim.adamw"
    assert stepped["parameters"] == everything - 16 * 16


def test_what_changes_is_told_again(job):
    model = gpt2()
    optimizer = adamw(model)
    train(model, optimizer)
    assert job()[0]["batch_shapes"] == [[2, 8], [2, 8]]
    model.eval()
    model.set_attn_implementation("eager")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        train(model, optimizer, batch=5)
    told, _ = job()
    assert told["batch_shapes"] == [[5, 8], [5, 8]]
    assert told["training"] is False
    assert told["attention"] == "eager"
    assert told["autocast"] == "bfloat16"
    train(model, optimizer)
    assert job()[0]["autocast"] is None


def test_autocast_inside_the_forward_is_told_of_too(job, viewer):
    """As accelerate does it."""
    model = gpt2()
    optimizer = adamw(model)
    model.forward = torch.autocast("cpu", dtype=torch.bfloat16)(model.forward)
    record_next()
    deadline = time.monotonic() + 60
    told = None
    while told is None and time.monotonic() < deadline:
        train(model, optimizer)  # until a step has been recorded
        told = job()[0]["autocast"]
    assert told == "bfloat16"
    train(model, optimizer)
    assert job()[0]["autocast"] == "bfloat16"


@pytest.mark.parametrize("make", [gpt2, llama])
@pytest.mark.parametrize("adapted", [False, True])
def test_the_configuration_is_enough_to_build_the_model_again(make, adapted):
    transformers = pytest.importorskip("transformers")
    model = base = make(num_labels=7)
    if adapted:
        model = peft_model(base, target_modules=["c_attn"] if make is gpt2 else ["q_proj"])
    told = described(model)
    settings = dict(told["hf_config"])
    config = transformers.AutoConfig.for_model(settings.pop("model_type"), **settings)
    again = getattr(transformers, told["class"])(config)
    lived = {
        name.replace(".base_layer", ""): p.shape
        for name, p in base.named_parameters()
        if "lora_" not in name
    }
    assert {name: p.shape for name, p in again.named_parameters()} == lived
    assert config.num_labels == 7


def test_many_labels_are_their_number():
    model = gpt2(num_labels=1000)
    told = described(model)["hf_config"]
    assert told["num_labels"] == 1000
    assert "id2label" not in told
    assert type(model.config)(**told).num_labels == 1000


def test_adapters_and_what_they_are_put_into():
    model = peft_model(gpt2(), target_modules=["c_proj", "c_attn"], lora_dropout=0.25)
    told = described(model)
    assert told["class"] == "GPT2LMHeadModel"
    assert told["lora"] == {"rank": 3, "targets": ["c_attn", "c_proj"], "dropout": 0.25}
    trained = [p for p in model.parameters() if p.requires_grad]
    assert told["trainable_tensors"] == len(trained) == 2 * 3 * LAYERS
    assert told["trainable_by_dtype"] == {"float32": sum(p.numel() for p in trained)}
    assert described(peft_model(llama(), target_modules="all-linear"))["lora"]["targets"] == [
        *("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
    ]


def test_adapters_put_in_by_transformers():
    peft = pytest.importorskip("peft")
    model = llama()
    model.add_adapter(peft.LoraConfig(r=5, target_modules=["v_proj"]))
    told = described(model)
    assert told["class"] == "LlamaForCausalLM"
    assert told["lora"] == {"rank": 5, "targets": ["v_proj"], "dropout": 0.0}


def test_checkpointing_on_and_off():
    model = peft_model(llama(), target_modules=["q_proj"])
    assert described(model)["checkpointing"] is False
    model.gradient_checkpointing_enable()
    assert described(model)["checkpointing"] is True
    model.gradient_checkpointing_disable()
    assert described(model)["checkpointing"] is False


def test_a_plain_module():
    told = described(nn.Linear(4, 5))
    assert told["class"] == "Linear"
    assert told["tensors"] == 2
    unknown = ("hf_config", "checkpointing", "lora", "quantized")
    assert [told[name] for name in unknown] == [None] * 4


def test_compiled_and_quantised():
    # Not by torch.compile: of a process that has compiled no step is recorded any more.
    OptimizedModule = type("OptimizedModule", (nn.Sequential,), {})
    Params4bit = type("Params4bit", (nn.Parameter,), {"__module__": "bitsandbytes.nn.modules"})
    model = nn.Linear(4, 5)
    model.weight = Params4bit(torch.zeros(10, 1, dtype=torch.uint8), requires_grad=False)
    told = described(OptimizedModule(model))
    assert told["class"] == "Linear"
    assert told["wrappers"] == ["OptimizedModule"]
    assert told["quantized"] == "Params4bit"
    assert told["parameters_by_dtype"] == {"uint8": 10, "float32": 5}


def test_names_and_shapes_stay_in_step():
    x, y, z = (torch.zeros(size) for size in (2, 3, 4))
    batch = {"a": x, "text": "none", 7: y}
    model = nn.Linear(1, 1)
    call = Call(torch, model, (z, batch, 5, [1, x]), {"mask": y, "pair": (x, z)})
    assert call.tensors == [
        ("0", [4]),
        ("1.a", [2]),
        ("1.2", [3]),
        ("3.1", [2]),
        ("mask", [3]),
        ("pair.0", [2]),
        ("pair.1", [4]),
    ]
    many = Call(torch, model, ([x] * 100,), {}).job()
    assert len(many["arguments"]) == len(many["batch_shapes"]) == 16


def test_autocast_of_the_devices_own_kind():
    with torch.autocast("cpu", dtype=torch.float16):
        assert Call(torch, nn.Linear(1, 1), (), {}).autocast == "float16"
        assert Call(torch, nn.Linear(1, 1, device="meta"), (), {}).autocast is None
    # torch before 2.4: the functions take no device.
    old = types.SimpleNamespace(
        is_autocast_enabled=lambda: True,
        get_autocast_gpu_dtype=lambda: torch.float16,
        is_autocast_cpu_enabled=lambda: True,
        get_autocast_cpu_dtype=lambda: torch.bfloat16,
    )
    assert autocast(old, "cpu") == "bfloat16"
    assert autocast(old, "cuda") == "float16"


WAYS = [{"foreach": False}, {"foreach": True}, {"fused": True}, {"amsgrad": True}]


@pytest.mark.parametrize("settings", WAYS, ids=str)
def test_the_state_is_right_after_the_first_step(settings, job):
    model = llama()
    optimizer = adamw(model, **settings)
    train(model, optimizer, steps=1)
    _, told = job()
    trained = sum(p.numel() for p in model.parameters())
    moments = 3 if "amsgrad" in settings else 2
    assert told["parameters"] == trained
    assert told["state_by_dtype"] == {"float32": moments * trained}
    assert told["defaults"].items() >= settings.items()


class MasterWeights(torch.optim.Optimizer):
    """Momentum and a copy of the weights in float32."""

    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 0.1})

    @torch.no_grad()
    def step(self, closure=None):
        for parameter in self.param_groups[0]["params"]:
            if parameter.grad is not None and parameter not in self.state:
                self.state[parameter] = {
                    "step": torch.zeros(1),
                    "nested": [parameter.float(), {"momentum": parameter.float()}],
                    "mask": parameter > 0,
                }


def test_state_of_another_dtype_than_the_parameters(job):
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8).requires_grad_(False)).bfloat16()
    optimizer = MasterWeights(model.parameters())
    for _ in range(2):
        model(torch.ones(2, 4, dtype=torch.bfloat16)).sum().backward()
        optimizer.step()
    model_told, told = job()
    assert model_told["parameters_by_dtype"] == {"bfloat16": 40 + 72}
    assert model_told["trainable_by_dtype"] == {"bfloat16": 40}
    assert model_told["arguments"] == ["0"]
    assert told["module"] == __name__
    assert told["parameters"] == 40 + 72
    assert told["state_by_dtype"] == {"float32": 2 * 40, "bool": 40}


def test_without_state_there_is_none(job):
    model = llama()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train(model, optimizer)
    assert job()[1]["state_by_dtype"] == {}


def test_strangers_that_fail_are_survived():
    class Config:
        __module__ = "transformers.of_tomorrow"

        def to_dict(self):
            raise RuntimeError("not today")

    class Stranger(nn.Module):
        @property
        def gradient_checkpointing(self):
            raise AssertionError("a stranger's property was run")

        def __init__(self):
            super().__init__()
            self.config = Config()
            self.peft_config = {"default": object()}
            self.weight = nn.Parameter(torch.zeros(3))
            self.lazy = nn.LazyLinear(2)

        def forward(self, x):
            return x

    faults = Faults()
    told = describe.model(torch, Stranger(), faults)
    assert faults.messages == ["the description of configurations is off: RuntimeError: not today"]
    assert told["class"] == "Stranger"
    assert told["parameters_by_dtype"] == {"float32": 3}
    assert told["hf_config"] is told["lora"] is told["checkpointing"] is None
    assert Call(torch, Stranger(), (), {}).attention is None


class OfTheUser(torch.utils._python_dispatch.TorchDispatchMode):
    """With a mode of the program's own on, steps are seen from their boundaries only."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", [contextlib.nullcontext, OfTheUser])
def test_the_boundary_is_the_phase_that_the_breakdown_is_of(mode, viewer):
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    optimizer = adamw(model)
    asked = []
    inside = nn.Sequential.forward

    def forward(self, x):
        if asked:
            asked.append(("begins", sample()))
        return inside(self, x)

    def sample():
        (device,) = [d for d in viewer.now()["devices"] if d["device"] == "cpu"]
        return device["boundary"], device["breakdown"]["gradient_bytes"] > 0

    model.forward = types.MethodType(forward, model)

    def train():
        with mode():
            model(torch.ones(2, 8)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    detail = recorded(viewer, train)
    assert detail["batch_shapes"] == [[2, 8]]
    assert (detail["peak"] is None) is (mode is OfTheUser)
    asked.append(("", ()))
    loss = model(torch.ones(2, 8)).sum()
    asked.append(("forward", sample()))
    loss.backward()
    optimizer.register_step_pre_hook(lambda *_: asked.append(("step begins", sample())))
    optimizer.step()
    asked.append(("step", sample()))
    assert asked[1:] == [
        ("begins", ("zero_grad", False)),
        ("forward", ("forward", False)),
        ("step begins", ("backward", True)),
        ("step", ("step", True)),
    ]


def test_a_recorded_step_has_its_own_batch(viewer):
    model = nn.Linear(8, 8)
    optimizer = adamw(model)
    steps = 0

    def train():
        nonlocal steps
        steps += 1
        with torch.no_grad():
            model(torch.ones(999, 8))  # an evaluation in between is not the step's batch
        model(torch.ones(10 + steps, 8)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(2):
        detail = recorded(viewer, train)
        assert detail["batch_shapes"] == [[10 + detail["step"], 8]]


@pytest.mark.parametrize(
    ("variables", "group"),
    [
        ({"RANK": "1", "MASTER_ADDR": "node0", "MASTER_PORT": "29500"}, "node0:29500"),
        (
            {
                "RANK": "1",
                "MASTER_ADDR": "node0",
                "MASTER_PORT": "29500",
                "TORCHELASTIC_RUN_ID": "none",
            },
            "node0:29500",
        ),
        (
            {
                "RANK": "1",
                "MASTER_ADDR": "node0",
                "MASTER_PORT": "29500",
                "TORCHELASTIC_RUN_ID": "job7",
            },
            "node0:29500 job7",
        ),
        ({"MASTER_ADDR": "node0", "MASTER_PORT": "29500"}, None),  # no rank of anything
        ({"RANK": "1"}, None),
    ],
)
def test_ranks_of_one_job_name_the_same_group(variables, group, monkeypatch):
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert describe.environment(torch)["group"] == group
    assert describe.environment(None)["torch"] is None
