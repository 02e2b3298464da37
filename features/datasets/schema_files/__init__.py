"""Data sets as files: what a file may say, how it is read, where files are found."""
