"""A model on disk: where it is, how long its context is, which chat format it speaks. Reads small JSON files; loads nothing."""

import json
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


def models_folder() -> Path:
    """Where `phi-ls models` keeps what it fetched and converted, each in a folder of its name."""
    return cache_folder() / "models"


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
