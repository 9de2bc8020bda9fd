"""Several processes or hosts as one model: who keeps what, how they find each other, how they add up."""
