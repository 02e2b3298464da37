"""What a job is, and how it is started on Kubernetes; ``job`` and ``parent_run`` are light."""
