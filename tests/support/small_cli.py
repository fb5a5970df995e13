"""`python -m tests.support.small_cli`: the commands, and a preset of networks that train and export fast."""

from cli.main import main
from model.training.recipe import PRESETS, Recipe

SMALL = Recipe(
    steps=400, embed_dim=32, predictor_embed_dim=16, encoder_depth=1, predictor_depth=1, num_heads=4, dropout=0.0
)

if __name__ == "__main__":
    PRESETS["small"] = SMALL
    main()
