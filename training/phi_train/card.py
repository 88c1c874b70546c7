"""MODEL_CARD.md, written from the numbers that `corpus` and `evaluate` left in the work folder: no figure here is typed by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from phi_train.corpus import HELD_OUT_PACKAGES, HELD_OUT_STDLIB, PACKAGE_CHARACTERS
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

Measured on the folder as it ships, through OpenVINO on a CPU, on packages kept out of training: {held_packages};
of the standard library {held_stdlib}. Training files of which more than half repeats held-out files
were dropped too; packages that resemble a held-out one (quart and flask, textual and rich) stayed.

**Next line.** The cursor stands in a line of code; right means that the rest of the line is the same to the character, white space at
the right aside. The heuristic copies what followed the longest earlier match (at least 10 characters) in the same file.

{next_line}

Either: the model or the heuristic is right, which no gate can exceed. Healing: the model starts again at the beginning of the word (and
the space before it) and must agree with what has been typed.

**Only when it is sure.** Lines whose probability P(line), the product of their tokens' probabilities, exceeds a threshold:

{gate}

**Bits per byte** on {documents} held-out documents: {int8:.3f} with the int8 weights that ship, {fp32:.3f} in fp32 before quantisation.
On the way: {curve}.

**Speed.** Median {milliseconds:.0f} ms a line, prompt included and nothing cached ({machine}).

## What it cannot do

- **It cannot explain code truthfully.** Asked for an explanation it writes a fluent sentence in the style of a docstring, mostly guessed
  from names. Over {explained} held-out functions its sentence shares {word_f1} of its words (F1) with the real docstring; repeating the
  function's name alone scores {echo_f1}.
- It knows no language but Python, does not follow instructions other than its three formats, and cannot hold a conversation.
- It sees at most {context} tokens, and nothing of other files.
- It may repeat names and idioms of the packages that it learnt from, invent attributes that do not exist, and write insecure code.
  Read what it proposes.

## Samples

Right, and not to be had by copying:

{good}

Wrong, though the model was surest:

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
a second; the learning rate fell from {decay:.1f} million tokens on, towards an end that was moved while it trained. `--tokens` sets
the total.
"""


def table(header: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])


def next_line_table(facts: dict[str, Any]) -> str:
    rows = []
    for label, row in (("line start and mid-line", facts["next_line"]), *facts["next_line_by_kind"].items()):
        shares = [row[key] for key in ("model", "model_without_healing", "copy_heuristic", "either", "model_where_nothing_to_copy")]
        rows.append([label, f"{row['cursors']:,}", *(f"{share:.3f}" for share in shares)])
    header = ["cursor", "cursors", "model", "model without healing", "copy heuristic", "either", "model, where there is nothing to copy"]
    return table(header, rows)


def completion(sample: dict[str, Any]) -> str:
    return f"`{sample['path']}`, P(line) {sample['probability']:.2f}\n\n```python\n{sample['before']}⟨{sample['model']}⟩\n```\n" + (
        "" if sample["model"].rstrip() == sample["truth"].rstrip() else f"The file says `{sample['truth'].strip()}`.\n"
    )


def explanation(sample: dict[str, Any]) -> str:
    return f"```python\n{sample['code'].rstrip()}\n```\n- model: {sample['said']}\n- docstring: {sample['docstring']}\n"


def write(work: Path, name: str, folder_bytes: int) -> str:
    facts = json.loads((work / "evaluation.json").read_text(encoding="utf-8"))
    corpus = json.loads((work / "corpus.json").read_text(encoding="utf-8"))
    training, preset = facts["training"], PRESETS[facts["training"]["preset"]]
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
        gate=table(
            ["P(line) above", "shown", "right when shown"],
            [[f"{r['threshold']:.1f}", f"{r['shown']:.1%}", f"{r['right']:.2f}"] for r in facts["gate"]],
        ),
        documents=facts["bits_per_byte"]["documents"],
        int8=facts["bits_per_byte"]["int8"],
        fp32=facts["bits_per_byte"]["fp32"],
        curve=", ".join(f"{m['bits_per_byte']:.3f} after {m['tokens'] / 1e6:.1f} M tokens" for m in marks),
        milliseconds=facts["milliseconds_a_line_median"],
        machine=facts["machine"],
        explained=facts["explanations"]["count"],
        word_f1=facts["explanations"]["word_f1"],
        echo_f1=facts["explanations"]["name_echo_word_f1"],
        good="\n".join(map(completion, facts["samples"]["good"])),
        bad="\n".join(map(completion, facts["samples"]["bad"])),
        explanations="\n".join(map(explanation, facts["explanations"]["samples"])),
        files=corpus["files"],
        most=PACKAGE_CHARACTERS / 1e6,
        megacharacters=corpus["characters"] / 1e6,
        packages=len(corpus["packages"]) - 1,
        rules=", ".join(f"{rule} ({count:,} files)" for count, rule in rules),
        decay=training["decay_from"] / 1e6,
        hours=training["seconds"] / 3600,
        speed=training["tokens"] / training["seconds"],
    )


def run(work: Path, folder: Path) -> None:
    """Writes MODEL_CARD.md into the work folder and into the model folder."""
    size = sum(f.stat().st_size for f in folder.iterdir() if f.name != "MODEL_CARD.md")
    (work / "MODEL_CARD.md").write_text(write(work, folder.name, size), encoding="utf-8")
    shutil.copy(work / "MODEL_CARD.md", folder)
    print(f"card: {folder / 'MODEL_CARD.md'}")
