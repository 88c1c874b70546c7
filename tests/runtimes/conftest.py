"""Models that several of these tests load, each made once."""

from pathlib import Path

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
