"""What people and programs read: the report of a run as JSON, Markdown and on the terminal."""
