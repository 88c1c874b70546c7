"""Writes the weights of an OpenVINO model folder as GGUF, so that llama.cpp can run the same model.
`python benchmarks/openvino_to_gguf.py FOLDER FILE.gguf`

For compare_bench.py. Weights of 4 bits (symmetric, in groups of a multiple of 32) become Q4_0, value for value; those of 8 bits Q8_0,
value for value where they are symmetric, else rounded once more. Needs the package gguf.

Not here: other architectures than Phi-3, rotary embeddings that are scaled, tokenizers of other kinds than Phi-3's.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import openvino as ov
from gguf import GGMLQuantizationType, TokenType
from numpy.typing import NDArray

BLOCK = 32
"""Weights that share a scale, in both formats."""
NAMES = {
    "embed_tokens": "token_embd",
    "lm_head": "output",
    "norm": "output_norm",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_PATH = re.compile(r"__module\.(?:model\.)?(?:layers\.(\d+)\.)?(.+?)/aten::(?:linear/MatMul|embedding/Gather|mul/Multiply_1)$")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>$")


def convert(folder: Path, file: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(file, "phi3", use_temp_file=True)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_rope_scaling_orig_ctx_len(config["original_max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    _add_tokenizer(writer, folder, config["vocab_size"])
    # Optimum leaves out a multiplication by ones: norms are ones, until they are found.
    norms = {"output_norm": np.ones(config["hidden_size"], np.float32)}
    for layer in range(config["num_hidden_layers"]):
        norms |= {f"blk.{layer}.{name}": np.ones(config["hidden_size"], np.float32) for name in ("attn_norm", "ffn_norm")}
    for name, node in _weights(ov.Core().read_model(folder / "openvino_model.xml")):
        if name in norms:
            norms[name] = np.array(_constant(node).data, np.float32).reshape(-1)
        else:
            data, kind = _blocks(node)
            writer.add_tensor(f"{name}.weight", data, raw_dtype=kind)
    for name, values in norms.items():
        writer.add_tensor(f"{name}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _weights(model: Any) -> Iterator[tuple[str, Any]]:
    """(name in GGUF, the node that the weights come from)."""
    for node in model.get_ordered_ops():
        match = _PATH.search(node.get_friendly_name())
        name = match and NAMES.get(match[2])
        if match is None or name is None:
            continue
        sources = [node.input_value(at).get_node() for at in range(min(2, node.get_input_size()))]
        source = next((one for one in sources if _constant(one) is not None), None)
        if source is not None:
            yield (name if match[1] is None else f"blk.{match[1]}.{name}"), source


def _constant(node: Any) -> Any:
    """The constant that `node` unpacks; None where it is computed from something else."""
    while node.get_type_name() in ("Convert", "Reshape", "Multiply", "Subtract"):
        node = node.input_value(0).get_node()
    return node if node.get_type_name() == "Constant" else None


def _blocks(node: Any) -> tuple[NDArray[np.uint8], GGMLQuantizationType]:
    """The weights behind `node`, one row of bytes for each of theirs."""
    scale: NDArray[np.float32] | None = None
    zero = np.zeros(1, np.float32)
    while node.get_type_name() != "Constant":
        if node.get_type_name() == "Multiply":
            scale = np.array(_constant(node.input_value(1).get_node()).data, np.float32)
        elif node.get_type_name() == "Subtract":
            zero = np.array(_constant(node.input_value(1).get_node()).data, np.float32)
        node = node.input_value(0).get_node()
    kind, shape = node.get_element_type().get_type_name(), list(node.get_output_shape(0))
    if scale is None or kind not in ("i4", "i8", "u8"):
        raise SystemExit(f"{node.get_friendly_name()} is of type {kind}: only symmetric weights of 4 bits and weights of 8 bits are known.")
    rows = shape[0]
    if kind == "i4":
        packed = np.frombuffer(node.data.tobytes(), np.uint8).reshape(rows, -1)
        nibbles = np.stack([packed & 15, packed >> 4], axis=-1).reshape(rows, -1, BLOCK) ^ 8  # two's complement to an offset of 8
        scales = np.repeat(scale.reshape(rows, -1), shape[-1] // BLOCK, axis=1).astype(np.float16)
        halves = nibbles[..., : BLOCK // 2] | nibbles[..., BLOCK // 2 :] << 4
        return _with_scales(scales, halves), GGMLQuantizationType.Q4_0
    values = ((node.data.astype(np.float32) - zero) * scale).reshape(rows, -1, BLOCK)
    scales = np.broadcast_to(scale.reshape(rows, -1)[:, :1], values.shape[:2]).astype(np.float16)
    if kind == "u8":
        scales = (np.abs(values).max(axis=-1) / 127).astype(np.float16)
    quants = np.clip(np.rint(values / np.maximum(scales, np.float16(6e-8))[..., None].astype(np.float32)), -127, 127).astype(np.int8)
    return _with_scales(scales, quants.view(np.uint8)), GGMLQuantizationType.Q8_0


def _with_scales(scales: NDArray[np.float16], quants: NDArray[Any]) -> NDArray[np.uint8]:
    """Blocks as ggml lays them out: a scale, then the weights."""
    blocks = np.concatenate([np.ascontiguousarray(scales)[..., None].view(np.uint8), quants], axis=-1)
    return np.ascontiguousarray(blocks.reshape(blocks.shape[0], -1))


def _add_tokenizer(writer: gguf.GGUFWriter, folder: Path, size: int) -> None:
    description = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    added = {token["id"]: token["content"] for token in description["added_tokens"]}
    texts = {id: text for text, id in description["model"]["vocab"].items()} | added
    tokens = [texts.get(id, f"[unused {id}]") for id in range(size)]
    kinds = [
        TokenType.UNUSED if id not in texts
        else TokenType.UNKNOWN if text == "<unk>"
        else TokenType.CONTROL if id in added
        else TokenType.BYTE if _BYTE.match(text)
        else TokenType.NORMAL
        for id, text in enumerate(tokens)
    ]  # fmt: skip
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text.encode() for text in tokens])
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(description["model"]["merges"]):
        ranks.setdefault("".join(pair if isinstance(pair, list) else pair.split(" ", 1)), rank)
    writer.add_token_scores([-float(ranks.get(text, len(ranks))) for text in tokens])  # SentencePiece merges what scores highest
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(next(id for id, text in added.items() if text == "<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: python benchmarks/openvino_to_gguf.py FOLDER FILE.gguf")
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
