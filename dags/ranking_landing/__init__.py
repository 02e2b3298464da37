"""Has a day landed: as files, as rows of a table; and the sensor that waits for it."""
