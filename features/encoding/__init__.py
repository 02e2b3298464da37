"""From feature values to the inputs of a model, the same for training and serving."""
