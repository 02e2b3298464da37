"""What the endpoint scored from, against what the lake says it should have: ``docs/parity.md``."""
