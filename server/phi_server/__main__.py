"""`python -P -m phi_server` is `phi-ls`."""

from phi_server.cli import main

main()
