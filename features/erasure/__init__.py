"""A user is erased: what is theirs is found and removed, and a file says what was done."""
