"""What a job is, and how it is started on Kubernetes; only ``job`` is light to import."""
