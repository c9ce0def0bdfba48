"""The specification of the kernels in rows/."""
