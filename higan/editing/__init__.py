"""Steps 4 and 5: moved codes, their pictures and files."""
