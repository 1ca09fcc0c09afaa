"""The command lines: the five steps, and what they share."""
