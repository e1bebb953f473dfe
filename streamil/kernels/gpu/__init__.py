"""Kernels for GPUs (Triton): one launch for a record of samples, a program for each member."""
