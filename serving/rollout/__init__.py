"""The endpoint on Kubernetes: what KServe is asked for, and how a new model takes over."""
