"""``python -m segbench``: the command line without the console script."""

from segbench.cli import main

main(prog_name="segbench")
