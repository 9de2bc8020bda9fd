"""A Hugging Face checkpoint as the converter sees it: its configuration, its shards, and where each tensor lies."""
