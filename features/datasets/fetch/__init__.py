"""How the logs of the built-in data sets are got and landed; elsewhere a loader lands days."""
