"""What a job is, the lease that it takes, and how it is started; what names Kubernetes is heavy."""
