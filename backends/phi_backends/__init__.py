"""The engine process, its client, and one file for each runtime."""
