"""What the subcommands of `jepa` are, by topic, with an example or two of each."""

from typing import NamedTuple


class Command(NamedTuple):
    summary: str
    examples: tuple[str, ...]

    @property
    def epilog(self) -> str:
        """The examples, as help shows them: \\b keeps click from wrapping them."""
        return "\n".join(["\b", "Examples:", *(f"  {example}" for example in self.examples)])


TOPICS = {
    "Serve": {
        "serve": Command(
            "Serve models to bots over HTTP.",
            ("jepa serve", "jepa serve --models models --port 9000 --workers 2"),
        ),
        "bench": Command(
            "Load-test a running service.",
            ("jepa bench http://127.0.0.1:8000", "jepa bench http://127.0.0.1:8000 --bots 8"),
        ),
    },
    "Learn": {
        "data": Command(
            "Create training frames from replays, or by playing a game.",
            ("jepa data melee replays/ --out melee.parquet", "jepa data atari pong --out pong.parquet"),
        ),
        "train": Command(
            "Train on recorded games and export a bundle to serve.",
            (
                "jepa train melee.parquet --out models --name melee",
                "jepa train 'runs/*.csv' --out models --preset quick --exclude 'debug_*'",
                "jepa train --show-config --set learning_rate=1e-3 > recipe.toml",
            ),
        ),
        "heads": Command(
            "Fit heads: named questions about now and what comes.",
            (
                "jepa heads models/melee melee.parquet --labels 'y_*'",
                "jepa heads models/melee melee.parquet --label 'high = abs(own_y) > 2 and not own_on_ground'",
            ),
        ),
        "export": Command(
            "Export a training checkpoint as a bundle.",
            ("jepa export checkpoint.safetensors --out models --name mygame",),
        ),
        "import-edifice": Command(
            "Import the weights of Edifice's JEPA (Elixir) as a bundle.",
            ("jepa import-edifice encoder.safetensors predictor.safetensors --out models",),
        ),
    },
    "Look into data and bundles": {
        "inspect": Command(
            "Show what a bundle or a data set contains, and check it.",
            ("jepa inspect default", "jepa inspect melee.parquet"),
        ),
        "embed": Command(
            "Embed a data set with the service's inference engine.",
            ("jepa embed default melee.parquet --out embeddings.npy",),
        ),
        "eval": Command(
            "Compare embeddings with raw features and PCA by probing.",
            ("jepa eval models/melee melee.parquet",),
        ),
        "sample": Command(
            "Add frames to look at and a map to a bundle.",
            ("jepa sample models/melee melee.parquet --out models --first 600",),
        ),
        "report": Command(
            "Plot a bundle's training and one game, or two runs.",
            ("jepa report models/melee melee.parquet", "jepa report models/melee/1 models/melee/2"),
        ),
    },
}
COMMANDS = {name: command for topic in TOPICS.values() for name, command in topic.items()}
DATA_COMMANDS = {
    "melee": Command(
        "Convert Melee replays (.slp) to frames.",
        ("jepa data melee replays/ --out melee.parquet",),
    ),
    "atari": Command(
        "Record the memory of an Atari game played at random.",
        ("jepa data atari pong --out pong.parquet",),
    ),
}
