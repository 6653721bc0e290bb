"""What people outside are told: statuses of commits, comments on pull requests, letters and webhooks."""
