"""Running a `.m` model: weights, operations, the forward pass, and text made from it."""
