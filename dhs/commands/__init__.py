"""What stands behind every command: whatever is slow to import, the command itself imports."""
