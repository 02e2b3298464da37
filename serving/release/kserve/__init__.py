"""The same on a cluster, as changes of a KServe InferenceService."""
