"""`phi-ls stats`: what became of suggestions on this machine. Not here: how it is counted (statistics.py)."""

from dataclasses import asdict
from pathlib import Path

from phi_backends.cache_folder import cache_folder
from phi_server.statistics import Counts, read


def file() -> Path:
    """Where the numbers are kept."""
    return cache_folder() / "statistics.json"


def report(file: Path) -> list[dict[str, object]]:
    """A row for each model and language, the most shown first."""
    rows = sorted(read(file).items(), key=lambda row: -row[1].shown)
    return [{"model": model, "language": language_id, **asdict(counts)} for (model, language_id), counts in rows]


def to_text(file: Path) -> str:
    known = read(file)
    if not known:
        return f"No suggestions were counted yet. They will be in {file}, which never leaves this machine."
    total = Counts()
    for counts in known.values():
        total.add(counts)
    rows = [*sorted(known.items(), key=lambda row: -row[1].shown), (("all", ""), total)]
    lines = [f"{'model':24} {'language':16} {'shown':>7} {'accepted':>9} {'in part':>8} {'after 30 s':>11} {'after 5 min':>12}"]
    for (model, language_id), counts in rows:
        lines.append(
            f"{model:24.24} {language_id:16.16} {counts.shown:7} {_share(counts.accepted, counts.shown):>9} "
            f"{_share(counts.accepted_in_part, counts.shown):>8} {_share(counts.there_after_30_s, counts.looked_for_after_30_s):>11} "
            f"{_share(counts.there_after_5_min, counts.looked_for_after_5_min):>12}"
        )
    return "\n".join([*lines, "", f"Kept in {file}; no code is, and nothing of it is sent. Delete the file to begin anew."])


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"
