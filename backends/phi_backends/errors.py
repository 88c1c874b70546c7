"""The errors of phi-ls. Each message is one sentence, or two, that says what is wrong and how to mend it; it is shown as it is.

PhiError
├── BadInput       what the user gave cannot be used: no such file, no such device, an unknown setting
├── ModelError     the model folder is missing, incomplete or of another kind
├── EngineError    the runtime failed
│   ├── EngineMissing  the runtime's package is not installed
│   └── EngineFull     no room for another sequence
└── WorkerDied     the engine process ended while a request ran
"""


class PhiError(Exception):
    pass


class BadInput(PhiError):
    pass


class ModelError(PhiError):
    pass


class EngineError(PhiError):
    pass


class EngineMissing(EngineError):
    pass


class EngineFull(EngineError):
    pass


class WorkerDied(PhiError):
    pass


def in_one_line(error: Exception) -> str:
    """A runtime's message without its line breaks, which part a path from what is wrong with it, to stand in a sentence of ours."""
    return " ".join(str(error).split())[:300].rstrip(".!") or type(error).__name__
