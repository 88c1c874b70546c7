"""The embedded model as its original weights were: a folder for transformers, in f32. optimum and intel-npu load it, converters take it.

The weights are those of the OpenVINO model, so that a test knows what a model of the same weights says elsewhere.
"""

import json
import re
import shutil
from pathlib import Path

import torch
from onnx_model import TOKENIZER_FILES, weights
from transformers import Phi3Config, Phi3ForCausalLM

NORMS = ("input_layernorm", "post_attention_layernorm")


def write_original_folder(source: Path, target: Path) -> None:
    """Makes of the OpenVINO folder `source` the folder `target` with config.json and model.safetensors."""
    config = Phi3Config.from_dict(json.loads((source / "config.json").read_text(encoding="utf-8")))
    matrices, norms = weights(source)
    state = {f"model.layers.{at // 2}.{NORMS[at % 2]}.weight": norm for at, norm in enumerate(norms[:-1])}
    state["model.norm.weight"] = norms[-1]
    for name, matrix in matrices.items():
        place = re.search(r"(layers\.\d+\.\w+\.\w+_proj)", name)
        state[f"model.{place[1]}.weight" if place else "model.embed_tokens.weight"] = matrix
    model = Phi3ForCausalLM(config).eval()
    unknown = model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in state.items()}, strict=False)
    assert not unknown.unexpected_keys, unknown
    assert unknown.missing_keys == ["lm_head.weight"], unknown  # which is the embedding
    model.tie_weights()
    model.save_pretrained(target)
    for name in (*TOKENIZER_FILES, "generation_config.json"):
        if (source / name).is_file():
            shutil.copy(source / name, target / name)
