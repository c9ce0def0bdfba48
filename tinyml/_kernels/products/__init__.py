"""Matrix products and convolutions, of floats and of integers: the Python that calls them, the kernels, their tiles."""
