"""Phi-3 prompts as pure functions: no I/O, no protocol, no process."""
