"""File formats: each module turns the content of one program's files into the networks' layout."""
