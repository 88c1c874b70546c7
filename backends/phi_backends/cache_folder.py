"""Where phi-ls keeps what it can make again: the place that each system has for that, without a dependency."""

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """The user's cache folder of phi-ls; it may not exist yet."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "phi-ls" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "phi-ls"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "phi-ls"
