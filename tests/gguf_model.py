"""The embedded model as GGUF, in f32, for llama.cpp's server: the same weights that the other engines run.

Run in the server's environment, which has the package gguf and not OpenVINO: so the weights come as a file of NumPy's.
"""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np

NAMES = {"qkv_proj": "attn_qkv", "o_proj": "attn_output", "gate_up_proj": "ffn_up", "down_proj": "ffn_down"}
NORMS = ("attn_norm", "ffn_norm")


def write_gguf(source: Path, weights: Path, target: Path) -> None:
    """Makes the file `target` of the folder `source` and the arrays in `weights`: matrices by name, norms as `norm.N`."""
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    writer: Any = gguf.GGUFWriter(target, "phi3")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_rope_scaling_orig_ctx_len(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_tokenizer(writer, json.loads((source / "tokenizer.json").read_text(encoding="utf-8")), config["vocab_size"])
    arrays = dict(np.load(weights))
    norms = [arrays.pop(name) for name in sorted((name for name in arrays if name.startswith("norm.")), key=lambda name: int(name[5:]))]
    for name, matrix in arrays.items():
        part = next((part for part in NAMES if part in name), None)
        layer = name.partition("layers.")[2].partition(".")[0]
        for place in (f"blk.{layer}.{NAMES[part]}",) if part else ("token_embd", "output"):
            writer.add_tensor(f"{place}.weight", np.ascontiguousarray(matrix, np.float32))
    for at, norm in enumerate(norms[:-1]):
        writer.add_tensor(f"blk.{at // 2}.{NORMS[at % 2]}.weight", norm)
    writer.add_tensor("output_norm.weight", norms[-1])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: Any, description: dict[str, Any], size: int) -> None:
    added = {token["id"]: token["content"] for token in description["added_tokens"]}
    texts = {id: text for text, id in description["model"]["vocab"].items()} | added
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([texts.get(id, f"[unused {id}]") for id in range(size)])
    kinds = gguf.TokenType
    writer.add_token_types([kinds.CONTROL if id in added else kinds.NORMAL if id in texts else kinds.UNUSED for id in range(size)])
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in description["model"]["merges"]])
    ids = {text: id for id, text in added.items()}
    writer.add_eos_token_id(ids["<|end|>"])
    writer.add_eot_token_id(ids["<|end|>"])
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
