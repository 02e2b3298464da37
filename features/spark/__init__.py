"""The Spark session of every job, the tables that jobs write, and the folder where logs land."""
