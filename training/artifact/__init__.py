"""What is served: exported weights, the scorer, quantized tables, compiled code."""
