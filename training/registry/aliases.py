"""Names in the registry that training and serving share; standard library only."""

CHAMPION, CHALLENGER, CANARY, SHADOW = "champion", "challenger", "canary", "shadow"
"""Aliases: the version that serves, the newest, the one with a share, the one in the shadow."""
PREVIOUS, ROLLED_BACK, VERDICT = "previous_champion", "rolled_back", "canary_verdict"
"""Tags of a version: the champion before it, why it was rolled back, and its canary's outcome."""
ANCHOR_DAYS = 28
"""The gate compares with the champion of so many days ago as well as with today's."""
