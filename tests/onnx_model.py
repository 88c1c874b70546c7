"""The embedded model as an ONNX Runtime GenAI folder, for the tests. Its writer belongs to the training pipeline."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))

from phi_train.onnx_folder import TOKENIZER_FILES, weights, write_onnx_folder

__all__ = ["TOKENIZER_FILES", "weights", "write_onnx_folder"]
