"""The engine process, its client, and one file for each runtime."""

import os
import sys

# `import openvino` sends an event to Google Analytics and leaves ~/intel/openvino_ga_cid behind (seen in 2026.4.1), from a forked process
# that can outlive ours. With its telemetry package absent it does not. This line runs before any module of ours imports a runtime.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
# ONNX Runtime 1.32 and its GenAI 0.18 begin to upload with the first model, on Linux too, and leave a device id and two databases in
# ~/.cache/Microsoft/DeveloperTools. With this they start no uploader and write nothing; 0.14.1 for DirectML has no uploader.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
