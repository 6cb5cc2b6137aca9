"""``python -m scheduler``: the same as ``pipeline scheduler``."""

import sys

from pipeline.cli import main

main(["scheduler", *sys.argv[1:]], prog_name="pipeline")
