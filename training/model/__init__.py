"""Wukong and the baselines: layers, cost, and growth."""
