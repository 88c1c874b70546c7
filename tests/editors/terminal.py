"""A terminal that an editor runs in: keys go in, and what it writes is kept, for a picture of it."""

import os
import pty
import signal
import struct
import subprocess
import termios
import threading
from fcntl import ioctl
from pathlib import Path

ROWS, COLUMNS = 32, 110


class Terminal:
    def __init__(self, command: list[str], env: dict[str, str], cwd: Path) -> None:
        self._master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self._process = subprocess.Popen(command, env=env, cwd=cwd, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        self.written = b""
        """All that the editor has written, control sequences included."""
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def process(self) -> int:
        return self._process.pid

    def keys(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        os.close(self._master)

    def _read(self) -> None:
        try:
            while data := os.read(self._master, 65536):
                self.written += data
        except OSError:
            pass  # the editor has ended
