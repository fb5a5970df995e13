"""The `jepa` command, one module a subcommand."""
