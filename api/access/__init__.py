"""Who may look through the windows: people who are admins of the Fleet sign in with Forge, programs bring a token."""
