"""The tests of Shunter, one folder per tier."""
