"""How far numbers of one model lie apart that were computed in different ways."""

ROUNDING_NATS = 5e-5
"""Attention with a mask and without one, or with a cache, is computed by other kernels, in float32
over steep logits, and each kind of CPU rounds in its own way: 1.2e-5 was seen. A position that is
off by one changes log-probabilities of the sampler's test models by more than 0.01.
"""
