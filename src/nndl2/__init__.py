"""The course's helpers, for notebooks written for the assignment."""
