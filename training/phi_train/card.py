"""MODEL_CARD.md, written from the numbers that `corpus` and `evaluate` left in the work folder: no figure here is typed by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from phi_train.corpus import CALIBRATION_PACKAGES, HELD_OUT_PACKAGES, HELD_OUT_STDLIB, PACKAGE_CHARACTERS
from phi_train.model import PRESETS

CARD = """# {name}

A language model of {parameters:.1f} million parameters with the architecture of Phi-3, trained from random values on Python source alone.
It completes Python lines inside phi-ls where no Phi model has been installed. It shares no weights with Microsoft's Phi models.

| | |
|---|---|
| architecture | `Phi3ForCausalLM`: width {d}, {layers} layers, {heads} heads, feed-forward {ff}, {context} positions, tied embeddings |
| tokenizer | byte-level BPE, {vocabulary:,} tokens, GPT-2's pattern |
| format | OpenVINO IR, int8 weights, {megabytes:.1f} MB in all |
| trained on | {tokens:.1f} million tokens ({steps:,} steps), two CPU cores |
| licence | Apache-2.0; the sources it learnt from are listed in NOTICE |

## How good it is

Measured on the folder as it ships, by the server's own code and the engine's own process on a CPU, on packages kept out of training:
{held_packages}; of the standard library {held_stdlib}. Training files of which more than half
repeats held-out files were dropped too; packages that resemble a held-out one (quart and flask, textual and rich) stayed.

**Next line.** The cursor stands in a line of code; right means that the rest of the line is the same to the character, white space at
the right aside. phi-ls shows the likelier of the model's line and a *copy*: what followed the longest match (at least 10 characters) of
the text before the cursor in the same file.

{next_line}

That is {ratio:.2f} times what copying alone gets right, {simple_ratio:.2f} times what the simple copy does. Simple copy: the same from the
text above the cursor alone, indentation counted as a match. Healing: the model starts again at the beginning of the word (and the space
before it) and must agree with what has been typed. Either: the model or the copy is right, which no choice between them can exceed.

**Only when it is likely.** While one types, phi-ls shows lines from a probability on: the setting `min_probability`,
{min_probability} by default. Then **{shown:.1%} of these cursors get a suggestion, and {right_when_shown:.1%} of those are right**;
inside a word {word_shown:.1%} and {word_right:.1%}. Without a model (none installed, or it is loading) copies alone are shown.

{gate}

A model's probability is the product of its tokens'; a copy's was fitted to {calibration_copies:,} copies in 13 packages that were neither
learnt from nor judged on here ({calibration}). Lines that a copy and the model agree on are likelier than either says.

**Bits per byte** on {documents} held-out documents: {int8:.3f} with the int8 weights that ship, {fp32:.3f} in fp32 before quantisation.
On the way: {curve}.

**int8** gets {int8_right:.1%} of {precision_cursors:,} lines right, the same weights in fp32 {fp32_right:.1%}:
{only_int8} are right with int8 alone, {only_fp32} with fp32 alone.

**Speed** ({machine}): median {warm_ms:.0f} ms to a whole line while one types, the prompt in the KV cache
but for the newest token; {cold_ms:.0f} ms with nothing cached; a copy takes {copy_ms:.1f} ms.

## What it cannot do

- **It cannot explain code truthfully.** Asked for an explanation it writes a fluent sentence in the style of a docstring, mostly guessed
  from names. Over {explained} held-out functions its sentence shares {word_f1:.3f} of its words (F1) with the real docstring; repeating
  the function's name alone scores {echo_f1:.3f} (standard error of the difference {echo_error:.3f}). So phi-ls shows an outline computed
  from the syntax, {sentence}.
- It knows no language but Python, does not follow instructions other than its three formats, and cannot hold a conversation.
- It sees at most {context} tokens, and nothing of other files.
- It may repeat names and idioms of the packages that it learnt from, invent attributes that do not exist, and write insecure code.
  Read what it proposes.

## Samples

Right, and not to be had by copying:

{good}

Wrong, though they were likeliest:

{bad}

Explanations, beside what the docstring says:

{explanations}

## Data

{files:,} files, {megacharacters:.0f} million characters of Python: CPython's standard library and {packages} packages whose own
metadata names MIT, BSD, Apache, PSF or an equally permissive licence (NOTICE lists each with version and licence). At most
{most:.0f} million characters of one package. Left out: {rules}.
The texts are windows of files with the lines below the cursor, and functions with their docstrings.

## Making it again

`python -m phi_train all --work FOLDER` with the folder `training` on `PYTHONPATH` and the extra `train` installed: it installs the pinned
packages (as text, never imported) and runs every stage. `--toy` shows all stages in two minutes; `--preset small` is meant for one GPU.
The {tokens:.1f} million tokens took {hours:.1f} hours on two CPU cores that were busy with other work, {speed:,.0f} tokens
a second; {decay}. `--tokens` sets the total.
"""


def table(header: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])


def next_line_table(facts: dict[str, Any]) -> str:
    rows = []
    for label, row in (("line start and mid-line", facts["next_line"]), *facts["next_line_by_kind"].items()):
        shares = [row[key] for key in ("right", "model", "model_without_healing", "copy", "simple_copy", "either")]
        rows.append([label, f"{row['cursors']:,}", *(f"{share:.3f}" for share in shares)])
    return table(["cursor", "cursors", "phi-ls", "model alone", "without healing", "copy alone", "simple copy", "either"], rows)


def gate_table(rows: list[dict[str, float]]) -> str:
    names = ("ships", "model", "copy")
    cells = [[f"{r['threshold']:.1f}", *(f"{r[n + '_shown']:.1%}, {r[n + '_right']:.2f}" for n in names)] for r in rows]
    return table(["from a probability of", "phi-ls: shown, right when shown", "model alone", "copy alone"], cells)


def completion(sample: dict[str, Any]) -> str:
    source = "copied" if sample["is_copy"] else "written"
    header = f"`{sample['path']}`, {source}, probability {sample['probability']:.2f}"
    text = f"{header}\n\n```python\n{sample['before']}⟨{sample['shown']}⟩\n```\n"
    return text if sample["shown"].rstrip() == sample["truth"].rstrip() else text + f"The file says `{sample['truth'].strip()}`.\n"


def beats_the_echo(explained: dict[str, Any]) -> bool:
    """Whether the model's sentences are worth showing: by more than two standard errors."""
    return bool(explained["word_f1"] - explained["name_echo_word_f1"] > 2 * (explained["gain_standard_error"] or 0.0))


