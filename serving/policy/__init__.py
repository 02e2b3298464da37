"""What follows from what the monitors found: an alert, a way back, a new training, or nothing."""
