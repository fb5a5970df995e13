"""What each part of the training objective is worth: one network, one budget, several objectives, one linear probe.

    python -m benchmarks.lab.objectives FRAMES.parquet --steps 1500 [--split val]

Prints the ROC AUC of every `y_*` label beside the raw features and the untrained network.
"""

import argparse
from dataclasses import replace

from benchmarks.lab.probing import View, asked_for, trained
from model.training.loop import Training
from model.training.recipe import PRESETS


def main() -> None:
    options, frames, probe = asked_for(argparse.ArgumentParser(description=__doc__))

    def report(name: str, view: View) -> None:
        print(f"{name:<24}" + "".join(f"{one.auc:>16.3f}" for one in probe.scores(view).values()), flush=True)

    print(" " * 24 + "".join(f"{label:>16}" for label in frames.labels))
    report("raw features", probe.raw)
    recipe = replace(PRESETS["default"], steps=options.steps)
    report("untrained", probe.embeddings(Training(frames, recipe)))
    rivals = {
        "JEPA alone": replace(recipe, anchor=0.0, foresight=0.0, direction=0.0),
        "raw values alone": replace(recipe, prediction=0.0, foresight=0.0, direction=0.0),
        "and their direction": replace(recipe, prediction=0.0, foresight=0.0),
        "and the predictor": replace(recipe, foresight=0.0),
        "and foresight: recipe": recipe,
    }
    for name, changed in rivals.items():
        report(name, probe.embeddings(trained(frames, changed)))


if __name__ == "__main__":
    main()
