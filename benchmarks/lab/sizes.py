"""What a larger network, or a token a group instead of one a row, is worth and costs: one recipe, one probe.

    python -m benchmarks.lab.sizes FRAMES.parquet [--steps 500] [--split val]

Prints, for each size, the ROC AUC of every `y_*` label, the rows/s of its training, and in the end those of its
target encoder through ONNX Runtime on one thread, all sizes in turn, so that other work meets all alike.
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnxruntime as ort

from app.inference.sessions import session_options
from benchmarks.lab.probing import asked_for, trained
from model.export.graphs import ServedEncoder
from model.export.tracing import Served, trace
from model.training.recipe import PRESETS

BATCHES = (1, 64)
DEFAULT = PRESETS["default"]
REFERENCE = replace(DEFAULT, encoder_depth=6, predictor_depth=4)
SIZES = {
    "default: 1 token, 256 × 3": DEFAULT,
    "reference: 1 token, 256 × 6": REFERENCE,
    "a token a group, 128 × 3": replace(DEFAULT, embed_dim=128, tokens="groups"),
    "a token a group, 256 × 3": replace(DEFAULT, tokens="groups"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, default=range(len(SIZES)), help="numbers of those to train")
    options, frames, probe = asked_for(parser)
    print(f"{'':30}" + "".join(f"{label:>16}" for label in frames.labels) + f"{'parameters':>16}{'rows/s':>16}")
    graphs = {}
    for number in options.sizes:
        name, recipe = [*SIZES.items()][number]
        recipe = replace(recipe, steps=options.steps)
        run = trained(frames, recipe)
        aucs = (score.auc for score in probe.scores(probe.embeddings(run.jepa)).values())
        count = sum(weight.numel() for weight in run.jepa.target_encoder.parameters())
        rate = recipe.steps * recipe.batch_size / run.checkpoint.summary.seconds
        print(f"{name:30}" + "".join(f"{auc:>16.3f}" for auc in aucs) + f"{count:>16,}{rate:>16,.0f}", flush=True)
        encoder = ServedEncoder(run.jepa.encoding, run.jepa.target_encoder, frames.schema)
        (graph,) = trace(Served(encoder, {"features": frames.features[:16]}, "embedding"))
        graphs[name] = graph.SerializeToString()
    print("\nrows/s of the target encoder, one thread, " + " and ".join(f"{n} rows a run" for n in BATCHES))
    for name, rates in speeds(graphs, frames.features[:64]).items():
        print(f"{name:30}" + "".join(f"{rate:>16,.0f}" for rate in rates))


def speeds(graphs: Mapping[str, bytes], rows: np.ndarray, rounds: int = 20) -> dict[str, list[float]]:
    sessions = {
        name: ort.InferenceSession(path, session_options(1), providers=["CPUExecutionProvider"])
        for name, path in graphs.items()
    }
    best = {(name, count): np.inf for name in graphs for count in BATCHES}
    for _ in range(rounds):
        for name, count in best:
            sessions[name].run(None, {"features": rows[:count]})
            started = time.thread_time()
            sessions[name].run(None, {"features": rows[:count]})
            best[name, count] = min(best[name, count], time.thread_time() - started)
    return {name: [count / best[name, count] for count in BATCHES] for name in graphs}


if __name__ == "__main__":
    main()
