"""``python -m segbench``: the command line without the console script."""

from segbench.cli import main

if __name__ == "__main__":  # and not where a worker process imports it
    main(prog_name="segbench")
