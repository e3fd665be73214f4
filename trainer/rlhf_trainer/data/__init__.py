"""The data of RLHF: read, validated, split, tokenised, stored and dealt out.

Importing this package costs nothing; torch and transformers are loaded where tokens are made.
"""
