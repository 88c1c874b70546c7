"""`phi-ls models convert`: the command lines of the two converters, run in an environment that has them.

Both are large (torch, transformers), want versions of their own and are used once: `--python` names an environment. OpenVINO's is given the
settings that suit Phi-3. The result is written beside its place, and gets its name when it is complete.

Nothing is converted for the engine intel-npu: it compresses the original weights each time it loads them, since its library cannot load
what it has saved; so it is given them as they are.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from phi_backends.errors import BadInput, EngineError, EngineMissing
from phi_backends.model_folder import PART
from phi_server.models import examine, new_folder

FORMATS = ("int4", "int8", "fp16")
TARGETS = ("cpu", "gpu", "npu", "directml", "intel-npu")
_INSTALL = "Make one, and name its Python with --python: python -m venv convert; convert/bin/pip install"


def convert(source: str, format: str, target: str, group_size: int | None, name: str | None, python: str | None) -> Path:
    """Converts and returns the folder. `python`: of the environment with the converter. Raises BadInput, EngineMissing, EngineError."""
    folder = new_folder(name or _name(source, format, target))
    part = folder.with_name(folder.name + PART)
    shutil.rmtree(part, ignore_errors=True)
    command = command_line(source, format, target, group_size, part, python or sys.executable)
    _check_tools(command)
    part.parent.mkdir(parents=True, exist_ok=True)
    print("Running: " + " ".join(command), file=sys.stderr)
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    if Path(source).is_dir():
        environment |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    # In the folder of the models, not the user's: the converters put the folder they are started in on their path.
    done = subprocess.run(command, cwd=part.parent, env=environment, stdout=sys.stderr, check=False)
    if done.returncode:
        shutil.rmtree(part, ignore_errors=True)
        raise EngineError(
            f"The converter failed (exit code {done.returncode}) and says why above. Killed without a word, it ran out of memory: "
            "a model takes about four bytes for each of its weights. A finished one can be fetched: phi-ls models list"
        )
    report = examine(part)
    if report.problems:
        raise EngineError(f"The converter ended without an error, and yet {part} cannot be used: {' '.join(report.problems)}")
    part.rename(folder)
    return folder


def command_line(source: str, format: str, target: str, group_size: int | None, output: Path, python: str) -> list[str]:
    """Raises BadInput for what the converters do not make."""
    where = str(Path(source).absolute()) if Path(source).is_dir() else source
    if target == "intel-npu":
        raise BadInput(
            "The engine intel-npu compresses original weights itself, each time it loads them, so there is nothing to convert: "
            f"phi-ls serve --engine intel-npu --model {where} --engine-option weights={format}"
        )
    if target == "directml":
        if format == "int8":
            raise BadInput("ONNX models for DirectML are int4 or fp16: choose one of them with --format.")
        given = "-i" if Path(source).is_dir() else "-m"
        cache = str(output.parent / ".cache")
        builder = [python, "-P", "-m", "onnxruntime_genai.models.builder", given, where, "-o", str(output), "-p", format, "-e", "dml"]
        return [*builder, "-c", cache, "--extra_options", "hf_remote=false"]  # it trusts code of the repository unless told not to
    if target == "npu" and format != "int4":
        raise BadInput("For the NPU, models are int4: choose --format int4.")
    tool = Path(python).parent / ("optimum-cli.exe" if os.name == "nt" else "optimum-cli")
    export = [str(tool), "export", "openvino", "--model", where, "--task", "text-generation-with-past"]
    export += ["--weight-format", format]
    if format == "int4":
        # The NPU wants all weights in 4 bits; by channel is what Intel publishes for it. Elsewhere 8 bits for 40 % keep quality.
        group = group_size if group_size is not None else -1 if target == "npu" else 128
        export += ["--group-size", str(group), "--ratio", "1.0" if target == "npu" else "0.6", "--sym"]
        export += ["--group-size-fallback", "adjust"]  # smaller groups where a matrix cannot be cut into these; Phi's all can
    return [*export, str(output)]


def _check_tools(command: list[str]) -> None:
    if not Path(command[0]).is_file():
        raise EngineMissing(f'{command[0]} is not there: this needs an environment with optimum-intel. {_INSTALL} "phi-ls[convert]"')
    if "onnxruntime_genai.models.builder" in command:
        found = subprocess.run(
            [command[0], "-P", "-c", "import onnxruntime_genai, torch, transformers, onnx_ir"], capture_output=True, check=False
        )
        if found.returncode:
            raise EngineMissing(
                f"{command[0]} lacks what ONNX Runtime GenAI's model builder needs. {_INSTALL} onnxruntime-genai torch onnx-ir "
                "'transformers>=5.5'"
            )


def _name(source: str, format: str, target: str) -> str:
    return re.sub(r"[^\w.-]+", "-", f"{Path(source).name.lower()}-{format}-{target}")
