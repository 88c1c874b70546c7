"""The table of engines: a new engine is one file here and one line below."""

from typing import Final

ENGINES: Final = {
    "openvino": "phi_backends.engines.openvino",
    "echo": "phi_backends.engines.echo",
}
"""Name → module with `load(folder, device, options, progress) -> Engine`. Modules are imported by the worker, when asked for."""
