"""The phases of RLHF: each module holds one, as a loop that reads like the paper's pseudocode."""
