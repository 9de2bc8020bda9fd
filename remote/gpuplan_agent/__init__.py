"""What the agent does on the machine, a module for each matter. Standard library only, Python 3.8 or newer."""
