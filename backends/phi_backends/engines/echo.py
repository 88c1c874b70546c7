"""An engine without a model: for demos of an editor set-up, for tests and for bug reports. Deterministic and immediate.

It answers with the option `reply`, or else with the last line of the prompt that has text in it. Its tokens are characters, so
everything around the model (budgets, caches, streaming, cancelling) does the same work as with a real one.

Options: `reply` (text), `ms_per_token` (each token of prompt or answer takes so long; default 0), `context_tokens` (default 4096),
`templates` (`phi3` or `small`).
"""

import time
from collections.abc import Sequence

from phi_backends.engine import EngineInfo, Options, Progress, Token
from phi_backends.errors import BadInput, EngineError

END = 0x110000
"""Control tokens have ids beyond Unicode's; this one ends an answer."""
