"""`phi-ls models`: fetched from a hub on loopback, checked, converted by a stand-in for the converter. The converter itself needs torch; it
was run by hand."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from fake_hub import fake_hub

from phi_backends.engines import ENGINES
from phi_backends.errors import BadInput, EngineMissing
from phi_backends.model_folder import EMBEDDED_FOLDER, PART, find, here
from phi_server.models import catalogue, examine, new_folder
from phi_server.models_convert import command_line, convert

pytestmark = pytest.mark.skipif(not EMBEDDED_FOLDER.is_dir(), reason="the embedded model is not in this checkout")
NAME = "phi-3-mini-4k"
REPOSITORY = "OpenVINO/Phi-3-mini-4k-instruct-int4-ov"


class Run(NamedTuple):
    code: int
    out: str
    err: str


Phi = Callable[..., Run]


@pytest.fixture
def phi(tmp_path: Path) -> Phi:
    """Runs `phi-ls models …` with a cache of its own. `hub`: its address; by default there is none."""

    def run(*arguments: str, hub: str = "http://127.0.0.1:1") -> Run:
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("HF_")},
            "HF_ENDPOINT": hub,
            "HF_HOME": str(tmp_path / "hf"),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "LOCALAPPDATA": str(tmp_path / "cache"),
            "HOME": str(tmp_path),
        }
        command = [sys.executable, "-P", "-m", "phi_server", "models", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=120, check=False)
        return Run(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this process's models."""
    monkeypatch.setattr("phi_backends.model_folder.cache_folder", lambda: tmp_path)
    return tmp_path / "models"


def repository() -> dict[str, bytes]:
    """The embedded model in the shape of a published one, with weights that take more than one piece to fetch."""
    files = {path.name: path.read_bytes() for path in EMBEDDED_FOLDER.iterdir() if path.is_file()}
    return {**files, "openvino_model.bin": os.urandom(25_000_000), "README.md": b"for people", "picture.png": b"for people"}


def test_the_catalogue_names_what_there_can_be() -> None:
    known = catalogue()
    assert len(known) > 8
    for name, entry in known.items():
        assert new_folder(name).name == name
        assert entry.repository.count("/") == 1
        assert entry.engine in ENGINES
        assert set(entry.made_for) <= {"CPU", "GPU", "NPU", "DirectML"}
        assert 1 < entry.gigabytes < 10


def test_a_model_is_fetched_checked_and_used_by_its_name(phi: Phi) -> None:
    pytest.importorskip("huggingface_hub")
    with fake_hub(REPOSITORY, repository()) as hub:
        fetched = phi("pull", NAME, hub=hub.url)
        assert fetched.code == 0, fetched.err
        folder = Path(fetched.out.strip())
        assert {path.name for path in folder.iterdir()} == {name for name in hub.files if not name.endswith((".md", ".png"))}
        assert all(path.read_bytes() == hub.files[path.name] for path in folder.iterdir())
        assert hub.strangers == []
    assert not folder.with_name(NAME + PART).exists()
    assert phi("path", NAME).out.strip() == str(folder)
    assert "complete." in phi("verify", NAME).out
    assert NAME in json.loads(phi("list", "--json").out)["here"]
    again = phi("pull", NAME)
    assert (again.code, "is here already" in again.err) == (2, True)
    assert phi("remove", NAME).code == 0
    assert not folder.exists()


@pytest.mark.slow
def test_a_download_that_was_broken_off_never_looks_finished_and_goes_on_where_it_was(phi: Phi) -> None:
    pytest.importorskip("huggingface_hub")
    with fake_hub(REPOSITORY, repository()) as hub:
        hub.breaks_off = {"openvino_model.bin": 15_000_000}
        broken = phi("pull", NAME, hub=hub.url)
        assert broken.code == 2
        assert f"Run it again to go on: phi-ls models pull {NAME}" in broken.err
        listed = json.loads(phi("list", "--json").out)
        assert (NAME in listed["here"], listed["unfinished"]) == (False, [NAME])
        assert phi("path", NAME).code == 2
        hub.breaks_off = {}
        hub.asked.clear()
        assert phi("pull", NAME, hub=hub.url).code == 0
        ranges = dict(hub.asked)
        assert ranges["openvino_model.bin"].startswith("bytes=10485760-")
        assert "config.json" not in ranges


def test_what_arrives_damaged_is_not_kept(phi: Phi) -> None:
    pytest.importorskip("huggingface_hub")
    with fake_hub(REPOSITORY, repository()) as hub:
        hub.damages = {"openvino_model.bin"}
        damaged = phi("pull", NAME, hub=hub.url)
        assert damaged.code == 2
        assert "openvino_model.bin arrived damaged. Run the same command again." in damaged.err
        hub.damages = set()
        assert phi("pull", NAME, hub=hub.url).code == 0


