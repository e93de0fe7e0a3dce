"""What a scoring's report says and shows, built in a process of its own."""
