"""Whether the machine runs on battery, by each system's own way of telling. Where it does not tell, it does not."""

import asyncio
import logging
import subprocess
import sys
import time
from pathlib import Path

logger = logging.getLogger(__name__)

READ_AGAIN_S = 30.0
_LINUX = Path("/sys/class/power_supply")


class Battery:
    """Looked at every READ_AGAIN_S at most, in a thread: on some machines the question takes a tenth of a second."""

    def __init__(self) -> None:
        self._in_use = False
        self._read_at: float | None = None
        self._reading: asyncio.Future[None] | None = None

    @property
    def in_use(self) -> bool:
        """As it was when last looked at."""
        now = time.monotonic()
        if self._read_at is None or now - self._read_at > READ_AGAIN_S:
            self._read_at = now
            self._reading = asyncio.ensure_future(self._read())
        return self._in_use

    async def _read(self) -> None:
        try:
            self._in_use = await asyncio.to_thread(on_battery)
        except Exception:
            logger.warning("The power supply cannot be read.", exc_info=True)


def on_battery() -> bool:
    if sys.platform == "win32":
        return _windows()
    if sys.platform == "darwin":
        return "'Battery Power'" in subprocess.run(["pmset", "-g", "batt"], capture_output=True, text=True, timeout=5).stdout
    return linux(_LINUX)


def linux(supplies: Path) -> bool:
    """A battery that is emptied, and no other supply: a mouse's or a headset's battery is none of the machine's."""
    discharging = False
    for supply in supplies.glob("*"):
        kind, scope = _word(supply / "type"), _word(supply / "scope")
        if kind in ("Mains", "USB") and _word(supply / "online") == "1":
            return False
        discharging |= kind == "Battery" and scope != "Device" and _word(supply / "status") == "Discharging"
    return discharging


def _word(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _windows() -> bool:
    if sys.platform != "win32":
        return False
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = (
            ("line", ctypes.c_ubyte), ("battery_flag", ctypes.c_ubyte), ("percent", ctypes.c_ubyte), ("saver", ctypes.c_ubyte),
            ("left_s", ctypes.c_ulong), ("full_s", ctypes.c_ulong),
        )  # fmt: skip

    status = Status()
    return bool(ctypes.windll.kernel32.GetSystemPowerStatus(ctypes.byref(status))) and status.line == 0
