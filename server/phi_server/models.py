"""`phi-ls models list`, `path`, `verify`, `remove`: the models that are known by name and the folders that are here.

Not here: fetching one (models_pull.py), converting one (models_convert.py). Those write beside the folder, into `NAME.part`, and rename it
when all is there: so what has its name is whole.
"""

import argparse
import json
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from phi_backends.errors import BadInput, ModelError
from phi_backends.model_folder import EMBEDDED, MADE_FOR, PART, compression, find, here, models_folder, read_json

_WEIGHTS = {"openvino": ("openvino_model.bin",), "onnx": ()}
_NOT_A_FILE_YET = b"version https://git-lfs"
"""What a file holds of which git has fetched no more than the pointer."""


@dataclass(frozen=True)
class Known:
    """An entry of models.toml."""

    name: str
    repository: str
    engine: str
    made_for: tuple[str, ...]
    gigabytes: float
    folder: str = ""


def catalogue() -> dict[str, Known]:
    entries = tomllib.loads((Path(__file__).parent / "models.toml").read_text(encoding="utf-8"))
    return {
        name: Known(name, entry["repository"], entry["engine"], tuple(entry["for"]), entry["gigabytes"], entry.get("folder", ""))
        for name, entry in entries.items()
    }


@dataclass(frozen=True)
class Report:
    """What a folder is."""

    path: str
    engines: tuple[str, ...]
    gigabytes: float
    context_tokens: int
    chat_format: str
    weights: str
    """How they are stored, where the folder says so; empty: not, or not compressed."""
    fit_for_npu: bool
    problems: tuple[str, ...]
    """A sentence for each thing that keeps it from running."""


def examine(path: Path) -> Report:
    """Looks at a folder without loading anything."""
    problems = []
    engines: tuple[str, ...] = tuple(engine for name, engine in MADE_FOR.items() if (path / name).is_file())
    context_tokens, chat_format = 0, ""
    if not engines:
        problems.append(_no_model(path))
    else:
        try:
            folder = find(str(path))
            context_tokens, chat_format = folder.context_tokens, folder.chat_format
        except ModelError as error:
            problems.append(str(error))
        needed = ["tokenizer.json", *(name for engine in engines for name in _weights_of(path, engine))]
        for name in needed:
            if problem := _problem(path / name):
                problems.append(f"{problem} Fetch or convert the model again.")
    weights, fit_for_npu = compression(path)
    return Report(
        path=str(path),
        engines=engines,
        gigabytes=round(sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e9, 3),
        context_tokens=context_tokens,
        chat_format=chat_format,
        weights=weights,
        fit_for_npu=fit_for_npu,
        problems=tuple(problems),
    )


def _no_model(path: Path) -> str:
    names = {file.name for file in path.iterdir()} if path.is_dir() else set()
    if any(name.endswith((".safetensors", "pytorch_model.bin")) for name in names):
        return f"These are the original weights. Convert them: phi-ls models convert {path} --format int4 --for cpu"
    if any(name.endswith(".gguf") for name in names):
        return "This is a model for llama.cpp. Start its server with it, and choose the engine remote with the server's url."
    below = sorted(file.parent.relative_to(path).as_posix() for name in MADE_FOR for file in path.glob(f"*/**/{name}"))
    if below:
        return f"The model is further down. Give one of these folders: {', '.join(below)}."
    return f"There is no model here: a folder for phi-ls holds {' or '.join(MADE_FOR)}."


def _weights_of(path: Path, engine: str) -> Sequence[str]:
    if engine != "onnx":
        return _WEIGHTS[engine]
    decoder = ((read_json(path / "genai_config.json") or {}).get("model") or {}).get("decoder") or {}
    name = str(decoder.get("filename", "model.onnx"))
    # Models over 2 GB keep their weights in a file of their own, which is named inside of the other alone.
    small = (path / name).is_file() and (path / name).stat().st_size < 20_000_000
    return (name, f"{name}.data") if small else (name,)


def _problem(file: Path) -> str:
    if not file.is_file():
        return f"{file.name} is missing."
    with file.open("rb") as content:
        start = content.read(len(_NOT_A_FILE_YET))
    if not start:
        return f"{file.name} is empty."
    if start == _NOT_A_FILE_YET:
        return f"{file.name} is the pointer that git stores in place of a large file."
    return ""


def path_of(name: str) -> Path:
    """The folder of a name or path. Raises BadInput when it is not here."""
    found = here().get(name) or Path(name).expanduser().absolute()
    if found.is_dir():
        return found
    if name in catalogue():
        raise BadInput(f"{name} is not here yet. Fetch it: phi-ls models pull {name}")
    raise BadInput(f'There is no model "{name}": neither a folder nor one of {", ".join(dict.fromkeys([*here(), *catalogue()]))}.')


