"""What people start: the command line. It shows and asks; everything that is computed comes from `ridgeline.api`."""
