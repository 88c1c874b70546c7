"""A model on disk: where it is, how long its context is, which chat format it speaks. Reads small JSON files; loads nothing."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phi_backends.errors import ModelError
from phi_prompts.chat import UnknownChatFormat, detect

EMBEDDED = "embedded"
"""The name of the model that ships with phi-ls."""
EMBEDDED_FOLDER = Path(__file__).parent / "models" / "phi-ls-nano"
"""Its folder; a checkout without it still has the echo engine."""


@dataclass(frozen=True)
class ModelFolder:
    path: Path
    name: str
    context_tokens: int
    chat_format: str
    """A name in phi_prompts.chat.FORMATS."""
    templates: str
    """A folder of phi_prompts/templates."""


def find(model: str) -> ModelFolder:
    """The model of that name or path. Raises ModelError when there is none, or when it is no model folder."""
    path = EMBEDDED_FOLDER if model == EMBEDDED else Path(model).expanduser().absolute()
    if not path.is_dir():
        raise ModelError(f'There is no model folder "{model}". Give the path of one, or "{EMBEDDED}" for the model that ships with phi-ls.')
    config = _json(path / "config.json")
    if config is None:
        raise ModelError(
            f'"{path}" holds no config.json, as model folders written by `optimum-cli export openvino` do. Convert the model again.'
        )
    context = config.get("max_position_embeddings")
    if not isinstance(context, int) or context < 64:
        raise ModelError(f'config.json in "{path}" gives no usable max_position_embeddings ({context!r}). Convert the model again.')
    try:
        chat_format = detect(_chat_template(path), _bos_token(path))
    except UnknownChatFormat as error:
        raise ModelError(f'"{path}" cannot be spoken to: {error}') from error
    return ModelFolder(
        path=path,
        name=path.name,
        context_tokens=context,
        chat_format=chat_format.name,
        templates="small" if int(config.get("hidden_size", 0)) < 1024 else "phi3",
    )


def _chat_template(path: Path) -> str:
    """The Jinja text that says how the model was trained to chat; newer exports keep it in a file of its own."""
    own_file = path / "chat_template.jinja"
    if own_file.is_file():
        return own_file.read_text(encoding="utf-8")
    template = (_json(path / "tokenizer_config.json") or {}).get("chat_template", "")
    if isinstance(template, list):  # several named templates: [{"name": "default", "template": …}, …]
        template = next((entry["template"] for entry in template if entry.get("name") == "default"), "")
    return str(template)


def _bos_token(path: Path) -> str:
    token = (_json(path / "tokenizer_config.json") or {}).get("bos_token") or ""
    return str(token["content"] if isinstance(token, dict) else token)


def _json(path: Path) -> dict[str, Any] | None:
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
