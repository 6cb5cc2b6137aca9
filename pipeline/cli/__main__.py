"""``python -m pipeline.cli``: the same as the program ``pipeline``, wherever that was installed."""

from pipeline.cli import main

main(prog_name="pipeline")
