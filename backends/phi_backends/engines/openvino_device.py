"""What both ways of running OpenVINO take and say: the options, the chosen device, the runtime's complaints in one line."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class OpenVinoOptions:
    """What `engine_options` may hold. 0 and the empty text leave the choice to phi-ls or OpenVINO."""

    threads: int = 0
    """On the CPU."""
    context_tokens: int = 0
    """Prompt and answer together; at most, and by default, what the model was trained for. On the NPU by default 1024, OpenVINO's own
    choice, for which the model is then compiled."""
    kv_tokens: int = 0
    """What the KV caches of all requests hold together; by default a share of the machine's memory."""
    kv_cache_precision: Literal["", "u8", "bf16", "f16", "f32"] = ""
    """OpenVINO's own choice is u8 on the CPU."""
    inference_precision: Literal["", "bf16", "f32"] = ""
    """f16 is not offered: with it, the paged attention of 2026.4.1 gives wrong logits on the CPU (off by 4 where they spread by 0.9)."""
    cache_dir: str = ""
    """The folder for compiled models, or `off`; by default the user's cache folder, and off on the CPU."""


@dataclass(frozen=True)
class Device:
    name: str
    reason: str
    """A clause that says why it was chosen."""


def what_it_says(error: Exception) -> str:
    """The first line in which OpenVINO says what is wrong: before it come the places in its source where it noticed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(("Exception from", "Check '")) and not line.endswith(":")]
    return (said or lines or [type(error).__name__])[0].rstrip(".!")
