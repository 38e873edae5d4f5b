"""From what a probe tells to a workload."""

from dataclasses import replace

import pytest

from tests.estimator.live.builders import A100, ADAMW, GIB, GPT2, HOST, MODEL, detail, process
from vramtop.core.model import OptimizerInfo
from vramtop.errors import UsageError
from vramtop.estimator.live.job import rebuild
from vramtop.estimator.workload import Lora


def workload(device="cpu", **changes):
    return rebuild(process(device=device, **changes), device, (HOST, A100)).workload


def test_a_plain_training_on_the_cpu():
    told = workload()
    assert (told.batch, told.sequence, told.precision) == (4, 32, "fp32")
    assert (told.optimizer, told.implementation, told.backend) == ("adamw", "forloop", "cpu")
    assert told.model.auto_class == "AutoModelForCausalLM"
    assert told.loop.keeps_outputs is False
    # 20 GiB are used, 10 of them by itself.
    assert (told.device.name, told.device.total_bytes) == ("host RAM", 54 * GIB)


def test_a_gpu_of_the_catalogue_less_what_others_hold():
    told = workload("cuda:0")
    assert (told.device.name, told.device.compute_capability) == ("NVIDIA A100-SXM4-80GB", (8, 0))
    assert told.device.total_bytes == 60 * GIB
    assert (told.backend, told.implementation) == ("cuda", "foreach")


@pytest.mark.parametrize(
    ("dtypes", "autocast", "precision"),
    [
        ({"float32": 9}, None, "fp32"),
        ({"float32": 9}, "bfloat16", "amp-bf16"),
        ({"float32": 9}, "float16", "amp-fp16"),
        ({"bfloat16": 9}, None, "bf16"),
        ({"bfloat16": 9, "float32": 1}, None, "bf16"),
        ({"float16": 9}, None, "fp16"),
    ],
)
def test_precision(dtypes, autocast, precision):
    assert workload(parameters_by_dtype=dtypes, autocast=autocast).precision == precision


def test_quantised_layers():
    config = {
        **GPT2,
        "quantization_config": {
            "bnb_4bit_compute_dtype": "torch.float16",
            "bnb_4bit_use_double_quant": True,
        },
    }
    lora = {"rank": 8, "targets": ["c_attn"], "dropout": 0.1}
    told = workload(quantized="Params4bit", hf_config=config, lora=lora)
    assert (told.precision, told.compute_dtype, told.double_quantization) == ("nf4", "fp16", True)
    assert told.lora == Lora(8, ("c_attn",), 0.1, "fp32")
    assert "quantization_config" not in told.model.config


@pytest.mark.parametrize(
    ("name", "module", "defaults", "ours", "how"),
    [
        ("AdamW", "torch.optim.adamw", {"fused": True}, "adamw", "fused"),
        ("Adam", "torch.optim.adam", {"foreach": False}, "adam", "forloop"),
        ("SGD", "torch.optim.sgd", {"momentum": 0}, "sgd", None),
        ("SGD", "torch.optim.sgd", {"momentum": 0.9, "foreach": True}, "sgd-momentum", "foreach"),
        ("AdamW8bit", "bitsandbytes.optim.adamw", {}, "adamw-8bit", None),
    ],
)
def test_optimizers(name, module, defaults, ours, how):
    told = workload(optimizers=(OptimizerInfo(name, 3, defaults, module),))
    assert (told.optimizer, told.optimizer_implementation) == (ours, how)


def test_the_loop_as_the_sampled_step_shows_it():
    late = workload(of_detail=detail("forward", "zero_grad", "backward", "step"))
    assert late.loop.zero_grad == "before-backward"
    for order in (("forward", "backward", "step", "zero_grad"), ("forward", "backward", "step")):
        assert workload(of_detail=detail(*order)).loop.zero_grad == "after-step"
    accumulated = workload(of_detail=detail(("forward", 4), ("backward", 4), "step", "zero_grad"))
    assert accumulated.grad_accumulation == 4
    assert workload(arguments=("input_ids",), batch_shapes=((4, 32),)).loop.loss == "outside"
    assert workload(arguments=("0.input_ids", "0.labels")).loop.loss == "model"


def test_the_batch_is_the_sampled_steps():
    seen = detail("forward", "backward", "step", batch_shapes=((4, 1), (2, 16)))
    told = workload(of_detail=seen, arguments=("weights", "input_ids"))
    assert (told.batch, told.sequence) == (2, 16)


def test_defaults_are_predicted_where_the_process_departs_from_them():
    assert workload(attention="eager").attention == "sdpa"
    assert workload(attention="flash_attention_2").attention == "flash"
    # Checkpointing that does nothing in eval mode is a reason, not a prediction.
    assert workload(checkpointing=True, training=False).loop.training_mode is True
    assert workload(training=False).loop.training_mode is False


@pytest.mark.parametrize(
    ("wrappers", "world", "gpus", "zero"),
    [
        ((), 4, 1, 0),
        (("DistributedDataParallel",), 4, 4, 0),
        (("FullyShardedDataParallel",), 8, 8, 3),
        (("FSDPModule",), 2, 2, 3),
        (("DistributedDataParallel",), 1, 1, 0),
    ],
)
def test_ranks(wrappers, world, gpus, zero):
    parallel = workload(wrappers=wrappers, world=world).parallel
    assert (parallel.gpus, parallel.zero) == (gpus, zero)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": None}, "no model was seen yet"),
        ({"hf_config": None}, "no configuration of transformers"),
        ({"class_name": "MyNet"}, "no class of transformers"),
        ({"optimizers": ()}, "no optimizer has stepped yet"),
        ({"optimizers": (), "training": False}, "nothing is trained here"),
        ({"optimizers": (replace(ADAMW, class_name="Sophia", module="me"),)}, "Sophia is not one"),
        ({"optimizers": (replace(ADAMW, defaults={"amsgrad": True}),)}, "AdamW with amsgrad"),
        ({"trainable_parameters": 10}, "frozen"),
        ({"batch_shapes": ()}, "not known yet"),
    ],
)
def test_what_cannot_be_rebuilt_says_why_in_a_line(changes, words):
    with pytest.raises(UsageError, match=words) as caught:
        workload(**changes)
    assert "\n" not in str(caught.value)


def test_several_models_are_not_one():
    both = process()
    both = replace(both, probe=replace(both.probe, models=(MODEL, MODEL)))
    with pytest.raises(UsageError, match="several models"):
        rebuild(both, "cpu", ())
