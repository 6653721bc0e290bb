"""The world: one module per thing that we keep, all of the shape of `reconcilers.contract`."""
