"""The language server: documents, one file for each request, and the engine process behind them."""
