"""The command line of the quarantine, on top of its checks."""
