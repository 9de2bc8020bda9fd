"""gpuplan's controller: reads a plan, rents machines, runs its steps, and leaves nothing running."""
