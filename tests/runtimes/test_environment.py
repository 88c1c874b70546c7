"""The environment of these tests: they would prove nothing about runtimes that are not there."""

import importlib.metadata

import pytest


@pytest.mark.parametrize("package", ["torch", "transformers", "optimum-intel", "openvino", "openvino-genai", "onnxruntime-genai"])
def test_each_runtime_is_installed(package: str) -> None:
    assert importlib.metadata.version(package)
