"""The jobs of a day: ingest, build, join as of a moment, materialize, prune."""
