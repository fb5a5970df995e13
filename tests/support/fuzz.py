"""How long the tests that draw at random go on."""

import os

# The service would take the variable for a misspelt setting.
ROUNDS = int(os.environ.pop("JEPA_FUZZ_ROUNDS", "1"))
