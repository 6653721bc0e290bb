"""The language that admins write: models, loading, defaults, names, JSON Schema. Pure; imports nothing of ours."""
