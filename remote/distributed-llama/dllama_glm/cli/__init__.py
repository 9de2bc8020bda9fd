"""The command line of `dllama`: one module per command."""
