"""The maths of RLHF: tensors in, tensors out. No model, no engine, no I/O."""
