"""Text to token ids and back, from a `.t` file alone."""
