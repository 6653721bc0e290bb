"""One pass over one tester: observe, plan and apply, step by step along the graph, to conditions, events and the next look."""
