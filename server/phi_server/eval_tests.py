"""Runs a program that a model has written a part of: in a process of its own, for a short time, with little memory and no network.

The fences are: an isolated interpreter in an empty folder with an empty environment; limits of the system on time, memory, files and
processes, where the system has them; an audit hook that refuses sockets, processes, foreign libraries and opening files for writing; and
on Linux, where users may, a network namespace without a network. They hold back what a model writes by accident, which is what is meant:
they are no prison for code that wants out.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache

MEMORY_BYTES = 1 << 30
TIMEOUT_S = 8.0
_GUARD = """
import sys
try:
    import resource
    def limit(kind, most):
        if hasattr(resource, kind):
            number = getattr(resource, kind)
            _, hard = resource.getrlimit(number)
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(number, (most, most))
    limit("RLIMIT_CPU", {cpu_s}); limit("RLIMIT_AS", {memory}); limit("RLIMIT_FSIZE", 1 << 20); limit("RLIMIT_CORE", 0)
    limit("RLIMIT_NOFILE", 64)
except ImportError:
    pass
REFUSED = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.kill", "os.remove", "os.rmdir",
           "os.rename", "os.chmod", "os.link", "os.symlink", "os.mkdir", "os.truncate", "os.putenv", "shutil.", "ctypes.", "ftplib.",
           "http.", "urllib.", "smtplib.")
def hook(event, args):
    if event.startswith(REFUSED):
        raise PermissionError(event)
    if event == "open" and (args[1] is not None and set(str(args[1])) & set("wax+") or args[1] is None and (args[2] or 0) & 3):
        raise PermissionError("open for writing")
program = sys.stdin.read()
sys.stdin = None
import io
sys.stdout = sys.stderr = io.StringIO()
sys.addaudithook(hook)
exec(compile(program, "program", "exec"), {{"__name__": "__main__"}})
sys.__stdout__.write("passed {token}")
"""


def passes(program: str, timeout_s: float = TIMEOUT_S) -> bool:
    """Whether the Python program runs to its end without an error."""
    token = os.urandom(8).hex()  # a program that ends its process early has not passed
    guard = _GUARD.format(cpu_s=int(timeout_s) + 1, memory=MEMORY_BYTES, token=token)
    with tempfile.TemporaryDirectory(prefix="phi-ls-eval-") as folder:
        try:
            done = subprocess.run(
                [*_without_network(), sys.executable, "-I", "-S", "-B", "-c", guard],
                input=program.encode("utf-8", "surrogatepass"),
                capture_output=True,
                cwd=folder,
                env={"PATH": "", **({"SYSTEMROOT": os.environ["SYSTEMROOT"]} if "SYSTEMROOT" in os.environ else {})},
                timeout=timeout_s,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == 0 and done.stdout.decode(errors="replace").endswith(f"passed {token}")


@cache
def _without_network() -> tuple[str, ...]:
    """The command in front that takes the network away; empty where the system does not let us."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return ()
    command = (unshare, "--map-root-user", "--net", "--")
    try:
        works = subprocess.run([*command, sys.executable, "-c", ""], capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return command if works else ()
