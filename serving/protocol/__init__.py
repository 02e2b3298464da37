"""Requests, from the bytes on the wire to checked arrays, and the errors that refuse them."""
