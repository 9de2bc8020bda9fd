"""The user's own programs that reach others: git, gh and hf, each run as a process with a list of arguments."""
