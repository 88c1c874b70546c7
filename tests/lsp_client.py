"""The client of the end-to-end tests, under a short name."""

from phi_server.lsp_client import LspClient, LspError

__all__ = ["LspClient", "LspError"]
