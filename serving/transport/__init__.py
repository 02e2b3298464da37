"""HTTP and gRPC: routes, limits, and their OpenAPI description."""
