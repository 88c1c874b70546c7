import subprocess
import sys

from phi_backends.memory import machine_bytes, peak_bytes


def test_the_peak_is_that_of_this_process_and_grows_with_what_it_holds() -> None:
    program = "from phi_backends.memory import peak_bytes; before = peak_bytes(); held = b'x' * 200_000_000; print(peak_bytes() - before)"
    grown = int(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
    assert 190_000_000 < grown < 250_000_000
    assert 5_000_000 < peak_bytes() < machine_bytes()
