"""The two files that a model becomes: `.m` (weights) and `.t` (tokenizer)."""
