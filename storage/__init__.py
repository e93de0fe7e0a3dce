"""What a job is, what travels, and what is kept."""