def test_of_a_repository_with_several_models_one_is_fetched(phi: Phi) -> None:
    pytest.importorskip("huggingface_hub")
    config = {"model": {"context_length": 4096, "type": "phi3", "decoder": {"filename": "model.onnx", "hidden_size": 3072}}}
    model = {"genai_config.json": json.dumps(config).encode(), "model.onnx": b"graph", "model.onnx.data": b"weights"}
    model |= {name: (EMBEDDED_FOLDER / name).read_bytes() for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")}
    folders = (
        "cpu_and_mobile/cpu-int4-rtn-block-32",
        "directml/directml-int4-awq-block-128",
        "cpu_and_mobile/cpu-int4-rtn-block-32-acc-level-4",
    )
    files = {f"{folder}/{name}": content for folder in folders for name, content in model.items()} | {"README.md": b"for people"}
    with fake_hub("microsoft/Phi-3-mini-4k-instruct-onnx", files) as hub:
        fetched = phi("pull", "phi-3-mini-4k-onnx", hub=hub.url)
        assert fetched.code == 0, fetched.err
        assert {name.rpartition("/")[0] for name, _ in hub.asked} == {folders[2]}
        assert {path.name for path in Path(fetched.out.strip()).iterdir()} == set(model)
        del hub.files[f"{folders[1]}/genai_config.json"]
        assert "has 0 folders" in phi("pull", "phi-3-mini-4k-directml", hub=hub.url).err


def test_without_a_network_there_is_one_sentence(phi: Phi) -> None:
    pytest.importorskip("huggingface_hub")
    missing = phi("pull", NAME)
    assert missing.code == 2
    assert len(missing.err.strip().splitlines()) == 1
    assert "The hub cannot be reached" in missing.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["pull", "phi-9"], 'No model is known by the name "phi-9". The names are: phi-3-mini-4k,'),
        (["path", NAME], f"{NAME} is not here yet. Fetch it: phi-ls models pull {NAME}"),
        (["verify", "nothing"], 'There is no model "nothing": neither a folder nor one of embedded, phi-3-mini-4k,'),
        (["remove", "embedded"], 'phi-ls has no model "embedded" of its own'),
        (["remove", ".."], 'phi-ls has no model ".." of its own'),
        (["convert", "weights", "--for", "npu", "--format", "fp16"], "For the NPU, models are int4"),
        (["convert", "weights", "--name", "../x"], '"../x" cannot be the name of a model'),
    ],
)
def test_bad_input_gets_one_sentence(phi: Phi, arguments: list[str], complaint: str) -> None:
    refused = phi(*arguments)
    assert refused.code == 2
    assert complaint in refused.err
    assert len(refused.err.strip().splitlines()) == 1


