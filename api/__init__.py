"""The windows: command line, read API, page, demo. They ask through controller.queries and change nothing themselves."""
