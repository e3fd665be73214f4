"""Entry point of `python -m rlhf_trainer.launch`."""

import sys

from rlhf_trainer.launch.launcher import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
