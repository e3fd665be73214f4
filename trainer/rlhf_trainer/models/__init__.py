"""The networks of RLHF, around models of transformers."""
