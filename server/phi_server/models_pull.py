"""`phi-ls models pull`: a model from the hub, through huggingface_hub, which comes with the tokenizers and is imported here alone.

The files go into `NAME.part`, where a download that was broken off goes on the next time, at the byte where it was; when all are there and
their checksums right, the folder gets its name. Not through the package's snapshot_download: that (2.4.0) throws away what it has of a
file.
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from phi_backends.errors import BadInput, EngineError, EngineMissing, ModelError
from phi_backends.model_folder import MADE_FOR, PART, models_folder
from phi_server.models import Known, catalogue, examine, new_folder

NEEDED = ("*.json", "*.jinja", "*.xml", "*.bin", "*.onnx", "*.data", "LICENSE*", "NOTICE*")
"""Of a model's folder; the rest is for people."""
_SPARE_BYTES = 500_000_000
"""That a disk should keep free beside the model."""


def pull(name: str) -> Path:
    """Fetches the model and returns its folder. Raises BadInput, EngineError, ModelError."""
    known = catalogue().get(name)
    if known is None:
        raise BadInput(f'No model is known by the name "{name}". The names are: {", ".join(catalogue())}.')
    target = new_folder(name)
    part = target.with_name(target.name + PART)
    hub = _hub()
    revision, folder, files = _listing(hub, known)
    _check_disk(part, sum(file.size or 0 for file in files))
    print(f"Fetching {known.repository} ({sum(file.size or 0 for file in files) / 1e9:.2f} GB) into {part}", file=sys.stderr)
    for file in files:
        path = part / file.rfilename
        if not (path.is_file() and _is_right(path, file)):
            _fetch(hub, known, revision, file, path)
    report = examine(part / folder)
    if report.problems:
        raise ModelError(f"{known.repository} was fetched and cannot be used: {' '.join(report.problems)}")
    (part / folder).rename(target)
    shutil.rmtree(part, ignore_errors=True)
    return target


def _hub() -> Any:
    # Only these lines speak to the hub, and they tell it nothing about the user. Transfers go over plain HTTPS, which can go on.
    os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_IMPLICIT_TOKEN": os.environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")}
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise EngineMissing('The package huggingface_hub is not installed. Install it with: pip install "phi-ls[openvino]"') from error
    return huggingface_hub


def _listing(hub: Any, known: Known) -> tuple[str, str, Sequence[Any]]:
    """The revision, the model's folder in it, and the files that are needed."""
    try:
        info = hub.HfApi().model_info(known.repository, files_metadata=True)
    except Exception as error:
        raise _broken_off(error, known.name) from error
    if any(".." in PurePosixPath(file.rfilename).parts or file.rfilename.startswith("/") for file in info.siblings):
        raise ModelError(f"{known.repository} names files outside of itself; it is not what it should be.")
    folders = {str(PurePosixPath(file.rfilename).parent) for file in info.siblings if PurePosixPath(file.rfilename).name in MADE_FOR}
    fitting = sorted(folder for folder in folders if fnmatch("" if folder == "." else folder, known.folder))
    if len(fitting) != 1:
        raise ModelError(f'{known.repository} has {len(fitting)} folders "{known.folder}" with a model, not one. Update phi-ls.')
    parent = PurePosixPath(fitting[0])
    files = [file for file in info.siblings if (path := PurePosixPath(file.rfilename)).parent == parent and any(map(path.match, NEEDED))]
    return str(info.sha), fitting[0], files


def _check_disk(part: Path, needed_bytes: int) -> None:
    models_folder().mkdir(parents=True, exist_ok=True)
    there = sum(file.stat().st_size for file in part.rglob("*") if file.is_file()) if part.is_dir() else 0
    free = shutil.disk_usage(models_folder()).free
    if free < needed_bytes - there + _SPARE_BYTES:
        raise BadInput(
            f"The disk of {models_folder()} has {free / 1e9:.1f} GB free, and {(needed_bytes - there) / 1e9:.1f} GB are to be fetched. "
            "Make room."
        )


def _fetch(hub: Any, known: Known, revision: str, file: Any, path: Path) -> None:
    """One file, under its name when it is whole and right."""
    from huggingface_hub.file_download import http_get

    path.parent.mkdir(parents=True, exist_ok=True)
    begun = path.with_name(path.name + PART)
    url = hub.hf_hub_url(known.repository, file.rfilename, revision=revision)
    try:
        with begun.open("ab") as content:
            if content.tell() != file.size:
                http_get(url, content, resume_size=content.tell(), headers=hub.utils.build_hf_headers(), expected_size=file.size)
    except Exception as error:
        raise _broken_off(error, known.name) from error
    if not _is_right(begun, file):
        begun.unlink()
        raise ModelError(f"{file.rfilename} arrived damaged. Run the same command again.")
    begun.replace(path)


def _is_right(path: Path, file: Any) -> bool:
    """By its size and, where the hub tells one, its checksum."""
    if path.stat().st_size != file.size:
        return False
    if file.lfs is None:
        return True
    with path.open("rb") as content:
        return bool(hashlib.file_digest(content, "sha256").hexdigest() == file.lfs.sha256)


def _broken_off(error: Exception, name: str) -> EngineError:
    again = f"Run it again to go on: phi-ls models pull {name}"
    if isinstance(error, OSError) and error.errno == 28:
        return EngineError(f"The disk of {models_folder()} is full. Make room. {again}")
    return EngineError(
        f"The hub cannot be reached, or broke off ({type(error).__name__}). Is there a network, or a proxy to be set in HTTPS_PROXY? "
        f"{again}. Or fetch the repository on another machine and give the setting model its folder."
    )
