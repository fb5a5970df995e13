"""How the project's optional packages get here: nothing of it is on a package index, so a clone is what installs it."""


def how_to_install(extra: str = "") -> str:
    """The end of a message about a package that is missing: the command that brings it, of the project or an extra."""
    target = f"'.[{extra}]'" if extra else "."
    return f"install it with: pip install -c constraints.txt -e {target}, in the folder that jepa-serve was cloned into"
