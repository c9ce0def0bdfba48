"""The specification of the kernels in products/."""
