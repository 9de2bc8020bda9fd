"""Triton kernels: the half-layer operations on a card, and under triton's interpreter."""
