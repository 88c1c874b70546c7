"""The model as an ONNX Runtime GenAI folder: the graph that Microsoft's model builder writes for Phi-3 (packed GroupQueryAttention with
its own rotary embedding, SimplifiedLayerNormalization), with the weights of the OpenVINO folder, in f32.

Not made with the builder itself, whose version 0.18 needs a newer transformers than OpenVINO's exporter allows.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


def write_onnx_folder(source: Path, target: Path, *, provider: str = "") -> None:
    """Makes of the OpenVINO folder `source` the ONNX folder `target`; `provider` is what genai_config.json says that it was made for."""
    target.mkdir()
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    onnx.save(_graph(config, *weights(source)), str(target / "model.onnx"))
    (target / "genai_config.json").write_text(json.dumps(_genai_config(config, provider)), encoding="utf-8")
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copy(source / name, target / name)


def _genai_config(config: dict[str, Any], provider: str) -> dict[str, Any]:
    return {
        "model": {
            "bos_token_id": config["bos_token_id"] or 1,
            "context_length": config["max_position_embeddings"],
            "decoder": {
                "session_options": {"log_id": "onnxruntime-genai", "provider_options": [{provider: {}}] if provider else []},
                "filename": "model.onnx",
                "head_size": config["hidden_size"] // config["num_attention_heads"],
                "hidden_size": config["hidden_size"],
                "inputs": {
                    "input_ids": "input_ids",
                    "attention_mask": "attention_mask",
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {"logits": "logits", "present_key_names": "present.%d.key", "present_value_names": "present.%d.value"},
                "num_attention_heads": config["num_attention_heads"],
                "num_hidden_layers": config["num_hidden_layers"],
                "num_key_value_heads": config["num_key_value_heads"],
            },
            "eos_token_id": config["eos_token_id"],
            "pad_token_id": config["pad_token_id"],
            "type": "phi3",
            "vocab_size": config["vocab_size"],
        },
        "search": {"do_sample": False, "max_length": config["max_position_embeddings"], "past_present_share_buffer": True, "top_k": 1},
    }


def weights(source: Path) -> tuple[dict[str, NDArray[np.float32]], list[NDArray[np.float32]]]:
    """The matrices by their names, and the scales of the norms in the order in which the model applies them."""
    matrices, norms = {}, []
    for node in ov.Core().read_model(source / "openvino_model.xml").get_ordered_ops():
        if node.get_type_name() != "MatMul" or not (name := _name(node.input_value(1).get_node())):
            continue
        matrices[name] = _value(node.input_value(1).get_node())
        if "o_proj" not in name and "down_proj" not in name:  # what goes into the others was normalised and scaled
            inputs = [value.get_node() for value in node.input_value(0).get_node().input_values()]
            norms.append(next(_value(each) for each in inputs if each.get_type_name() == "Constant").reshape(-1))
    return matrices, norms


def _name(node: Any) -> str:
    """Of the weights that a matrix is decompressed from; empty when it is no constant."""
    while node.get_type_name() in ("Convert", "Multiply", "Subtract"):
        node = node.input_value(0).get_node()
    return str(node.get_friendly_name()) if node.get_friendly_name().endswith(".weight") else ""


def _value(node: Any) -> NDArray[np.float32]:
    kind = node.get_type_name()
    if kind == "Constant":
        return np.array(node.data, np.float32)
    first = _value(node.input_value(0).get_node())
    if kind == "Convert":
        return first
    second = _value(node.input_value(1).get_node())
    return {"Subtract": first - second, "Multiply": first * second}[kind]


def _graph(config: dict[str, Any], matrices: dict[str, NDArray[np.float32]], norms: list[NDArray[np.float32]]) -> Any:
    heads, hidden, layers = config["num_attention_heads"], config["hidden_size"], config["num_hidden_layers"]
    size, context = hidden // heads, config["max_position_embeddings"]
    nodes: list[Any] = []
    constants: dict[str, NDArray[Any]] = {}

    def add(op: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [output], domain=domain, **attributes))
        return output

    def constant(name: str, value: NDArray[Any]) -> str:
        constants[name] = value
        return name

    def norm(number: int, x: str) -> str:
        scale = constant(f"norm.{number}.weight", norms[number])
        return add("SimplifiedLayerNormalization", [x, scale], f"norm.{number}", axis=-1, epsilon=config["rms_norm_eps"], stash_type=1)

    def multiply(part: str, x: str, output: str) -> str:
        (name,) = [name for name in matrices if part in name]
        return add("MatMul", [x, constant(f"{output}.weight", np.ascontiguousarray(matrices[name].T))], output)

    angles = np.outer(np.arange(context), config["rope_theta"] ** -(np.arange(0, size, 2) / size))
    constant("cos_cache", np.cos(angles).astype(np.float32))
    constant("sin_cache", np.sin(angles).astype(np.float32))
    constant("one", np.array([1], np.int64))
    lengths = add("ReduceSum", ["attention_mask", "one"], "mask_sum", keepdims=0)
    lengths = add("Cast", [add("Sub", [lengths, "one"], "seqlens")], "seqlens_k", to=TensorProto.INT32)
    total = add("Gather", [add("Shape", ["attention_mask"], "mask_shape"), constant("axis", np.array(1, np.int64))], "total")
    total = add("Cast", [total], "total_sequence_length", to=TensorProto.INT32)
    (embedding,) = [matrix for name, matrix in matrices.items() if "embed_tokens" in name]
    x = add("Gather", [constant("embed_tokens.weight", embedding), "input_ids"], "embedded")
    caches = []
    for i in range(layers):
        qkv = multiply(f"layers.{i}.self_attn.qkv_proj", norm(2 * i, x), f"qkv.{i}")
        inputs = [qkv, "", "", f"past_key_values.{i}.key", f"past_key_values.{i}.value", lengths, total, "cos_cache", "sin_cache"]
        outputs = [f"attention.{i}", f"present.{i}.key", f"present.{i}.value"]
        settings = {"num_heads": heads, "kv_num_heads": heads, "scale": size**-0.5, "do_rotary": 1, "rotary_interleaved": 0}
        nodes.append(helper.make_node("GroupQueryAttention", inputs, outputs, domain="com.microsoft", **settings))
        caches += [*inputs[3:5], *outputs[1:]]
        x = add("Add", [x, multiply(f"layers.{i}.self_attn.o_proj", outputs[0], f"o.{i}")], f"attended.{i}")
        both = multiply(f"layers.{i}.mlp.gate_up_proj", norm(2 * i + 1, x), f"gate_up.{i}")
        nodes.append(helper.make_node("Split", [both], [f"gate.{i}", f"up.{i}"], axis=-1, num_outputs=2))
        gate = add("Mul", [f"gate.{i}", add("Sigmoid", [f"gate.{i}"], f"sigmoid.{i}")], f"silu.{i}")
        down = multiply(f"layers.{i}.mlp.down_proj", add("Mul", [gate, f"up.{i}"], f"mlp.{i}"), f"down.{i}")
        x = add("Add", [x, down], f"layer.{i}")
    multiply("embed_tokens", norm(2 * layers, x), "logits")

    def described(name: str, kind: int, *shape: str | int) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    cache_shapes = [(name, "batch", heads, f"{name.split('.')[0]}_length", size) for name in caches]
    caches_described = [described(name, TensorProto.FLOAT, *shape) for name, *shape in cache_shapes]
    graph = helper.make_graph(
        nodes,
        "main_graph",
        [
            described("input_ids", TensorProto.INT64, "batch", "length"),
            described("attention_mask", TensorProto.INT64, "batch", "total_length"),
            *(info for info in caches_described if info.name.startswith("past")),
        ],
        [
            described("logits", TensorProto.FLOAT, "batch", "length", config["vocab_size"]),
            *(info for info in caches_described if info.name.startswith("present")),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)
