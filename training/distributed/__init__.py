"""Devices, the split of a model over ranks, and how a rank fails."""
