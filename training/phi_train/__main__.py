"""Command line: `python -m phi_train {corpus,tokenizer,rows,train,export,onnx,calibrate,evaluate,timing,card,all} --work FOLDER`."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

STAGES = ("corpus", "tokenizer", "rows", "train", "export", "onnx", "calibrate", "evaluate", "timing", "card")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m phi_train", description="Trains the embedded model of phi-ls from nothing but Python source."
    )
    parser.add_argument("stage", choices=[*STAGES, "all"])
    parser.add_argument("--work", type=Path, required=True, help="folder outside the repository for the corpus, rows and checkpoints")
    parser.add_argument("--output", type=Path, help="model folder that export writes (default: WORK/model)")
    parser.add_argument("--preset", default="nano", help="model.PRESETS: nano, small, ...")
    parser.add_argument("--tokens", type=int, default=80_000_000, help="training tokens in all; the decay ends there")
    parser.add_argument("--tokens-a-step", type=int, default=16_384)
    parser.add_argument("--tokens-a-pass", type=int, default=4_096)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--toy", action="store_true", help="every stage in two minutes on part of the standard library; learns next to nothing"
    )
    return parser.parse_args()


def main() -> None:
    options = parse()
    work: Path = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    output: Path = (options.output or work / "model").resolve()
    if options.toy:
        options.preset, options.tokens, options.tokens_a_step, options.tokens_a_pass = "toy", 400_000, 4_096, 4_096
    for stage in STAGES if options.stage == "all" else (options.stage,):
        run_stage(stage, options, work, output)


def run_stage(stage: str, options: argparse.Namespace, work: Path, output: Path) -> None:
    # Each stage imports what it needs when it runs: the corpus can be gathered without torch.
    folder = Path(__file__).resolve().parent.parent
    if stage == "corpus":
        from phi_train import corpus

        corpus.run(work, folder, options.toy)
        return
    from phi_train.model import PRESETS

    preset = PRESETS[options.preset]
    if stage == "tokenizer":
        from phi_train import tokenizer

        tokenizer.run(work, preset.vocabulary, preset.context)
    elif stage == "rows":
        from phi_train import rows

        rows.run(work, preset.context)
    elif stage == "train":
        from phi_train import train

        train.run(work, options.preset, train.plan_for(options.tokens, options.tokens_a_step, options.tokens_a_pass), options.workers)
    elif stage == "export":
        from phi_train import export

        export.run(work, output)
    elif stage == "onnx":
        from phi_train import onnx_folder

        shutil.rmtree(work / "model-onnx", ignore_errors=True)
        onnx_folder.write_onnx_folder(output, work / "model-onnx")
    elif stage == "calibrate":
        from phi_train import calibrate

        calibrate.run(work, output, toy=options.toy)
    elif stage == "evaluate":
        from phi_train import evaluate

        evaluate.run(work, output, toy=options.toy)
    elif stage == "timing":
        from phi_train import evaluate

        evaluate.time_lines(work, output, toy=options.toy)
    elif stage == "card":
        from phi_train import card

        card.run(work, output)


if __name__ == "__main__":
    main()
