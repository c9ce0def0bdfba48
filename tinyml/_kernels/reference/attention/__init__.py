"""The specification of the kernels in attention/."""
