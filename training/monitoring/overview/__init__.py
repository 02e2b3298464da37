"""One page of what all monitors found over some weeks, as the schedule's UI shows it."""
