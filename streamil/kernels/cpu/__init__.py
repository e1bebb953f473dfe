"""Kernels for one CPU core (numba): a record of samples in one call, each weight read as seldom as can be."""
