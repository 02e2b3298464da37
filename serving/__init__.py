"""The endpoint: features from the online store, scores from the champion, over KServe."""
