"""What people's pages show, gathered from the books: one module per kind of page. Reads only."""
