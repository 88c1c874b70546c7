"""A model on disk: where it is, how long its context is, which chat format it speaks. Reads small JSON files; loads nothing."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phi_backends.cache_folder import cache_folder
from phi_backends.engine import EngineInfo
from phi_backends.errors import ModelError
from phi_prompts.chat import UnknownChatFormat, detect

EMBEDDED = "embedded"
"""The name of the model that ships with phi-ls."""
EMBEDDED_FOLDER = Path(__file__).parent / "models" / "phi-ls-nano"
"""Its folder; a checkout without it still has the echo engine."""
MADE_FOR = {"openvino_model.xml": "openvino", "genai_config.json": "onnx"}
"""A file that tells for which engine a model folder was made."""
ORIGINAL_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Files of which a folder with a model's original weights holds one: what optimum and intel-npu load, and what is converted."""
PART = ".part"
"""Behind the name of a folder in `models_folder` that is not finished."""
SMALL_MODEL_BYTES = 100_000_000
"""A model with fewer bytes is left on the CPU, which reads them in 3 ms: a GPU has little to gain and has to be woken."""
_NOTES_BYTES = 65_536


def models_folder() -> Path:
    """Where `phi-ls models` keeps what it fetched and converted, each in a folder of its name."""
    return cache_folder() / "models"


def here() -> dict[str, Path]:
    """The finished folders, by name: the embedded model and what `phi-ls models` has made."""
    folders = {EMBEDDED: EMBEDDED_FOLDER} if EMBEDDED_FOLDER.is_dir() else {}
    if models_folder().is_dir():
        folders |= {
            path.name: path for path in sorted(models_folder().iterdir()) if path.is_dir() and path.suffix != PART and path.name[0] != "."
        }
    return folders


@dataclass(frozen=True)
class ModelFolder:
    path: Path
    name: str
    context_tokens: int
    chat_format: str
    """A name in phi_prompts.chat.FORMATS."""
    templates: str
    """A folder of phi_prompts/templates."""
    engines: tuple[str, ...]
    """Those that it was made for, most often one."""

    @property
    def bytes(self) -> int:
        """All its files together, most of which are weights."""
        return sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())

    def trained_tokens(self) -> int:
        """How much context the model was trained for. Models with a longer, rescaled one change the scale of all positions when they pass
        the original length, which makes a KV cache filled before that worthless: they are used up to that length."""
        config = read_json(self.path / "config.json") or {}
        return min(self.context_tokens, config.get("original_max_position_embeddings") or self.context_tokens)

    def in_use(self, engine: str, device: str, reason: str, context_tokens: int) -> EngineInfo:
        """What an engine says of itself that runs this model on that device."""
        return EngineInfo(engine, self.name, device, reason, context_tokens, self.chat_format, self.templates)


def find(model: str) -> ModelFolder:
    """The model of that name or path. Raises ModelError when there is none, or when it is no model folder."""
    path = EMBEDDED_FOLDER if model == EMBEDDED else Path(model).expanduser().absolute()
    if model and Path(model).name == model and (models_folder() / model).is_dir():
        path = models_folder() / model
    if not path.is_dir():
        if model == EMBEDDED:
            raise ModelError(
                "This copy of phi-ls comes without the embedded model. Choose a model: a folder, or a name from `phi-ls models list`."
            )
        raise ModelError(
            f'There is no model folder "{model}". Give the path of one, a name from `phi-ls models list`, or "{EMBEDDED}" for the model '
            "that ships with phi-ls."
        )
    context, width = _sizes(path)
    if not isinstance(context, int) or context < 64:
        raise ModelError(f'The JSON files in "{path}" give no usable length of context ({context!r}). Fetch or convert the model again.')
    try:
        chat_format = detect(_chat_template(path), _bos_token(path))
    except UnknownChatFormat as error:
        raise ModelError(f'"{path}" cannot be spoken to: {error}') from error
    return ModelFolder(
        path=path,
        name=path.name,
        context_tokens=context,
        chat_format=chat_format.name,
        templates="small" if width < 1024 else "phi3",
        engines=tuple(engine for name, engine in MADE_FOR.items() if (path / name).is_file()),
    )


def compression(path: Path) -> tuple[str, bool]:
    """How OpenVINO's converter stored the weights, which it notes at the end of the model, and whether the NPU takes them: 4 bits
    throughout, symmetric, by channel or in groups of 128."""
    model = path / "openvino_model.xml"
    if not model.is_file():
        return "", False
    with model.open("rb") as content:
        content.seek(max(0, model.stat().st_size - _NOTES_BYTES))
        notes = content.read().decode(errors="replace").rpartition("<weight_compression>")[2]
    noted = dict(re.findall(r'<(mode|group_size|ratio) value="([^"]*)"', notes))
    mode, group, ratio = noted.get("mode", ""), noted.get("group_size", ""), noted.get("ratio", "")
    if not mode.startswith("int4"):
        return mode, False
    groups = "by channel" if group == "-1" else f"groups of {group}"
    return f"{mode}, {groups}, {float(ratio):.0%} of the weights", mode == "int4_sym" and float(ratio) == 1 and group in ("-1", "128")


def has_original_weights(path: Path) -> bool:
    return any((path / name).is_file() for name in ORIGINAL_WEIGHTS)


def _sizes(path: Path) -> tuple[Any, int]:
    """The context, in tokens, and the width of the model."""
    if (genai := read_json(path / "genai_config.json")) is not None:  # folders for ONNX Runtime GenAI may have no other
        model = genai.get("model") or {}
        return model.get("context_length"), int(model.get("decoder", {}).get("hidden_size", 0))
    if (config := read_json(path / "config.json")) is not None:
        return config.get("max_position_embeddings"), int(config.get("hidden_size", 0))
    raise ModelError(
        f'"{path}" holds neither config.json nor genai_config.json, as model folders for OpenVINO and ONNX Runtime GenAI do. '
        "Fetch or convert the model again."
    )


def _chat_template(path: Path) -> str:
    """The Jinja text that says how the model was trained to chat; newer exports keep it in a file of its own."""
    own_file = path / "chat_template.jinja"
    if own_file.is_file():
        return own_file.read_text(encoding="utf-8")
    template = (read_json(path / "tokenizer_config.json") or {}).get("chat_template", "")
    if isinstance(template, list):  # several named templates: [{"name": "default", "template": …}, …]
        template = next((entry["template"] for entry in template if entry.get("name") == "default"), "")
    return str(template)


def _bos_token(path: Path) -> str:
    token = (read_json(path / "tokenizer_config.json") or {}).get("bos_token") or ""
    return str(token["content"] if isinstance(token, dict) else token)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, None where there is no file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelError(f'"{path}" cannot be read ({error}). Fetch or convert the model again.') from error
    if not isinstance(value, dict):
        raise ModelError(f'"{path}" holds no JSON object. Fetch or convert the model again.')
    return value
