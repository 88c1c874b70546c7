"""The engine process, its client, and one file for each runtime."""

import sys

# `import openvino` sends an event to Google Analytics and leaves ~/intel/openvino_ga_cid behind (seen in 2026.4.1), from a forked process
# that can outlive ours. With its telemetry package absent it does not. This line runs before any module of ours imports a runtime.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
