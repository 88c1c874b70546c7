"""A checkpoint becomes a model folder: Hugging Face weights, proven equal, then OpenVINO IR with int8 weights.

Not here: what the folder is worth (`evaluate.py`) and what is said about it (`card.py`).
"""

# mypy: disable-error-code="no-untyped-call, import-untyped"
# torch, transformers and optimum are typed in part.
from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phi_train.model import PRESETS, Model, Preset, document_bias
from phi_train.tokenizer import END, ENDOFTEXT, load

SHIPPED = (
    "openvino_model.xml",
    "openvino_model.bin",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
LOGIT_TOLERANCE = 1e-3
"""Greatest difference of a logit, in fp32, between our forward pass and Hugging Face's; measured about 1e-5."""


def load_checkpoint(path: Path) -> Model:
    saved = torch.load(path, map_location="cpu")
    model = Model(PRESETS[saved["preset"]])
    model.load_state_dict(saved["model"])
    return model.eval()


def to_hugging_face(model: Model, end: int, endoftext: int) -> Any:
    """The same weights as `Phi3ForCausalLM`, in fp32."""
    from transformers import GenerationConfig, Phi3Config, Phi3ForCausalLM

    preset: Preset = model.preset
    config = Phi3Config(
        vocab_size=preset.vocabulary,
        hidden_size=preset.d,
        intermediate_size=preset.ff,
        num_hidden_layers=preset.layers,
        num_attention_heads=preset.heads,
        num_key_value_heads=preset.heads,
        max_position_embeddings=preset.context,
        original_max_position_embeddings=preset.context,
        rope_theta=preset.rope_theta,
        rms_norm_eps=preset.epsilon,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=endoftext,
    )
    weights: dict[str, Tensor] = {
        "model.embed_tokens.weight": model.embed_tokens,
        "lm_head.weight": model.embed_tokens,
        "model.norm.weight": model.norm.weight,
    }
    for name, parameter in model.layers.named_parameters():
        index, rest = name.removeprefix("_orig_mod.").split(".", 1)
        rest = rest.removesuffix(".weight")
        part = {"qkv_proj": "self_attn.", "o_proj": "self_attn.", "gate_up_proj": "mlp.", "down_proj": "mlp."}.get(rest, "")
        weights[f"model.layers.{index}.{part}{rest}.weight"] = parameter
    hugging_face: Any = Phi3ForCausalLM(config).eval()
    missing, unexpected = hugging_face.load_state_dict({name: weight.detach().clone() for name, weight in weights.items()}, strict=False)
    if missing or unexpected:
        raise ValueError(f"Phi3ForCausalLM has other parameters than this model: missing {missing}, unexpected {unexpected}.")
    hugging_face.tie_weights()
    hugging_face.generation_config = GenerationConfig(
        eos_token_id=[end, endoftext], pad_token_id=endoftext, do_sample=False, max_new_tokens=64
    )
    return hugging_face


@torch.no_grad()
def check_logits(model: Model, hugging_face: Any) -> float:
    """The greatest difference of a logit on 64 random tokens; an error when it is more than rounding."""
    tokens = torch.randint(0, model.preset.vocabulary, (1, 64), generator=torch.Generator().manual_seed(3))
    ours = model.logits(tokens, document_bias(torch.zeros_like(tokens), torch.float32))
    difference = float((ours - hugging_face(tokens).logits).abs().max())
    if difference > LOGIT_TOLERANCE:
        raise ValueError(f"Our logits differ from Phi3ForCausalLM's by {difference:.3g}; the conversion is wrong.")
    return difference


def run(work: Path, output: Path, int8: bool = True) -> None:
    """Writes the model folder `output`, whole or not at all: it is built beside and renamed."""
    from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig
    from transformers import PreTrainedTokenizerFast

    tokenizer = load(work)
    end, endoftext = tokenizer.token_to_id(END), tokenizer.token_to_id(ENDOFTEXT)
    model = load_checkpoint(work / "checkpoint.pt")
    hugging_face = to_hugging_face(model, end, endoftext)
    difference = check_logits(model, hugging_face)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        source, built = Path(folder, "hugging-face"), Path(folder, "openvino")
        hugging_face.save_pretrained(source)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(work / name, source)
        PreTrainedTokenizerFast.from_pretrained(source).save_pretrained(source)
        quantization = OVWeightQuantizationConfig(bits=8, sym=False) if int8 else None
        exported = OVModelForCausalLM.from_pretrained(
            source, export=True, compile=False, load_in_8bit=False, quantization_config=quantization
        )
        exported.save_pretrained(built)
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
            shutil.copy(source / name, built)
        fresh = output.with_name(f".{output.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        for name in SHIPPED:
            shutil.copy(built / name, fresh)
        shutil.copy(work / "NOTICE", fresh)
        if (work / "MODEL_CARD.md").exists():
            shutil.copy(work / "MODEL_CARD.md", fresh)
        replace(fresh, output)
    size = sum(f.stat().st_size for f in output.iterdir())
    print(json.dumps({"logit_difference": difference, "bytes": size, "files": sorted(f.name for f in output.iterdir())}))


def replace(fresh: Path, output: Path) -> None:
    old = output.with_name(f".{output.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if output.exists():
        output.rename(old)
    fresh.rename(output)
    shutil.rmtree(old, ignore_errors=True)
