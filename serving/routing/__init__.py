"""Which version answers a request, and which one shadows it."""
