"""Models that several of these tests load, each made once."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from phi_backends.model_folder import EMBEDDED_FOLDER


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model as original weights, in f32."""
    if not EMBEDDED_FOLDER.is_dir():
        pytest.skip("the embedded model is not in this checkout")
    from original_weights import write_original_folder

    folder = tmp_path_factory.mktemp("original") / "phi-ls-nano-original"
    write_original_folder(EMBEDDED_FOLDER, folder)
    return folder


@pytest.fixture(scope="session")
def exported(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in OpenVINO's form, in f32."""
    import warnings

    import torch
    from optimum.intel import OVModelForCausalLM

    folder = tmp_path_factory.mktemp("exported") / "phi-ls-nano-f32"
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = OVModelForCausalLM.from_pretrained(str(original), export=True, load_in_8bit=False, compile=False)
        model.save_pretrained(folder)
    for file in original.glob("*.j*"):
        if not (folder / file.name).exists():
            shutil.copy(file, folder)
    return folder
