"""Several controllers on one store: who works on which testers, and how each hears of what the others do."""
