"""The screen, the keys and the mouse of a program with windows: a client of the VNC server that Qt has in itself, so that neither an X
server nor a window manager is needed. Not here: what is on the screen (its picture is for people).
"""

import socket
import struct
import threading
import time
import zlib
from pathlib import Path

SIZE = (1000, 800)
NAMED = {"\n": 0xFF0D, "\t": 0xFF09, "\x1b": 0xFF1B, "\b": 0xFF08}
DOWN, END, ENTER, CONTROL, ALT = 0xFF54, 0xFF57, 0xFF0D, 0xFFE3, 0xFFE9
_A_CURSOR = 100
"""Pixels that blink, at most."""
_RAW = 0
_COLOURS = struct.pack(">BBBBHHHBBBxxx", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)


class Screen:
    """Raises ConnectionError when there is no server at that port, or not yet."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._stream = self._socket.makefile("rb")
        self._stream.read(12)
        self._socket.sendall(b"RFB 003.003\n")
        self._stream.read(4)
        self._socket.sendall(b"\1")
        self._width, self._height = struct.unpack(">HH", self._stream.read(4))
        self._stream.read(16)
        self._stream.read(*struct.unpack(">I", self._stream.read(4)))
        self._socket.sendall(struct.pack(">Bxxx", 0) + _COLOURS + struct.pack(">BxHi", 2, 1, _RAW))
        self._lock = threading.Lock()

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def key(self, key: int, *held: int) -> None:
        """Presses a key, by its X11 number, while others are held."""
        pressed = [(each, 1) for each in (*held, key)] + [(each, 0) for each in (key, *reversed(held))]
        self._socket.sendall(b"".join(struct.pack(">BBxxI", 4, down, each) for each, down in pressed))

    def type(self, text: str) -> None:
        for character in text:
            self.key(NAMED.get(character, ord(character)))

    def click(self, x: int, y: int) -> None:
        self._socket.sendall(b"".join(struct.pack(">BBHH", 5, button, x, y) for button in (0, 1, 0)))

    def pixels(self) -> bytes:
        """Four bytes each: blue, green, red, and one more."""
        pixels = bytearray(4 * self._width * self._height)
        with self._lock:
            self._socket.sendall(struct.pack(">BBHHHH", 3, 0, 0, 0, self._width, self._height))
            while (kind := self._stream.read(1)[0]) != 0:  # a bell, or what somebody has cut
                if kind == 3:
                    self._stream.read(*struct.unpack(">xxxI", self._stream.read(7)))
            (rectangles,) = struct.unpack(">xH", self._stream.read(3))
            for _ in range(rectangles):
                x, y, width, height, encoding = struct.unpack(">HHHHi", self._stream.read(12))
                assert encoding == _RAW
                for row in range(y, y + height):
                    start = 4 * (row * self._width + x)
                    pixels[start : start + 4 * width] = self._stream.read(4 * width)
        return bytes(pixels)

    def settled(self) -> bytes:
        """The pixels when nothing has moved for a second: what was typed before has been shown."""
        since, before = time.monotonic(), self.pixels()
        while time.monotonic() - since < 1:
            time.sleep(0.2)
            after = self.pixels()
            if differing(before, after) > _A_CURSOR:
                since = time.monotonic()
            before = after
        return before

    def picture(self, path: Path) -> None:
        """A PNG."""
        pixels, rows = self.pixels(), bytearray()
        for start in range(0, len(pixels), 4 * self._width):
            row = pixels[start : start + 4 * self._width]
            colours = bytearray(3 * self._width)
            colours[0::3], colours[1::3], colours[2::3] = row[2::4], row[1::4], row[0::4]
            rows += b"\0" + colours
        header = struct.pack(">IIBBBBB", self._width, self._height, 8, 2, 0, 0, 0)
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
        parts = [struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks]
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def differing(one: bytes, other: bytes) -> int:
    """How many pixels differ between two screens."""
    return sum(one[at : at + 4] != other[at : at + 4] for at in range(0, len(one), 4))
