"""`python -m headrace` is the `headrace` command."""

from headrace.console.cli import main

main()
