"""The command `rlhf`. Trainer work runs in subprocesses: nothing here imports torch."""
