"""Finding a model on disk: what is said when it is not there."""

from pathlib import Path

import pytest

from phi_backends import model_folder
from phi_backends.errors import ModelError


def test_a_copy_without_the_embedded_model_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(model_folder, "EMBEDDED_FOLDER", tmp_path / "none")
    with pytest.raises(ModelError, match="without the embedded model"):
        model_folder.find(model_folder.EMBEDDED)
