"""One module per kind of thing that the read API answers about."""
