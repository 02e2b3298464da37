"""Labels that come later: their events in the lake, and which impression each belongs to."""