def test_a_full_disk_is_seen_before_it_is_full(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from phi_server import models_pull

    monkeypatch.setattr(models_pull.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 5, 600_000_000))  # type: ignore[attr-defined]
    part = own_cache / f"x{PART}"
    models_pull._check_disk(part, 90_000_000)
    with pytest.raises(BadInput, match=r"has 0\.6 GB free, and 2\.0 GB are to be fetched"):
        models_pull._check_disk(part, 2_000_000_000)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return shutil.copytree(EMBEDDED_FOLDER, tmp_path / "model")


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda folder: (folder / "openvino_model.bin").unlink(), "openvino_model.bin is missing. Fetch or convert the model again."),
        (lambda folder: (folder / "openvino_model.bin").write_bytes(b""), "openvino_model.bin is empty."),
        (
            lambda folder: (folder / "openvino_model.bin").write_text("version https://git-lfs.github.com/spec/v1\n"),
            "openvino_model.bin is the pointer that git stores",
        ),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json is missing."),
        (lambda folder: (folder / "config.json").write_text("{"), 'config.json" cannot be read'),
        (
            lambda folder: (folder / "openvino_model.xml").rename(folder / "model.safetensors"),
            "original weights. Convert them: phi-ls models",
        ),
        (lambda folder: (folder / "openvino_model.xml").rename(folder / "model.gguf"), "a model for llama.cpp. Start its server"),
        (lambda folder: (folder / "openvino_model.xml").unlink(), "There is no model here"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_folder_lacks_is_said(copy: Path, harm: Callable[[Path], object], problem: str) -> None:
    harm(copy)
    assert problem in " ".join(examine(copy).problems)


def test_a_folder_above_the_model_is_pointed_down(copy: Path) -> None:
    below = copy.parent / "repository" / "cpu" / "int4"
    below.parent.mkdir(parents=True)
    copy.rename(below)
    assert examine(below.parents[1]).problems == ("The model is further down. Give one of these folders: cpu/int4.",)


def test_whether_the_npu_takes_a_model(copy: Path) -> None:
    def noted(mode: str, group_size: str, ratio: str) -> tuple[str, bool]:
        notes = f'<mode value="{mode}" /><group_size value="{group_size}" /><ratio value="{ratio}" />'
        (copy / "openvino_model.xml").write_text(f"<net><rt_info><weight_compression>{notes}</weight_compression></rt_info></net>")
        report = examine(copy)
        return report.weights, report.fit_for_npu

    assert noted("int4_sym", "-1", "1.0") == ("int4_sym, by channel, 100% of the weights", True)
    assert noted("int4_sym", "128", "1.0") == ("int4_sym, groups of 128, 100% of the weights", True)
    assert noted("int4_sym", "128", "0.6") == ("int4_sym, groups of 128, 60% of the weights", False)
    assert noted("int4_asym", "128", "1.0")[1] is False
    assert noted("int8_asym", "-1", "1.0") == ("int8_asym", False)


def test_a_name_is_found_before_a_folder_of_the_workspace(own_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(EMBEDDED_FOLDER, own_cache / "mine")
    (tmp_path / "workspace" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "workspace")
    assert find("mine").path == own_cache / "mine"


EXPORT = ["export", "openvino", "--model", "org/model", "--task", "text-generation-with-past", "--weight-format"]


ADJUST = ("--group-size-fallback", "adjust")


@pytest.mark.parametrize(
    ("format", "target", "group_size", "expected"),
    [
        (
            "int4",
            "cpu",
            None,
            [*EXPORT, "int4", "--group-size", "128", "--ratio", "0.6", "--sym", *ADJUST, "out"],
        ),
        ("int4", "gpu", 64, [*EXPORT, "int4", "--group-size", "64", "--ratio", "0.6", "--sym", *ADJUST, "out"]),
        ("int4", "npu", None, [*EXPORT, "int4", "--group-size", "-1", "--ratio", "1.0", "--sym", *ADJUST, "out"]),
        ("int4", "npu", 128, [*EXPORT, "int4", "--group-size", "128", "--ratio", "1.0", "--sym", *ADJUST, "out"]),
        ("int8", "gpu", None, [*EXPORT, "int8", "out"]),
        ("fp16", "cpu", None, [*EXPORT, "fp16", "out"]),
    ],
)
def test_the_command_line_of_openvinos_converter(format: str, target: str, group_size: int | None, expected: list[str]) -> None:
    tool, *arguments = command_line("org/model", format, target, group_size, Path("out"), str(Path("env", "bin", "python")))
    assert Path(tool).stem == "optimum-cli"
    assert Path(tool).parent == Path("env", "bin")
    assert arguments == expected


def test_the_command_line_of_the_onnx_builder() -> None:
    arguments = command_line("org/model", "int4", "directml", None, Path("out"), "python")
    assert arguments[:6] == ["python", "-P", "-m", "onnxruntime_genai.models.builder", "-m", "org/model"]
    assert arguments[6:12] == ["-o", "out", "-p", "int4", "-e", "dml"]
    assert arguments[-2:] == ["--extra_options", "hf_remote=false"]
    with pytest.raises(BadInput, match="int4 or fp16"):
        command_line("org/model", "int8", "directml", None, Path("out"), "python")


def _stand_in(folder: Path, script: str) -> str:
    """An environment whose optimum-cli is `script`; `$last` is the folder that it is to write."""
    if os.name == "nt":
        pytest.skip("the stand-in for the converter is a shell script")
    tool = folder / "bin" / "optimum-cli"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\nfor last; do :; done\n{script}\n")
    tool.chmod(0o755)
    return str(tool.parent / "python")


def test_a_conversion_gets_its_name_when_it_is_complete(own_cache: Path, tmp_path: Path) -> None:
    python = _stand_in(tmp_path, f'cp -r "{EMBEDDED_FOLDER}" "$last"')
    folder = convert("org/Some-Phi", "int4", "cpu", None, None, python)
    assert folder == own_cache / "some-phi-int4-cpu"
    assert examine(folder).problems == ()
    with pytest.raises(BadInput, match="is here already"):
        convert("org/Some-Phi", "int4", "cpu", None, None, python)


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ('mkdir "$last"; exit 3', r"The converter failed \(exit code 3\)"),
        ('mkdir "$last"', r"ended without an error, and yet .* cannot be used: There is no model here"),
    ],
)
def test_a_conversion_that_fails_leaves_nothing_that_looks_finished(own_cache: Path, tmp_path: Path, script: str, complaint: str) -> None:
    from phi_backends.errors import EngineError

    with pytest.raises(EngineError, match=complaint):
        convert("org/phi", "int8", "cpu", None, "mine", _stand_in(tmp_path, script))
    assert "mine" not in here()


def test_an_environment_without_the_converter_is_told_how_to_make_one(own_cache: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineMissing, match=r'with optimum-intel\. .*pip install "phi-ls\[convert\]"'):
        convert("org/phi", "int8", "cpu", None, None, str(tmp_path / "python"))
    with pytest.raises(EngineMissing, match="model builder"):
        convert("org/phi", "int4", "directml", None, None, sys.executable)


def test_models_are_shown_in_columns(phi: Phi) -> None:
    lines = phi("list").out.splitlines()
    assert lines[0] == "Here:"
    assert any(line.split()[:1] == ["phi-3-mini-4k-npu"] and line.split()[-1] == "NPU" for line in lines)
