"""The quality of what was served: by labels that have come, and estimated before they have."""