def new_folder(name: str) -> Path:
    """Where a model of that name is to be. Raises BadInput when the name is no name, or taken."""
    if name == EMBEDDED or not name or Path(name).name != name or name.startswith(".") or name.endswith(PART):
        raise BadInput(f'"{name}" cannot be the name of a model: give letters, digits, dots and dashes.')
    folder = models_folder() / name
    if folder.exists():
        raise BadInput(f"{name} is here already, in {folder}. Remove it first: phi-ls models remove {name}")
    return folder


def add_commands(parser: argparse.ArgumentParser) -> None:
    from phi_server.models_convert import FORMATS, TARGETS

    actions = parser.add_subparsers(required=True, metavar="ACTION")

    def action(name: str, run: Any, help: str) -> argparse.ArgumentParser:
        added = actions.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        added.set_defaults(run_models=run)
        return added

    listing = action("list", _list, "the models that are here, and those that can be fetched by name")
    verifying = action("verify", _verify, "say what a model folder is, and what it lacks")
    for each in (listing, verifying):
        each.add_argument("--json", action="store_true", help="print one JSON object")
    pulling = action("pull", _pull, "fetch a model; a download that was broken off goes on where it was")
    converting = action("convert", _convert, "convert original weights, in an environment that has the tools for it")
    for each in (verifying, action("path", _path, "print the folder of a model"), action("remove", _remove, "delete a model"), pulling):
        each.add_argument("model", help="a name from `phi-ls models list`, or the path of a folder")
    converting.add_argument("source", help="a folder with the original weights, or a repository on the hub")
    converting.add_argument("--format", default="int4", choices=FORMATS, help="of the weights (default: int4)")
    converting.add_argument("--for", dest="target", default="cpu", choices=TARGETS, help="the device (default: cpu)")
    converting.add_argument("--group-size", type=int, metavar="N", help="weights that share a scale; -1: a channel (default: 128, npu: -1)")
    converting.add_argument("--name", help="of the model that is made (default: after the source)")
    converting.add_argument("--python", metavar="PATH", help="the Python of the environment that has the tools (default: this one)")


def _list(options: argparse.Namespace) -> int:
    found = {name: examine(path) for name, path in here().items()}
    known = catalogue()
    unfinished = [path.name.removesuffix(PART) for path in sorted(models_folder().glob(f"*{PART}"))] if models_folder().is_dir() else []
    if options.json:
        entries = {name: asdict(entry) for name, entry in known.items()}
        print(json.dumps({"here": {name: asdict(report) for name, report in found.items()}, "known": entries, "unfinished": unfinished}))
        return 0
    print("Here:")
    for name, report in found.items():
        state = f"broken: phi-ls models verify {name}" if report.problems else f"{report.context_tokens} tokens, {report.chat_format}"
        print(f"  {name:26} {report.gigabytes:6.2f} GB  {', '.join(report.engines):10} {report.weights or '-'}; {state}")
    print("\nCan be fetched (MIT licence): phi-ls models pull NAME")
    for name, entry in known.items():
        mark = "here" if name in found else "unfinished" if name in unfinished else ""
        print(f"  {name:26} {entry.gigabytes:6.2f} GB  {entry.engine:10} {', '.join(entry.made_for):10} {mark}".rstrip())
    return 0


def _path(options: argparse.Namespace) -> int:
    print(path_of(options.model))
    return 0


def _verify(options: argparse.Namespace) -> int:
    report = examine(path_of(options.model))
    if options.json:
        print(json.dumps(asdict(report)))
    else:
        npu = "; fit for the NPU" if report.fit_for_npu else ""
        rows = [
            ("Folder", f"{report.path}, {report.gigabytes:.2f} GB"),
            ("Engine", " or ".join(report.engines) or "none"),
            ("Weights", (report.weights or "the folder does not say how they are stored") + npu),
            ("Chat", f"format {report.chat_format}, {report.context_tokens} tokens of context" if report.chat_format else "unknown"),
            *(("Problem", problem) for problem in report.problems),
            ("Result", "broken: see above." if report.problems else "complete."),
        ]
        print("\n".join(f"{label:8} {text}" for label, text in rows))
    return 1 if report.problems else 0


def _remove(options: argparse.Namespace) -> int:
    folder = models_folder() / options.model
    part = folder.with_name(folder.name + PART)
    if Path(options.model).name != options.model or not (folder.is_dir() or part.is_dir()):
        raise BadInput(f'phi-ls has no model "{options.model}" of its own in {models_folder()}; what is elsewhere it does not delete.')
    for each in (folder, part):
        if each.is_dir():
            shutil.rmtree(each)
            print(f"Removed {each}")
    return 0


def _pull(options: argparse.Namespace) -> int:
    from phi_server.models_pull import pull

    print(pull(options.model))
    return 0


def _convert(options: argparse.Namespace) -> int:
    from phi_server.models_convert import convert

    print(convert(options.source, options.format, options.target, options.group_size, options.name, options.python))
    return 0
