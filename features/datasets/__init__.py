"""One schema value a data set; standard library only, so that every image can read them."""
