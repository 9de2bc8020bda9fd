"""Turning checkpoint values into the blocks of a `.m` file."""
