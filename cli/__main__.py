"""`python -m cli` is `jepa`."""

from cli.main import main

main()
