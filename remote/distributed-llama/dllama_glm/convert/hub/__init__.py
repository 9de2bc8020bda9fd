"""Converting straight from a Hugging Face hub: shards come one after the other, and none is kept."""
