"""What a student need not read: studies, publishing, plans of large runs, and the preparation of data sets."""
