"""What a container starts: torchrun's agent around a phase, and one exit code out of it.

`python -m rlhf_trainer.launch` reads its arguments (`arguments`), finds its place among the nodes
(`topology`), runs the ranks (`agent`) and turns their ends into one verdict (`verdict`). What a
rank does, and which outcome it has, is left to `rlhf_trainer.__main__`.
"""
