"""Sampling from the policy, behind one protocol, and the experience that PPO learns from."""
