"""The machine's memory, and what this process has used of it, by each system's own way of telling. Standard library only."""

import os
import sys
from pathlib import Path


def machine_bytes() -> int:
    """What is built into the machine."""
    if sys.platform != "win32":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    import ctypes

    kilobytes = ctypes.c_ulonglong()
    ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes))
    return kilobytes.value * 1024


def peak_bytes() -> int:
    """The most that this process has had in memory at a time, model files that are mapped into it included. 0: not known."""
    if sys.platform == "win32":
        return _windows_peak_bytes()
    if sys.platform == "linux":  # getrusage would tell the most that the process had before it became this program, too
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return next((1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS


def _windows_peak_bytes() -> int:
    if sys.platform != "win32":
        return 0
    import ctypes

    class Counters(ctypes.Structure):
        _fields_ = (
            ("size", ctypes.c_ulong),
            ("page_faults", ctypes.c_ulong),
            ("peak_working_set", ctypes.c_size_t),
            ("rest", ctypes.c_size_t * 7),
        )

    counters = Counters(size=ctypes.sizeof(Counters))
    kernel = ctypes.windll.kernel32
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    process = ctypes.c_void_p(kernel.GetCurrentProcess())
    return counters.peak_working_set if kernel.K32GetProcessMemoryInfo(process, ctypes.byref(counters), counters.size) else 0
