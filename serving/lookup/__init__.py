"""The features of a request: users from the online store, items from memory."""
