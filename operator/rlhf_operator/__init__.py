"""The operator: the resource `RLHFRun`, the policy that drives it, and the command `rlhf`."""
