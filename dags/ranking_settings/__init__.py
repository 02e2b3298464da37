"""The variables that the DAGs read, and what they know of each data set from its schema file."""