def decay_of(training: dict[str, Any]) -> str:
    """When the learning rate fell: twice, where a model that was done was trained on."""
    spans = " and ".join(f"from {a / 1e6:.0f} to {b / 1e6:.0f}" for a, b in training["decays"])
    return f"the learning rate fell {spans} million tokens"


def explanation(sample: dict[str, Any]) -> str:
    return f"```python\n{sample['code'].rstrip()}\n```\n- model: {sample['said']}\n- docstring: {sample['docstring']}\n"


def write(work: Path, name: str, folder_bytes: int) -> str:
    facts = json.loads((work / "evaluation.json").read_text(encoding="utf-8"))
    corpus = json.loads((work / "corpus.json").read_text(encoding="utf-8"))
    timing = json.loads((work / "timing.json").read_text(encoding="utf-8"))
    calibration = json.loads((work / "calibration.json").read_text(encoding="utf-8"))
    training, preset = facts["training"], PRESETS[facts["training"]["preset"]]
    best, word, precision, explained = (
        facts["next_line"],
        facts["next_line_by_kind"]["inside a word"],
        facts["precision"],
        facts["explanations"],
    )
    curve = training["held_out_bits_per_byte"]
    marks = curve[:: max(1, len(curve) // 6)][:6] + curve[-1:]
    inside = 4 * preset.d * preset.d + 3 * preset.d * preset.ff
    rules = sorted(((count, rule) for rule, count in corpus["rules"].items() if rule != "kept"), reverse=True)
    return CARD.format(
        name=name,
        parameters=(preset.layers * inside + preset.vocabulary * preset.d) / 1e6,
        d=preset.d,
        layers=preset.layers,
        heads=preset.heads,
        ff=preset.ff,
        context=preset.context,
        vocabulary=preset.vocabulary,
        megabytes=folder_bytes / 1e6,
        tokens=training["tokens"] / 1e6,
        steps=training["steps"],
        held_packages=", ".join(HELD_OUT_PACKAGES),
        held_stdlib=", ".join(HELD_OUT_STDLIB),
        next_line=next_line_table(facts),
        ratio=best["right"] / max(best["copy"], 1e-9),
        simple_ratio=best["right"] / max(best["simple_copy"], 1e-9),
        min_probability=facts["min_probability"],
        shown=best["shown"],
        right_when_shown=best["right_when_shown"],
        word_shown=word["shown"],
        word_right=word["right_when_shown"],
        gate=gate_table(facts["gate"]),
        calibration_copies=calibration["copies"],
        calibration=", ".join(CALIBRATION_PACKAGES),
        int8_right=precision["int8"],
        fp32_right=precision["fp32"],
        precision_cursors=precision["cursors"],
        only_int8=precision["only_int8_right"],
        only_fp32=precision["only_fp32_right"],
        documents=facts["bits_per_byte"]["documents"],
        int8=facts["bits_per_byte"]["int8"],
        fp32=facts["bits_per_byte"]["fp32"],
        curve=", ".join(f"{m['bits_per_byte']:.3f} after {m['tokens'] / 1e6:.1f} M tokens" for m in marks),
        **{key: timing[key] for key in ("machine", "warm_ms", "cold_ms", "copy_ms")},
        explained=explained["count"],
        word_f1=explained["word_f1"],
        echo_f1=explained["name_echo_word_f1"],
        echo_error=explained["gain_standard_error"] or 0.0,
        sentence="and marks its sentence as a guess" if beats_the_echo(explained) else "and not its sentence",
        good="\n".join(map(completion, facts["samples"]["good"])),
        bad="\n".join(map(completion, facts["samples"]["bad"])),
        explanations="\n".join(map(explanation, facts["explanations"]["samples"])),
        files=corpus["files"],
        most=PACKAGE_CHARACTERS / 1e6,
        megacharacters=corpus["characters"] / 1e6,
        packages=len(corpus["packages"]) - 1,
        rules=", ".join(f"{rule} ({count:,} files)" for count, rule in rules),
        decay=decay_of(training),
        hours=training["seconds"] / 3600,
        speed=training["tokens"] / training["seconds"],
    )


def run(work: Path, folder: Path) -> None:
    """Writes MODEL_CARD.md into the work folder and into the model folder."""
    size = sum(f.stat().st_size for f in folder.iterdir() if f.name != "MODEL_CARD.md")
    (work / "MODEL_CARD.md").write_text(write(work, folder.name, size), encoding="utf-8")
    shutil.copy(work / "MODEL_CARD.md", folder)
    print(f"card: {folder / 'MODEL_CARD.md'}")
