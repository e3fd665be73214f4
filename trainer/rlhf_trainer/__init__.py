"""The trainer: what runs in the containers of an RLHF run, one phase at a time."""
