"""How the project's optional packages get here: nothing of it is on a package index, so a clone is what installs it."""

import sys
from pathlib import Path

# What uv and pipx leave in an environment that they keep for one program, where a user's pip does not reach.
UV, PIPX = "uv-receipt.toml", "pipx_metadata.json"


def how_to_install(extra: str = "", *, client: str = "") -> str:
    """The end of a message about a package that is missing: the command that brings it, of the project or an extra, or
    of an extra of the client."""
    target, beside = f"'.[{extra}]'" if extra else ".", f"'./client[{client}]'"
    if (Path(sys.prefix) / UV).exists():
        # What is not named uv would take away again, and these commands need what training needs.
        command = "uv tool install --force " + (f"'.[train]' --with {beside}" if client else target)
    elif (Path(sys.prefix) / PIPX).exists():
        command = f"pipx inject jepa-serve {beside}" if client else f"pipx install --force {target}"
    else:
        command = "pip install " + (beside if client else f"-c constraints.txt -e {target}")
    return f"install it with: {command}, in the folder that jepa-serve was cloned into"
